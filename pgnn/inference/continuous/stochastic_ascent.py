"""Steps of an optimiser on noisy values of a variational objective."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from pgnn.errors import PgnnError
from pgnn.inference.continuous.elbo import Objective
from pgnn.inference.continuous.variational_problem import VariationalProblem
from pgnn.inference.learning.minibatches import Steps
from pgnn.inference.loop import Info

WINDOW = 100
"""Fewest steps over which values are averaged; how often it is asked whether they still rise."""
_NOISE = 0.1
"""Largest standard error, in nats, of means that are compared to see whether they still rise."""


@dataclass(frozen=True, eq=False)
class AscentState:
    """Where the ascent is.

    Attributes:
        baseline: ``(G,)`` running mean of the values, of single draws that have no derivative.
        left: Rows that this pass has not come to.
    """

    baseline: Tensor | None = None
    left: Tensor | None = None


class StochasticAscent:
    """One step draws, differentiates and lets the optimiser move.

    Args:
        problem: What is approximated.
        objective: What is raised.
        parameters: What may move.
        steps: How; with the number of rows of a step.
        generator: Of draws and of the order of the rows.
        tolerance: Relative change of the mean at which to stop; 0 for never.
    """

    def __init__(
        self,
        problem: VariationalProblem,
        objective: Objective,
        parameters: Iterable[Tensor],
        steps: Steps,
        generator: torch.Generator,
        tolerance: float,
    ) -> None:
        self.problem, self.objective, self.steps = problem, objective, steps
        self.parameters = list(parameters)
        self.generator, self.tolerance = generator, tolerance
        self._values: list[float] = []
        self._flat = False
        self._active = problem.active

    def init(self) -> AscentState:
        """See :class:`Iterative`."""
        return AscentState()

    def step(self, state: AscentState) -> tuple[AscentState, Info]:
        """Take one step.

        Raises:
            PgnnError: If the value or a derivative is not finite; the variable is named.
        """
        rows, left = self._rows(state.left)
        optimizer = self.steps.optimizer
        optimizer.zero_grad(set_to_none=True)
        with torch.enable_grad():
            problem = self.problem.redrawn(self.generator)
            found = problem.weighted(self.objective, self.generator, rows)
            total = problem.total(found, self.objective, state.baseline)
            values = self.objective.combine(found.log_weights.detach())
            value = float((values * found.counts).sum())
            if not math.isfinite(value):
                raise self._diverged(value, problem.blame(found, rows))
            if total.requires_grad:
                total.neg().backward()  # type: ignore[no-untyped-call]
        self._check_slopes(value)
        optimizer.step()
        if self.steps.scheduler is not None:
            self.steps.scheduler.step()
        self._values.append(value)
        mean = values if state.baseline is None else 0.9 * state.baseline + 0.1 * values
        kept = None if left is not None and "shared" not in self.problem.parts else mean
        return AscentState(kept, left), Info(self._settled(), {"objective": value})

    def _rows(self, left: Tensor | None) -> tuple[Tensor | None, Tensor | None]:
        """The rows of a step; None for all. Rows left over that are too few are passed by."""
        size, active = self.steps.batch_size, self._active
        if size is None or size >= len(active):
            return (None if len(active) == self.problem.num_rows else active), None
        if left is None or len(left) < size:
            left = active[torch.randperm(len(active), generator=self.generator)]
        return left[:size], left[size:]

    def _check_slopes(self, value: float) -> None:
        slopes = [p.grad for p in self.parameters if p.grad is not None]
        if all(bool(torch.isfinite(g).all()) for g in slopes):
            norm = self.steps.max_norm
            if norm is not None and slopes:
                torch.nn.utils.clip_grad_norm_(self.parameters, norm)
            return
        raise self._diverged(value, "a derivative is not finite")

    def _diverged(self, value: float, why: str) -> PgnnError:
        return PgnnError(
            f"variational inference diverged in step {len(self._values) + 1}: the objective is "
            f"{value}, {why}; use a smaller learning rate, or a guide with a smaller scale"
        )

    def _settled(self) -> bool:
        """Whether the last quarter of the steps is no higher than the one before, twice."""
        number = len(self._values)
        if not self.tolerance or number < 2 * WINDOW or number % WINDOW:
            return False
        size = max(WINDOW, number // 4)
        quarters = np.array(self._values[-2 * size :]).reshape(2, size)
        before, last = quarters.mean(axis=1)
        error = np.sqrt(quarters.var(axis=1).sum() / size)
        least = self.tolerance * max(1.0, abs(last))
        # noise hides a rise: values that differ more than this are no evidence of rest
        flat = abs(last - before) <= least + error and error <= max(least, _NOISE)
        settled = self._flat and bool(flat)
        self._flat = bool(flat)
        return settled
