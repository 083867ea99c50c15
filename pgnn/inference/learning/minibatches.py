"""Maximisation by any of torch's optimisers, over small batches of rows in random order."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import count
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pgnn.errors import DataError, ModelError, PgnnError
from pgnn.evidence.row_evidence import RowEvidence
from pgnn.evidence.sequence_evidence import SequenceEvidence
from pgnn.factors.randomness import random_states, set_random_states
from pgnn.inference.learning.batched_rows import BatchedRows, weight_of
from pgnn.inference.learning.distributed_e_step import averaged, exchanged
from pgnn.inference.learning.optimisation_problem import (
    DrawingObjective,
    Mean,
    OptimisationProblem,
)
from pgnn.inference.loop import Info

MakeOptimizer = Callable[[Iterable[Tensor]], torch.optim.Optimizer]
MakeScheduler = Callable[[torch.optim.Optimizer], Any]


def adam(
    parameters: Iterable[Tensor], lr: float, betas: tuple[float, float] = (0.9, 0.999)
) -> torch.optim.Optimizer:
    """Return Adam whose step is one kernel, which on a CPU takes a third of the time.

    Args:
        parameters: Real tensors.
        lr: Length of the steps.
        betas: How slowly the means of derivatives and of their squares change.

    References:
        Kingma and Ba (2015), Adam: a method for stochastic optimization.
    """
    every = [*parameters]
    fused = {p.device.type for p in every} <= {"cpu", "cuda"}
    return torch.optim.Adam(every, lr=lr, betas=betas, fused=fused)


def clip(parameters: Iterable[Tensor], max_norm: float | None, max_value: float | None) -> None:
    """Cut derivatives off at an absolute value, then shorten their vector, in place."""
    every = [*parameters]
    if max_value is not None:
        torch.nn.utils.clip_grad_value_(every, max_value)
    if max_norm is not None:
        torch.nn.utils.clip_grad_norm_(every, max_norm)


def made_optimizer(make: MakeOptimizer, parameters: Iterable[Tensor]) -> torch.optim.Optimizer:
    """Return one of torch's optimisers that steps by gradients.

    Raises:
        ModelError: If it is none, or one that asks for the value again and again.
    """
    optimizer = make(parameters)
    if not isinstance(optimizer, torch.optim.Optimizer) or isinstance(optimizer, torch.optim.LBFGS):
        raise ModelError(
            "optimizer must make one of torch's optimisers of the parameters that steps by "
            f"gradients, such as lambda p: torch.optim.Adam(p, lr=0.05); it made {optimizer!r}"
        )
    return optimizer


def made_scheduler(make: MakeScheduler | None, optimizer: torch.optim.Optimizer) -> Any:
    """Return a learning rate scheduler; None without.

    Raises:
        ModelError: If it is none.
    """
    scheduler = None if make is None else make(optimizer)
    if scheduler is not None and not callable(getattr(scheduler, "step", None)):
        raise ModelError(
            "scheduler must make one of torch's learning rate schedulers of the optimiser, such "
            f"as lambda o: torch.optim.lr_scheduler.StepLR(o, 9); it made {scheduler!r}"
        )
    return scheduler


def next_rates(scheduler: Any, loss: float) -> None:
    """Step a scheduler after a pass, with what is minimised if it asks for that."""
    if isinstance(scheduler, torch.optim.lr_scheduler.ReduceLROnPlateau):
        scheduler.step(loss)
    elif scheduler is not None:
        scheduler.step()


@dataclass(frozen=True, eq=False)
class Steps:
    """How steps are taken.

    Attributes:
        optimizer: Takes them.
        scheduler: Stepped after each pass; none if not given.
        batch_size: Rows for a step; all if not given.
        max_norm: Gradients longer than this are shortened; none for never.
        max_value: Derivatives larger than this are cut off, before that; none for never.
        distributed: Whether a step is made of the batches of all processes.
    """

    optimizer: torch.optim.Optimizer
    scheduler: Any = None
    batch_size: int | None = None
    max_norm: float | None = None
    max_value: float | None = None
    distributed: bool = False


class MiniBatches:
    """One step is one pass over all rows.

    An L1 penalty enters through the one-sided derivatives of the absolute value, and a parameter
    that a step would carry through zero stops there: optima with zeros are kept whatever the
    optimiser's own step lengths are.

    Args:
        problem: What is maximised.
        steps: How.
        seed: Random seed of the order of the rows.

    References:
        Andrew and Gao (2007), Scalable training of L1-regularized log-linear models.
    """

    def __init__(self, problem: OptimisationProblem, steps: Steps, seed: int | None) -> None:
        self.problem, self.steps = problem, steps
        self.parameters = problem.learnable.parameters
        self._random = np.random.default_rng(seed)
        self._is_penalised = any(problem.l1) or any(problem.l2)

    def init(self) -> int:
        """Passes done."""
        return self.problem.record.iterations

    def snapshot(self) -> dict[str, Any]:
        """Return what :meth:`resume` takes: all that the next passes depend on."""
        scheduler, objective = self.steps.scheduler, self.problem.objective
        return {
            "numbers": self.problem.learnable.saved(),
            "optimizer": self.steps.optimizer.state_dict(),
            "scheduler": None if scheduler is None else scheduler.state_dict(),
            "order": self._random.bit_generator.state,
            "noise": random_states(),
            "draws": objective.random_state() if isinstance(objective, DrawingObjective) else None,
            "record": self.problem.record.snapshot(),
        }

    def resume(self, before: Mapping[str, Any]) -> None:
        """Go on from where the same fit was."""
        self.problem.learnable.restore(before["numbers"])
        self.steps.optimizer.load_state_dict(before["optimizer"])
        if self.steps.scheduler is not None:
            self.steps.scheduler.load_state_dict(before["scheduler"])
        self._random.bit_generator.state = before["order"]
        set_random_states(before["noise"])
        objective = self.problem.objective
        if isinstance(objective, DrawingObjective):
            objective.go_on(before["draws"])
        self.problem.record.resume(before["record"])

    def step(self, state: int) -> tuple[int, Info]:
        """One pass over the rows.

        Raises:
            DataError: If the value is not finite before anything was learned.
            PgnnError: If the value stops being finite later.
        """
        total, penalty, mass = 0.0, 0.0, 0.0
        gradients = [torch.zeros_like(p) for p in self.parameters]
        for mean, own_weight in self._batches():
            before = self._penalty() if self._is_penalised else 0.0
            value, weight = self._ascend(mean, state, own_weight, gradients)
            total += weight * value
            penalty += weight * before
            mass += weight
        if not all(bool(s.isfinite().all()) for s in gradients):
            raise _not_finite(total / mass, state)
        next_rates(self.steps.scheduler, -total / mass)
        gradient_norm = max(float((s / mass).abs().max()) for s in gradients if s.numel())
        self.problem.learnable.clear()
        figures = self.problem.figures(total / mass, penalty / mass, gradient_norm)
        stop = self.problem.record.add(figures)
        return state + 1, Info(stop or gradient_norm <= (self.problem.tolerance or 0.0), figures)

    def _batches(self) -> Iterator[tuple[Mean | None, float]]:
        """What returns the mean of each batch, and what it counts.

        None and nothing as long as other processes have more.
        """
        own, rows = self._own_batches(), self.problem.rows
        if not self.steps.distributed:
            yield from own
            return
        most = None if isinstance(rows, BatchedRows) else self._num_batches(rows)
        for _ in count() if most is None else range(most):
            mean, weight = next(own, (None, 0.0))
            if most is None and not any(exchanged(mean is not None)):
                return
            yield mean, weight

    def _num_batches(self, rows: RowEvidence | SequenceEvidence) -> int:
        """Steps of a pass, in the process that has most."""
        size = min(self.steps.batch_size or rows.num_rows, rows.num_rows)
        return int(max(exchanged(-(-rows.num_rows // size))))

    def _own_batches(self) -> Iterator[tuple[Mean | None, float]]:
        """The batches of this process's rows."""
        rows, objective = self.problem.rows, self.problem.objective
        if isinstance(rows, BatchedRows):
            for batch in rows:
                yield objective(batch), weight_of(batch)
            return
        size = self.steps.batch_size or rows.num_rows
        if size >= rows.num_rows:
            yield self.problem.whole, weight_of(rows)
            return
        order = self._random.permutation(rows.num_rows)
        for first in range(0, len(order), size):
            part = rows.take(np.sort(order[first : first + size]))
            yield objective(part), weight_of(part)

    def _ascend(
        self,
        mean: Callable[[], Tensor] | None,
        passes: int,
        weight: float,
        gradients: list[Tensor],
    ) -> tuple[float, float]:
        """One step on a batch, or batches of all processes; their value before, and their weight.

        Weighted derivatives go to the gradients.
        """
        self.problem.learnable.clear()
        number = 0.0
        if mean is not None:
            with torch.enable_grad():
                value = mean()
                (-value).backward()  # type: ignore[no-untyped-call]
            number = float(value.detach())
        if self.steps.distributed:
            number, weight = averaged(self.parameters, number, weight)
        # of a derivative that is not finite, the next value or the end of the pass tells
        if not math.isfinite(number):
            raise _not_finite(number, passes)
        signs = self._penalize() if self._is_penalised else []
        with torch.no_grad():
            pairs = [
                (s, p.grad)
                for s, p in zip(gradients, self.parameters, strict=True)
                if p.grad is not None
            ]
            if pairs:
                torch._foreach_add_(*map(list, zip(*pairs, strict=True)), alpha=weight)
        clip(self.parameters, self.steps.max_norm, self.steps.max_value)
        self.steps.optimizer.step()
        with torch.no_grad():
            for p, sign in zip(self.parameters, signs, strict=False):
                if sign is not None:
                    p[p.sign() * sign < 0] = 0.0
                    p[(sign == 0)] = 0.0
        return number, weight

    def _penalize(self) -> list[Tensor | None]:
        """Add the penalties' derivatives; signs that parameters with an L1 penalty may have."""
        signs: list[Tensor | None] = []
        with torch.no_grad():
            for p, l1, l2 in zip(self.parameters, self.problem.l1, self.problem.l2, strict=True):
                finite = torch.isfinite(p)
                gradient = torch.zeros_like(p) if p.grad is None else p.grad
                if l2:
                    gradient = gradient + l2 * p.masked_fill(~finite, 0.0)
                sign = None
                if l1:
                    at_zero = torch.where(
                        gradient.abs() > l1, -gradient.sign(), torch.zeros_like(p)
                    )
                    sign = torch.where(p == 0, at_zero, p.sign())
                    gradient = torch.where(sign == 0, torch.zeros_like(p), gradient + l1 * sign)
                    gradient = gradient.masked_fill(~finite, 0.0)
                p.grad = gradient
                signs.append(sign)
        return signs

    def _penalty(self) -> float:
        total = 0.0
        with torch.no_grad():
            for p, l1, l2 in zip(self.parameters, self.problem.l1, self.problem.l2, strict=True):
                p = p[torch.isfinite(p)]
                total += float(l1 * p.abs().sum() + 0.5 * l2 * p.square().sum())
        return total


def _not_finite(value: float, passes: int) -> PgnnError:
    if passes == 0 and math.isinf(value):
        return DataError(
            f"the rows have the value {value} under the starting parameters: some of them are "
            "impossible (tables with zeros)"
        )
    return PgnnError(
        f"the fit diverged in pass {passes + 1}: the value is {value} or a derivative is not "
        "finite; use a smaller learning rate, clip with max_norm, or penalise with l2"
    )
