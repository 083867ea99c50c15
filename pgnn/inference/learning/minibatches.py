"""Stochastic maximisation by torch optimisers over minibatches."""

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
from pgnn.inference.learning.mean_gradient import MeanGradient
from pgnn.inference.learning.optimisation_problem import (
    DrawingObjective,
    Mean,
    OptimisationProblem,
)
from pgnn.inference.loop import Info

MakeOptimizer = Callable[[Iterable[Tensor]], torch.optim.Optimizer]
MakeScheduler = Callable[[torch.optim.Optimizer], Any]

_AVERAGED = 32
"""Number of batches per pass whose gradients are averaged for the history, to save time."""


def adam(
    parameters: Iterable[Tensor], lr: float, betas: tuple[float, float] = (0.9, 0.999)
) -> torch.optim.Optimizer:
    """Return fused Adam, which takes a third of the time on a CPU.

    Args:
        parameters: Real tensors.
        lr: Learning rate.
        betas: Decay rates of the running means of gradients and of their squares.

    References:
        Kingma and Ba (2015), Adam: a method for stochastic optimization.
    """
    every = [*parameters]
    fused = {p.device.type for p in every} <= {"cpu", "cuda"}
    return torch.optim.Adam(every, lr=lr, betas=betas, fused=fused)


def clip(parameters: Iterable[Tensor], max_norm: float | None, max_value: float | None) -> None:
    """Clip gradients by value, then by norm, in place."""
    every = [*parameters]
    if max_value is not None:
        torch.nn.utils.clip_grad_value_(every, max_value)
    if max_norm is not None:
        torch.nn.utils.clip_grad_norm_(every, max_norm)


def made_optimizer(make: MakeOptimizer, parameters: Iterable[Tensor]) -> torch.optim.Optimizer:
    """Return the optimiser that a function creates.

    Raises:
        ModelError: If it is not a torch optimiser, or one that needs a closure.
    """
    optimizer = make(parameters)
    if not isinstance(optimizer, torch.optim.Optimizer) or isinstance(optimizer, torch.optim.LBFGS):
        raise ModelError(
            "optimizer must make one of torch's optimisers of the parameters without "
            f"closures, such as lambda p: torch.optim.Adam(p, lr=0.05); it returned {optimizer!r}"
        )
    return optimizer


def made_scheduler(make: MakeScheduler | None, optimizer: torch.optim.Optimizer) -> Any:
    """Return the learning rate scheduler that a function creates, or None.

    Raises:
        ModelError: If it is not a scheduler.
    """
    scheduler = None if make is None else make(optimizer)
    if scheduler is not None and not callable(getattr(scheduler, "step", None)):
        raise ModelError(
            "scheduler must make one of torch's learning rate schedulers of the optimiser, such "
            f"as lambda o: torch.optim.lr_scheduler.StepLR(o, 9); it returned {scheduler!r}"
        )
    return scheduler


def next_rates(scheduler: Any, loss: float) -> None:
    """Step a scheduler after a pass, with the loss if the scheduler needs it."""
    if isinstance(scheduler, torch.optim.lr_scheduler.ReduceLROnPlateau):
        scheduler.step(loss)
    elif scheduler is not None:
        scheduler.step()


@dataclass(frozen=True, eq=False)
class Steps:
    """Settings of the steps.

    Attributes:
        optimizer: The optimiser.
        scheduler: Scheduler that is stepped after each pass, or None.
        batch_size: Rows per step; all if not given.
        max_norm: Gradients with a larger norm are rescaled to this norm; None for never.
        max_value: Partial derivatives are first clipped to this absolute value; None for never.
        distributed: Whether a step uses the batches of all processes.
    """

    optimizer: torch.optim.Optimizer
    scheduler: Any = None
    batch_size: int | None = None
    max_norm: float | None = None
    max_value: float | None = None
    distributed: bool = False


