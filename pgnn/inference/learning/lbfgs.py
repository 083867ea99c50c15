"""Maximisation by L-BFGS over all rows at once, with exact zeros under an L1 penalty."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pgnn.errors import DataError, PgnnError
from pgnn.inference.learning.climb import Climb

Floats = NDArray[np.float64]

_RESTARTS = 5


class PenalizedObjective:
    r"""The function :math:`-f(\theta) + \sum_k (l_{1k} |\theta_k| + \tfrac12 l_{2k} \theta_k^2)`.

    L-BFGS-B sees it smooth, through :math:`\theta = u - v` with :math:`u, v \ge 0` where there is
    an L1 penalty: both are at their bounds where the best value is exactly zero.

    Args:
        climb: What is maximised.
    """

    def __init__(self, climb: Climb) -> None:
        self.learnable, self.mean = climb.learnable, climb.objective(climb.rows)
        self.l1, self.l2 = (self.learnable.spread(rates) for rates in (climb.l1, climb.l2))
        self.climb = climb
        self.split = np.flatnonzero(self.l1 > 0)
        self.theta = self.learnable.vector()
        self.value, self.slope = self.evaluate()
        self._worst = self.total

    @property
    def penalty(self) -> float:
        """What the penalties are where it was last evaluated."""
        return float((self.l1 * np.abs(self.theta) + 0.5 * self.l2 * self.theta**2).sum())

    @property
    def total(self) -> float:
        """The penalised value to be maximised, where it was last evaluated."""
        return self.value - self.penalty

    @property
    def figures(self) -> Mapping[str, float]:
        """What an iteration reports."""
        return self.climb.figures(self.value, self.penalty, self.steepness)

    @property
    def steepness(self) -> float:
        """Largest derivative of the penalised value, zero at a maximum."""
        slope = self.slope - self.l2 * self.theta
        away = np.abs(slope - self.l1 * np.sign(self.theta))
        still = np.maximum(np.abs(slope) - self.l1, 0.0)
        return float(np.where(self.theta == 0, still, away).max(initial=0.0))

    @property
    def tolerance(self) -> float:
        """Largest derivative at a maximum.

        With values of size ``f``, rounded to ``eps f``, no search along a line sees a slope of
        less than about the root of that where curvatures are about one.
        """
        if self.climb.tolerance is not None:
            return self.climb.tolerance
        return max(1e-6, 4.0 * float(np.sqrt(np.finfo(np.float64).eps * abs(self.total))))

    def point(self) -> Floats:
        """Where L-BFGS-B begins."""
        theta = self.theta.copy()
        minus = np.maximum(-theta[self.split], 0.0)
        theta[self.split] = np.maximum(theta[self.split], 0.0)
        return np.concatenate([theta, minus])

    @property
    def bounds(self) -> list[tuple[float | None, None]] | None:
        """Of L-BFGS-B."""
        if not len(self.split):
            return None
        lower: list[float | None] = [None] * (len(self.theta) + len(self.split))
        for k in [*self.split.tolist(), *range(len(self.theta), len(lower))]:
            lower[k] = 0.0
        return [(low, None) for low in lower]

    def move(self, point: Floats) -> None:
        """Evaluate at a point, unless that is where it was last evaluated."""
        theta = self._theta(point)
        if not np.array_equal(theta, self.theta):
            self.theta = theta
            self.learnable.assign(theta)
            self.value, self.slope = self.evaluate()

    def __call__(self, point: Floats) -> tuple[float, Floats]:
        """The value to be minimised, and its derivatives."""
        self.move(point)
        plus, minus = point[: len(self.theta)], point[len(self.theta) :]
        slope = self.l2 * self.theta - self.slope
        ends = np.concatenate([slope + self.l1, self.l1[self.split] - slope[self.split]])
        if not np.isfinite(self.value):  # so far off that the step must become shorter
            return abs(self._worst) * 1e3 + 1e3, np.nan_to_num(ends)
        absolute = float((self.l1 * plus).sum() + (self.l1[self.split] * minus).sum())
        value = -self.value + absolute + 0.5 * float((self.l2 * self.theta**2).sum())
        self._worst = max(abs(self._worst), abs(value))
        return value, ends

    def _theta(self, point: Floats) -> Floats:
        theta = point[: len(self.theta)].copy()
        theta[self.split] -= point[len(self.theta) :]
        return theta

    def evaluate(self) -> tuple[float, Floats]:
        """The value and its derivatives, penalties aside, at the parameters."""
        self.learnable.clear()
        with torch.enable_grad():
            value = self.mean()
            value.backward()  # type: ignore[no-untyped-call]
        slope = self.learnable.gradient()
        self.learnable.clear()
        return float(value.detach()), slope


def run_lbfgs(climb: Climb, max_iterations: int, progress: bool) -> bool:
    """Maximise; tell whether the largest derivative came down to the tolerance.

    Args:
        climb: What is maximised.
        max_iterations: Most iterations.
        progress: Show a bar if it takes longer than a second.

    Raises:
        DataError: If the value is not finite to begin with.
        PgnnError: If derivatives are not finite.

    References:
        Byrd, Lu, Nocedal and Zhu (1995), A limited memory algorithm for bound constrained
        optimization. Schmidt, Fung and Rosales (2007), Fast optimization methods for L1
        regularization, section 3.2.
    """
    from scipy.optimize import minimize
    from tqdm import tqdm

    target, record = PenalizedObjective(climb), climb.record
    _check_start(target)
    tolerance = target.tolerance
    record.note(target.figures)
    bar = tqdm(total=max_iterations, desc="L-BFGS", disable=not progress, delay=1, leave=False)
    with bar:

        def after(intermediate_result: Any) -> None:
            target.move(intermediate_result.x)
            stop = record.add(target.figures)
            bar.update()
            if stop or target.steepness <= tolerance:
                raise StopIteration

        # rounding may end a line search before the maximum; a fresh start then gets further
        for _ in range(_RESTARTS):
            left = max_iterations - record.iterations
            if target.steepness <= tolerance or record.stopped or left <= 0:
                break
            before = record.iterations
            found = minimize(
                target,
                target.point(),
                jac=True,
                method="L-BFGS-B",
                bounds=target.bounds,
                callback=after,
                options={
                    "maxiter": left,
                    "maxfun": 20 * left + 20,
                    "maxcor": 20,
                    "maxls": 40,
                    "ftol": 0.0,
                    "gtol": 0.0,
                },
            )
            target.move(found.x)
            if record.iterations == before:
                break
    _settle_zeros(target)
    return target.steepness <= tolerance


def _check_start(target: PenalizedObjective) -> None:
    if not np.isfinite(target.value):
        raise DataError(
            f"the rows have the value {target.value} under the starting parameters: some of them "
            "are impossible (tables with zeros), or the parameters are no numbers"
        )
    if not np.isfinite(target.slope).all():
        raise PgnnError("the derivatives are not finite at the starting parameters")


def _settle_zeros(target: PenalizedObjective) -> None:
    """Make exact zeros of what is nearly zero, where that is no worse."""
    theta, total = target.theta.copy(), target.total
    slope = np.abs(target.slope - target.l2 * theta)
    nearly = (theta != 0) & (slope < target.l1) & (np.abs(theta) < 1e-6)
    if not nearly.any():
        return
    for candidate in (np.where(nearly, 0.0, theta), theta):
        target.theta = candidate
        target.learnable.assign(candidate)
        target.value, target.slope = target.evaluate()
        if target.total >= total:
            return
