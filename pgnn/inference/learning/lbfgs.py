"""Maximisation by full-batch L-BFGS, with exact zeros under an L1 penalty."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pgnn.inference.learning.optimisation_problem import PenalizedMean
from pgnn.inference.loop import progress_bar

Floats = NDArray[np.float64]

_RESTARTS = 5
_ESCAPES = 5
"""Largest number of saddle points to escape from."""
_CURVATURE_STEPS = 12
"""Number of Hessian-vector products in the search for the largest curvature."""
_GAIN = 1e-9
"""Largest relative gain that is treated as zero."""
_KINKS = 20
"""Largest number of parameters that are tried one by one."""
_CORRECTIONS, _FEWER_CORRECTIONS, _MANY = 20, 10, 100_000
"""Pairs of steps and differences of gradients that are kept; fewer of this many parameters, where
they are most of the memory and take as long as they save."""
_DIFFERENCE = 1e-4
"""Step size of finite differences of gradients."""


class PenalizedObjective:
    r"""The function :math:`-f(\theta) + \sum_k (l_{1k} |\theta_k| + \tfrac12 l_{2k} \theta_k^2)`.

    With an L1 penalty it is smooth in :math:`u, v \ge 0` with :math:`\theta = u - v`, for L-BFGS-B:
    both are at their bounds if the optimum is exactly zero. The parameters are measured in their
    units, and the strengths of the penalties with them.

    Args:
        problem: The optimisation problem.
    """

    def __init__(self, problem: PenalizedMean) -> None:
        self.learnable, self.mean = problem.learnable, problem.whole
        self.units = self.learnable.units()
        self.l1 = self.learnable.spread(problem.l1) * self.units
        self.l2 = self.learnable.spread(problem.l2) * self.units**2
        self.problem = problem
        self.split = np.flatnonzero(self.l1 > 0)
        self.theta = self.learnable.vector() / self.units
        self.value, self.gradient = self.evaluate()
        self._worst = self.total

    def renew_units(self) -> bool:
        """Measure parameters in units of the present point; return whether one changed fourfold."""
        if not np.isfinite(self.theta).all():
            return False
        old, self.units = self.units, self.learnable.units()
        ratio = self.units / old
        if (ratio == 1.0).all():
            return False
        self.l1, self.l2 = self.l1 * ratio, self.l2 * ratio**2
        self.theta, self.gradient = self.theta / ratio, self.gradient * ratio
        return bool((np.abs(np.log(ratio)) > math.log(4.0)).any())

    @property
    def penalty(self) -> float:
        """The penalties at the last point."""
        squares = 0.5 * float(self.l2 * self.theta @ self.theta)
        return squares + float(self.l1[self.split] @ np.abs(self.theta[self.split]))

    @property
    def total(self) -> float:
        """The penalised value at the last point."""
        return self.value - self.penalty

    @property
    def figures(self) -> Mapping[str, float]:
        """The figures of an iteration."""
        return self.problem.figures(self.value, self.penalty, self.gradient_norm)

    @property
    def gradient_norm(self) -> float:
        """Largest absolute partial derivative of the penalised value, zero at a maximum."""
        gradient = self.gradient - self.l2 * self.theta
        if not len(self.split):
            return float(np.abs(gradient).max(initial=0.0))
        away = np.abs(gradient - self.l1 * np.sign(self.theta))
        still = np.maximum(np.abs(gradient) - self.l1, 0.0)
        return float(np.where(self.theta == 0, still, away).max(initial=0.0))

    @property
    def tolerance(self) -> float:
        """Largest absolute partial derivative that counts as zero.

        For values of size ``f`` with rounding error ``eps f``, a line search cannot detect a
        gradient below about the square root of that, if curvatures are about one.
        """
        if self.problem.tolerance is not None:
            return self.problem.tolerance
        return max(1e-6, 4.0 * float(np.sqrt(self.learnable.precision * abs(self.total))))

    @property
    def least_gain(self) -> float:
        """Smallest gain that is not treated as zero."""
        return max(_GAIN, 10.0 * self.learnable.precision) * max(1.0, abs(self.total))

    def point(self) -> Floats:
        """Return the initial point of L-BFGS-B."""
        theta = self.theta.copy()
        minus = np.maximum(-theta[self.split], 0.0)
        theta[self.split] = np.maximum(theta[self.split], 0.0)
        return np.concatenate([theta, minus])

    @property
    def bounds(self) -> list[tuple[float | None, None]] | None:
        """The bounds of L-BFGS-B."""
        if not len(self.split):
            return None
        lower: list[float | None] = [None] * (len(self.theta) + len(self.split))
        for k in [*self.split.tolist(), *range(len(self.theta), len(lower))]:
            lower[k] = 0.0
        return [(low, None) for low in lower]

    @property
    def penalised_gradient(self) -> Floats:
        """The gradient of the penalised value, apart from the kinks of absolute values."""
        gradient: Floats = self.gradient - self.l2 * self.theta - self.l1 * np.sign(self.theta)
        return gradient

    def move(self, point: Floats) -> None:
        """Evaluate at a point, unless it is the last one."""
        self.set(self._theta(point))

    def set(self, theta: Floats) -> None:
        """Evaluate at some parameters, unless they are the last ones."""
        if not np.array_equal(theta, self.theta):
            self.theta = theta
            if not np.isfinite(theta).all():  # the parameters are unchanged
                self.value, self.gradient = -math.inf, np.zeros(len(theta))
                return
            self.learnable.assign(theta * self.units)
            try:
                self.value, self.gradient = self.evaluate()
            except ValueError:  # invalid parameters of a distribution
                self.value, self.gradient = -math.inf, np.zeros(len(theta))

    def __call__(self, point: Floats) -> tuple[float, Floats]:
        """Return the value to be minimised, and its gradient."""
        self.move(point)
        plus, minus = point[: len(self.theta)], point[len(self.theta) :]
        gradient = self.l2 * self.theta - self.gradient
        ends = np.concatenate([gradient + self.l1, self.l1[self.split] - gradient[self.split]])
        if not (
            np.isfinite(self.value) and np.isfinite(ends).all()
        ):  # invalid, so that the step must become shorter
            return abs(self._worst) * 1e3 + 1e3, np.nan_to_num(ends)
        absolute = float(self.l1[self.split] @ (plus[self.split] + minus))
        value = -self.value + absolute + 0.5 * float(self.l2 * self.theta @ self.theta)
        self._worst = max(abs(self._worst), abs(value))
        return value, ends

    def _theta(self, point: Floats) -> Floats:
        theta = point[: len(self.theta)].copy()
        theta[self.split] -= point[len(self.theta) :]
        return theta

    def evaluate(self) -> tuple[float, Floats]:
        """Return the value and its gradient without penalties, at the current parameters.

        The value of a singular covariance is undefined.
        """
        self.learnable.clear()
        try:
            with torch.enable_grad():
                value = self.mean()
                value.backward()  # type: ignore[no-untyped-call]
            return float(value.detach()), self.learnable.gradient() * self.units
        except torch.linalg.LinAlgError:  # type: ignore[attr-defined]
            return -math.inf, np.zeros(sum(self.learnable.sizes))
        finally:
            self.learnable.clear()


def run_lbfgs(problem: PenalizedMean, max_iterations: int, progress: bool) -> bool:
    """Maximise; return whether the gradient is within the tolerance, at no saddle point.

    Args:
        problem: The optimisation problem.
        max_iterations: Largest number of iterations.
        progress: Whether to show a progress bar if it takes longer than a second.

    Raises:
        DataError: If the initial value is not finite.
        PgnnError: If the gradient is not finite.

    References:
        Byrd, Lu, Nocedal and Zhu (1995), A limited memory algorithm for bound constrained
        optimization. Schmidt, Fung and Rosales (2007), Fast optimization methods for L1
        regularization, section 3.2.
    """
    target, record = PenalizedObjective(problem), problem.record
    problem.check_start(target.value, target.gradient)
    tolerance = target.tolerance
    record.note(target.figures)
    with progress_bar(max_iterations, "L-BFGS", progress) as bar:
        for _ in range(_ESCAPES):
            _ascend(target, tolerance, max_iterations, bar)
            at_rest = target.gradient_norm <= tolerance and not record.stopped
            if not (problem.has_saddles and at_rest and leave_saddle(target)):
                break
    _settle_zeros(target)
    if target.gradient_norm <= tolerance:
        return True
    left = max_iterations - record.iterations
    return left > 0 and not record.stopped and nothing_to_gain(target)


def _ascend(target: PenalizedObjective, tolerance: float, max_iterations: int, bar: Any) -> None:
    """Ascend until the gradient vanishes, or to the limit of iterations."""
    from scipy.optimize import minimize

    record = target.problem.record

    def after(intermediate_result: Any) -> None:
        target.move(intermediate_result.x)
        stop = record.add(target.figures)
        bar.update()
        if stop or target.gradient_norm <= tolerance:
            raise StopIteration

    # rounding may end a line search before the maximum; restart from there
    for _ in range(_RESTARTS):
        left = max_iterations - record.iterations
        if target.gradient_norm <= tolerance or record.stopped or left <= 0:
            break
        before = record.iterations
        result = minimize(
            target,
            target.point(),
            jac=True,
            method="L-BFGS-B",
            bounds=target.bounds,
            callback=after,
            options={
                "maxiter": left,
                "maxfun": 20 * left + 20,
                "maxcor": _CORRECTIONS if len(target.theta) < _MANY else _FEWER_CORRECTIONS,
                "maxls": 40,
                "ftol": 0.0,
                "gtol": 0.0,
            },
        )
        target.move(result.x)
        if not target.renew_units() and record.iterations == before:
            break


def nothing_to_gain(target: PenalizedObjective) -> bool:
    r"""Whether no ascent step would change the value, judged by gradient and curvature, or kinks.

    The best step along a gradient :math:`g` gains :math:`|g|^2 / 2 c`, where :math:`c` is minus the
    curvature. For badly scaled parameters, or in single precision, the gradient does not fall below
    the tolerance although a line search finds no improvement. At a kink, such as the median under
    a Laplace distribution, it never does; steps along either side of it are no gain.

    Args:
        target: The objective where a line search failed; it is not moved.
    """
    return _is_flat(target) or _is_at_kinks(target)


def _is_at_kinks(target: PenalizedObjective) -> bool:
    """Whether each parameter with a derivative that is not zero is at a kink of the value.

    A step that would gain the least relevant amount, if the slope were constant, does not.
    """
    theta, total, gradient = target.theta.copy(), target.total, target.penalised_gradient
    steep = np.flatnonzero(~(np.abs(gradient) <= target.tolerance))
    if len(steep) > _KINKS:
        return False
    for k in steep.tolist():
        moved = theta.copy()
        moved[k] += target.least_gain / gradient[k]
        target.set(moved)
        gain = target.total - total
        if not (np.isfinite(gain) and gain < 0.5 * target.least_gain):
            target.set(theta)
            return False
    target.set(theta)
    return True


def _is_flat(target: PenalizedObjective) -> bool:
    """Whether the best step along the gradient gains too little, by the curvature."""
    theta, gradient = target.theta.copy(), target.penalised_gradient
    length = float(np.linalg.norm(gradient))
    if not np.isfinite(length) or length == 0.0:
        return False
    step = _DIFFERENCE * max(1.0, float(np.abs(theta).max()))
    target.set(theta + step * gradient / length)
    with np.errstate(over="ignore", invalid="ignore"):  # no curvature
        curvature = float((gradient - target.penalised_gradient) @ gradient) / (step * length)
    target.set(theta)
    if not (np.isfinite(curvature) and curvature > 0.0):
        return False
    return length**2 / (2.0 * curvature) <= target.least_gain


def leave_saddle(target: PenalizedObjective) -> bool:
    """Step to a larger value from a saddle point; return whether it was one.

    The direction is that of the largest curvature (Lanczos's method, with products of the Hessian
    and a vector by differences of gradients).

    Args:
        target: The objective at a stationary point; it is moved if there is a larger value nearby.

    References:
        Nocedal and Wright (2006), Numerical Optimization, section 5.1 and chapter 7.
    """
    theta, total = target.theta.copy(), target.total
    curvature, direction = _largest_curvature(target)
    if curvature > 0.0:
        for step in (1.0, 0.3, 0.1, 0.03):
            for sign in (1.0, -1.0):
                target.set(theta + sign * step * direction)
                if target.total > total + 1e-9 * max(1.0, abs(total)):
                    return True
    target.set(theta)
    return False


def _largest_curvature(target: PenalizedObjective) -> tuple[float, Floats]:
    """Return the largest significant eigenvalue of the Hessian at the point, and its vector.

    Zero if none exceeds the errors of the differences.
    """
    theta, size = target.theta.copy(), len(target.theta)
    free = (theta != 0) | (target.l1 == 0)  # parameters that a penalty holds at zero are not moved
    base = target.penalised_gradient
    vector = np.random.default_rng(0).normal(size=size) * free
    basis: list[Floats] = []
    products: list[Floats] = []
    for _ in range(min(_CURVATURE_STEPS, int(free.sum()))):
        for known in basis:
            vector = vector - (known @ vector) * known
        length = np.linalg.norm(vector)
        if length < 1e-10:
            break
        basis.append(vector / length)
        target.set(theta + _DIFFERENCE * basis[-1])
        products.append((target.penalised_gradient - base) * free / _DIFFERENCE)
        vector = products[-1]
    target.set(theta)
    if not basis or not all(np.isfinite(p).all() for p in products):
        return 0.0, vector
    small = np.array([[b @ p for p in products] for b in basis])
    values, vectors = np.linalg.eigh((small + small.T) / 2)
    direction: Floats = np.array(basis).T @ vectors[:, -1]
    stands_out = values[-1] > 1e-3 * np.abs(values).max() and values[-1] > 1e-6
    return (float(values[-1]) if stands_out else 0.0), direction


def _settle_zeros(target: PenalizedObjective) -> None:
    """Set nearly zero parameters to exactly zero, if that is no worse."""
    theta, total = target.theta.copy(), target.total
    gradient = np.abs(target.gradient - target.l2 * theta)
    nearly = (theta != 0) & (gradient < target.l1) & (np.abs(theta) < 1e-6)
    if not nearly.any():
        return
    for candidate in (np.where(nearly, 0.0, theta), theta):
        target.set(candidate)
        if target.total >= total:
            return
