"""Linear Gaussian chains of states with forward and backward moments."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from pgnn.errors import ModelError
from pgnn.factors.conditionals.regression import Regression
from pgnn.inference.gaussian_marginals import semidefinite_cholesky

LOG_2PI = math.log(2.0 * math.pi)


class StepMoments(NamedTuple):
    """Moments of a vector at every step.

    Attributes:
        mean: ``(B, T, D)`` means.
        covariance: ``(U, T, D, D)`` covariances for each pattern of observations.
    """

    mean: Tensor
    covariance: Tensor


class Filtered(NamedTuple):
    """Filtered moments of the states at each step.

    Attributes:
        ahead: Moments before the observation of the step.
        now: Moments after the observation of the step.
        increments: ``(B, T)`` log densities of each observation given previous ones.
    """

    ahead: StepMoments
    now: StepMoments
    increments: Tensor


class Smoothed(NamedTuple):
    """Smoothed moments of the states.

    Attributes:
        states: Moments given all observations.
        gain: ``(U, T - 1, D, D)`` gain of each state on the next; the covariance of both is the
            next one's times the transposed gain.
    """

    states: StepMoments
    gain: Tensor


@dataclass(frozen=True, eq=False)
class GaussianChain:
    r"""A linear Gaussian chain of hidden states with observations.

    .. math:: z_1 \sim N(\mu, P), \quad z_t \sim N(A z_{t-1} + b, Q), \quad
        y_t \sim N(C z_t + c, R)

    ``NaN`` means not observed. Covariances do not depend on values and are computed once for each
    of the ``U`` patterns of observations.

    Args:
        start: Bias and factor of the covariance of the first state.
        move: Regression of a state on the previous one.
        emit: Regression of an observation on its state.
        observed: ``(B, T, M)`` observations.

    Cost:
        :math:`O(U T (D^3 + M^3) + B T (D + M)^2)`.

    References:
        Kalman (1960), A new approach to linear filtering and prediction problems; Rauch, Tung and
        Striebel (1965), Maximum likelihood estimates of linear dynamic systems; Bucy and Joseph
        (1968), for the update that keeps covariances positive.
    """

    start: Regression
    move: Regression
    emit: Regression
    observed: Tensor

    def __post_init__(self) -> None:
        present = ~self.observed.isnan()
        rows, steps, size = present.shape
        if present.numel():
            patterns, kind = torch.unique(present.reshape(rows, -1), dim=0, return_inverse=True)
        else:  # no rows, or no steps
            patterns, kind = present[:1], torch.zeros(rows, dtype=torch.int64)
        object.__setattr__(self, "patterns", patterns.reshape(len(patterns), steps, size))
        object.__setattr__(self, "kind", kind)

    patterns: Tensor = None  # type: ignore[assignment]
    kind: Tensor = None  # type: ignore[assignment]

    @property
    def steps(self) -> int:
        """Number of steps ``T``."""
        return int(self.observed.shape[1])

    def filtered(self) -> Filtered:
        """Return the filtered moments of each state (the Kalman filter)."""
        weight, bias, noise = self.move.weight, self.move.bias, covariance_of(self.move)
        rows, kinds = len(self.observed), len(self.patterns)
        mean = self.start.bias.expand(rows, -1)
        covariance = covariance_of(self.start).expand(kinds, -1, -1)
        ahead, now, increments = [], [], []
        for t in range(self.steps):
            if t:
                mean = mean @ weight.mT + bias
                covariance = weight @ covariance @ weight.mT + noise
            ahead.append((mean, covariance))
            mean, covariance, gained = self._updated(t, mean, covariance)
            now.append((mean, covariance))
            increments.append(gained)
        if not self.steps:
            none = StepMoments(mean[:, None][:, :0], covariance[:, None][:, :0])
            return Filtered(none, none, mean.new_zeros(rows, 0))
        return Filtered(_stacked(ahead), _stacked(now), torch.stack(increments, dim=1))

    def smoothed(self, filtered: Filtered) -> Smoothed:
        """Return the smoothed moments of each state (Rauch, Tung and Striebel)."""
        gains = self.gains(filtered)
        if not self.steps:
            return Smoothed(filtered.now, gains)
        mean, covariance = filtered.now.mean[:, -1], filtered.now.covariance[:, -1]
        moments = [(mean, covariance)]
        for t in reversed(range(self.steps - 1)):
            gain = gains[:, t]
            error = mean - filtered.ahead.mean[:, t + 1]
            mean = filtered.now.mean[:, t] + self.of_rows(gain, error)
            change = covariance - filtered.ahead.covariance[:, t + 1]
            covariance = filtered.now.covariance[:, t] + gain @ change @ gain.mT
            moments.append((mean, covariance))
        return Smoothed(_stacked(moments[::-1]), gains)

    def gains(self, filtered: Filtered) -> Tensor:
        """Return ``(U, T - 1, D, D)`` gains of all steps at once."""
        across = self.move.weight @ filtered.now.covariance[:, :-1]
        factor, lost = torch.linalg.cholesky_ex(filtered.ahead.covariance[:, 1:])
        if bool((lost > 0).any()):
            raise not_definite()
        gains: Tensor = torch.cholesky_solve(across, factor).mT
        return gains

    def observations(self, states: StepMoments) -> tuple[StepMoments, Tensor]:
        """Return moments of the observations, with zero variance where observed.

        Args:
            states: Moments of the states.

        Returns:
            The moments, and ``(U, T, M, D)`` their covariances with the states.
        """
        hidden = (~self.patterns).double()
        noise = covariance_of(self.emit)
        inner = self._noise_of_present(self.patterns)
        # regression of the noise of unobserved components on that of observed ones
        both = hidden.unsqueeze(-1) * noise * self.patterns.double().unsqueeze(-2)
        gain = torch.linalg.solve(inner, both.mT).mT
        weight = hidden.unsqueeze(-1) * (self.emit.weight - gain @ self.emit.weight)
        left = hidden.unsqueeze(-1) * (noise - gain @ noise) * hidden.unsqueeze(-2)
        predicted = states.mean @ self.emit.weight.mT + self.emit.bias
        error = (self.observed - predicted).nan_to_num(nan=0.0)
        present = ~self.observed.isnan()
        extra = predicted + self.of_rows(gain, error)
        mean = torch.where(present, self.observed, extra)
        across = weight @ states.covariance
        covariance = across @ weight.mT + left
        return StepMoments(mean, (covariance + covariance.mT) / 2), across

    def draw(self, filtered: Filtered, n: int) -> tuple[Tensor, Tensor]:
        """Return ``(n, B, T, D)`` states and ``(n, B, T, M)`` observations given the observations.

        Proceeds backward from the last state, using torch's random state.
        """
        states, now = self.backward_draws(filtered, n), filtered.now
        certain = StepMoments(now.mean, torch.zeros_like(now.covariance))
        spread, _ = self.observations(certain)
        factor = semidefinite_cholesky(spread.covariance)
        values = []
        for drawn in states:
            moments, _ = self.observations(StepMoments(drawn, certain.covariance))
            noise = torch.randn(moments.mean.shape, dtype=moments.mean.dtype)
            values.append(moments.mean + self.of_rows(factor, noise))
        return states, torch.stack(values)

    def backward_draws(self, filtered: Filtered, n: int) -> Tensor:
        """Return ``(n, B, T, D)`` states given the observations.

        Proceeds backward from the last state, using torch's random state.
        """
        gains, now = self.gains(filtered), filtered.now
        eye = torch.eye(gains.shape[-1], dtype=gains.dtype)
        rest = eye - gains @ self.move.weight
        left = rest @ now.covariance[:, :-1] @ rest.mT + gains @ covariance_of(self.move) @ gains.mT
        last = now.covariance[:, -1:]
        factors = semidefinite_cholesky(torch.cat([left, last], dim=1))
        state = None
        states = []
        for t in reversed(range(self.steps)):
            mean = now.mean[:, t]
            if state is not None:
                mean = mean + self.of_rows(gains[:, t], state - filtered.ahead.mean[:, t + 1])
            noise = torch.randn(n, *now.mean[:, t].shape, dtype=mean.dtype)
            state = mean + self.of_rows(factors[:, t], noise)
            states.append(state)
        if not states:
            return now.mean.new_zeros(n, *now.mean.shape)
        return torch.stack(states[::-1], dim=2)

    def of_rows(self, matrices: Tensor, vectors: Tensor) -> Tensor:
        """Return products of matrices ``(U, ..., R, C)`` and vectors ``(*, B, ..., C)``."""
        if len(matrices) == 1 and matrices.dim() == 3:
            return vectors @ matrices[0].mT
        by_row = matrices if len(matrices) == 1 else matrices[self.kind]
        return (by_row * vectors.unsqueeze(-2)).sum(-1)

    def _updated(self, t: int, mean: Tensor, covariance: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return moments of a state after an observation, and its log density."""
        present = self.patterns[:, t]
        if not bool(present.any()):
            return mean, covariance, mean.new_zeros(len(mean))
        weight = present.unsqueeze(-1) * self.emit.weight
        noise = self._noise_of_present(present)
        across = weight @ covariance
        factor = torch.linalg.cholesky(across @ weight.mT + noise)
        gain = torch.cholesky_solve(across, factor).mT
        eye = torch.eye(factor.shape[-1], dtype=factor.dtype)
        white = torch.linalg.solve_triangular(factor, eye, upper=False)
        error = self.observed[:, t] - (mean @ self.emit.weight.mT + self.emit.bias)
        error = error.nan_to_num(nan=0.0)
        logs = factor.diagonal(dim1=-2, dim2=-1).log().sum(
            -1
        ) + 0.5 * LOG_2PI * present.double().sum(-1)
        density = -0.5 * self.of_rows(white, error).square().sum(-1) - logs[self.kind]
        rest = torch.eye(mean.shape[1], dtype=mean.dtype) - gain @ weight
        covariance = rest @ covariance @ rest.mT + gain @ noise @ gain.mT
        return mean + self.of_rows(gain, error), covariance, density

    def _noise_of_present(self, present: Tensor) -> Tensor:
        """Return noise covariances, the identity for unobserved elements."""
        both = present.unsqueeze(-1) & present.unsqueeze(-2)
        unit = torch.diag_embed((~present).double())
        return torch.where(both, covariance_of(self.emit), 0.0) + unit


def covariance_of(regression: Regression) -> Tensor:
    """Return the covariance of a regression's noise."""
    return regression.scale @ regression.scale.mT


def _stacked(moments: list[tuple[Tensor, Tensor]]) -> StepMoments:
    means, covariances = zip(*moments, strict=True)
    return StepMoments(torch.stack(means, dim=1), torch.stack(covariances, dim=1))


def not_definite() -> ModelError:
    """Return the error for a covariance that lost its definiteness."""
    return ModelError(
        "a covariance of the chain is not positive definite: a state has no noise, or variances "
        "differ by more than floating-point precision",
        "give all states noise, and the start a smaller variance",
    )