class MiniBatches:
    """Stochastic gradient ascent as an iterative method: one step is one pass over all rows.

    An L1 penalty is included by its subgradient, and a parameter whose sign a step would change is
    set to zero, so that sparse optima are preserved whatever the step sizes of the optimiser.

    Args:
        problem: The optimisation problem.
        steps: Settings of the steps.
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
        """Return the number of completed passes."""
        return self.problem.record.iterations

    def snapshot(self) -> dict[str, Any]:
        """Return the state that further passes depend on, for :meth:`resume`."""
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
        """Resume from the state of the same fit."""
        self.problem.learnable.restore(before["numbers"])
        self.steps.optimizer.load_state_dict(before["optimizer"])
        if self.steps.scheduler is not None:
            self.steps.scheduler.load_state_dict(before["scheduler"])
        self._random.bit_generator.state = before["order"]
        set_random_states(before["noise"])
        objective = self.problem.objective
        if isinstance(objective, DrawingObjective):
            objective.resume(before["draws"])
        self.problem.record.resume(before["record"])

    def step(self, state: int) -> tuple[int, Info]:
        """Run one pass over the rows.

        Raises:
            DataError: If the initial value is not finite.
            PgnnError: If the value becomes infinite or NaN later.
        """
        total, penalty, mass = 0.0, 0.0, 0.0
        gradient = MeanGradient(self.parameters, self._stride())
        for mean, own_weight in self._batches():
            before = self._penalty() if self._is_penalised else 0.0
            value, weight = self._ascend(mean, state, own_weight, gradient)
            total += weight * value
            penalty += weight * before
            mass += weight
        if not gradient.is_finite():
            raise _not_finite(self.problem, total / mass, state)
        next_rates(self.steps.scheduler, -total / mass)
        gradient_norm = gradient.largest()
        self.problem.learnable.clear()
        figures = self.problem.figures(total / mass, penalty / mass, gradient_norm)
        stop = self.problem.record.add(figures)
        return state + 1, Info(stop or gradient_norm <= (self.problem.tolerance or 0.0), figures)

    def _batches(self) -> Iterator[tuple[Mean | None, float]]:
        """Yield functions that return the mean of each batch, with the weights of the batches.

        None with weight zero while other processes have more.
        """
        local, rows = self._local_batches(), self.problem.rows
        if not self.steps.distributed:
            yield from local
            return
        most = None if isinstance(rows, BatchedRows) else self._num_batches(rows)
        for _ in count() if most is None else range(most):
            mean, weight = next(local, (None, 0.0))
            if most is None and not any(exchanged(mean is not None)):
                return
            yield mean, weight

    def _num_batches(self, rows: RowEvidence | SequenceEvidence) -> int:
        """Number of steps of a pass, the maximum over processes."""
        size = min(self.steps.batch_size or rows.num_rows, rows.num_rows)
        return int(max(exchanged(-(-rows.num_rows // size))))

    def _stride(self) -> int:
        """One in so many batches enters the recorded gradient; each, of an unknown number."""
        rows, size = self.problem.rows, self.steps.batch_size
        if isinstance(rows, BatchedRows) or size is None:
            return 1
        return max(1, rows.num_rows // size // _AVERAGED)

    def _local_batches(self) -> Iterator[tuple[Mean | None, float]]:
        """Yield the batches of this process's rows."""
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
        gradient: MeanGradient,
    ) -> tuple[float, float]:
        """Take a step on a batch, or those of all processes; return its value and weight.

        Gradients are those of the weighted mean.
        """
        number = 0.0
        if mean is None:
            self.problem.learnable.clear()
        else:
            with torch.enable_grad():
                value = mean()
                self.problem.learnable.clear()  # now, so that new ones use their memory
                (-value).backward()  # type: ignore[no-untyped-call]
            number = float(value.detach())
        if self.steps.distributed:
            number, weight = averaged(self.parameters, number, weight)
        # gradients that are not finite are detected by the next value or at the end of the pass
        if not math.isfinite(number):
            raise _not_finite(self.problem, number, passes)
        signs = self._penalize() if self._is_penalised else []
        gradient.add(weight)
        clip(self.parameters, self.steps.max_norm, self.steps.max_value)
        self.steps.optimizer.step()
        with torch.no_grad():
            for p, sign in zip(self.parameters, signs, strict=False):
                if sign is not None:
                    p[p.sign() * sign < 0] = 0.0
                    p[(sign == 0)] = 0.0
        return number, weight

    def _penalize(self) -> list[Tensor | None]:
        """Add the gradients of penalties; return allowed signs of parameters with an L1 penalty."""
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


def _not_finite(problem: OptimisationProblem, value: float, passes: int) -> PgnnError:
    if passes == 0 and math.isinf(value):
        problem.check_declared_zeros()
        return DataError(
            f"the rows have the value {value} under the initial parameters: "
            f"{problem.which_are_impossible()} (a density or an entry of a table is zero there), "
            "or so large that the value overflows",
            "remove them, or rescale the data",
        )
    return PgnnError(
        f"the fit diverged in pass {passes + 1}: the value is {value} or a derivative is not "
        "finite",
        "use a smaller learning rate, clip with max_norm, or penalise with l2",
    )
