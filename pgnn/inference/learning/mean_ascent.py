"""Ascent of a mean by L-BFGS, which never decreases it and judges whether it has converged."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from torch import nn

from pgnn.errors import DataError
from pgnn.inference.convergence import Convergence
from pgnn.inference.learning.lbfgs import PenalizedObjective, run_lbfgs
from pgnn.inference.learning.optimisation_problem import (
    FitRecord,
    Floats,
    LearnableParameters,
    Mean,
    PenalizedMean,
)

_AT_REST = 1e-3
"""Largest partial derivative of the mean over rows at which an M-step is skipped."""


@dataclass(frozen=True)
class Ascended:
    """The result of an ascent.

    Attributes:
        moved: Whether the mean increased, or was already stationary.
        converged: Whether it is at a maximum.
        iterations: Number of iterations.
        gradient: The largest partial derivative at the end.
    """

    moved: bool = True
    converged: bool = True
    iterations: int = 0
    gradient: float = 0.0

    def judge(self, name: Hashable, max_iterations: int) -> Convergence:
        """Return the concerns about a fit that should have converged.

        Args:
            name: The variable whose conditional was fitted.
            max_iterations: The limit of iterations.
        """
        verdict = Convergence("MaximumLikelihood")
        if self.converged:
            return verdict
        if self.iterations >= max_iterations:
            return verdict.stopped(
                self.iterations,
                "raise max_iterations, or add a prior if the optimal parameters are infinite",
                f"with a largest partial derivative of {self.gradient:.2g} for {name!r}, too large "
                "for a maximum",
            )
        return verdict.no_progress(
            self.gradient,
            "check the data, rescale it, or use other initial parameters: the value or its "
            "gradient may have reached the limit of their precision",
            f"the conditional of {name!r}",
        )


@dataclass(frozen=True, eq=False, kw_only=True)
class MeanProblem(PenalizedMean):
    """Maximise a penalised mean, with names for messages.

    Attributes:
        mean: Function that returns the differentiable scalar mean.
        name: What the mean is of.
    """

    mean: Mean
    name: str

    @classmethod
    def of(
        cls, module: nn.Module, mean: Mean, name: str, tolerance: float | None = None,
        penalties: tuple[Sequence[float], Sequence[float]] | None = None,
    ) -> MeanProblem:  # fmt: skip
        """Return the problem at the current parameters of a module.

        Args:
            module: Has the learnable parameters.
            mean: Function that returns the differentiable scalar mean.
            name: What the mean is of.
            tolerance: Largest partial derivative that counts as zero; the default if None.
            penalties: Strengths of the L1 and the L2 penalty, for each parameter.
        """
        learnable = LearnableParameters(module)
        l1, l2 = penalties or ([0.0] * len(learnable.names),) * 2
        return cls(
            learnable=learnable, l1=[*l1], l2=[*l2], tolerance=tolerance,
            record=FitRecord(learnable, None, 0), mean=mean, name=name,
        )  # fmt: skip

    @property
    def whole(self) -> Mean:
        """The mean."""
        return self.mean

    def check_start(self, value: float, gradient: Floats) -> None:
        """Check the initial parameters, see :meth:`PenalizedMean.check_start`."""
        causes = (
            "a value is on the boundary of the support (such as 0 for a Gamma distribution), or a "
            "given parameter is zero or infinite"
        )
        advice = (
            "check the data, or use other initial parameters (such as leak=None of a noisy-or, "
            "which is learned)"
        )
        if not math.isfinite(value):
            raise DataError(
                f"some rows have probability zero under the initial parameters of {self.name}: "
                f"{causes}",
                advice,
            )
        if not np.isfinite(gradient).all():
            raise DataError(
                f"the log-likelihood of {self.name} has no finite gradient under its initial "
                f"parameters: {causes}",
                advice,
            )


def ascend(
    problem: MeanProblem,
    max_iterations: int,
    finish: Callable[[MeanProblem, bool], bool] | None = None,
) -> Ascended:
    r"""Increase a mean by L-BFGS, in place; it never decreases.

    A generalised M-step, if it is stopped early.

    Args:
        problem: The problem at the initial parameters.
        max_iterations: Largest number of L-BFGS iterations.
        finish: Function that takes the last steps to a maximum; it is told whether L-BFGS is at
            rest, and returns whether the maximum is reached.

    Returns:
        What was reached.

    Raises:
        PgnnError: If the initial value or gradient is not finite.

    References:
        Nocedal and Wright (2006), Numerical Optimization, section 7.2. Neal and Hinton (1998), A
        view of the EM algorithm that justifies incremental, sparse, and other variants.
    """
    learnable, record = problem.learnable, problem.record
    converged = run_lbfgs(problem, max_iterations, False)
    end = PenalizedObjective(problem)
    if finish is not None:
        before, finished = learnable.vector(), finish(problem, converged)
        last = PenalizedObjective(problem)
        if last.total >= end.total - end.least_gain:
            end, converged = last, finished
        else:
            learnable.assign(before)
    gain = end.total - record.trace["objective"][0]
    if not gain >= 0.0:
        learnable.restore()
    moved = gain > 0.0 or record.trace["gradient_norm"][0] <= _AT_REST
    return Ascended(moved or converged, converged, record.iterations, end.gradient_norm)
