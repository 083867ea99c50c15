"""Bayesian linear regression, with a posterior of the coefficients."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.distributions import MultivariateNormal, Normal

from pgnn.errors import AdvisedWarning, DataError, ModelError, overflowing
from pgnn.factors.conditionals.exponential_family import Statistics
from pgnn.factors.conditionals.linear_gaussian import LinearGaussian
from pgnn.factors.conditionals.regression import Regression
from pgnn.factors.piece import Settings
from pgnn.factors.variable import Variable
from pgnn.limits import POSITIVE, check_real

_ROUNDS = 100_000
"""Most rounds of the fixed point of the evidence."""
_AT_REST = 1e-13
"""Relative move of a round that is none."""

Sums = tuple[np.ndarray, np.ndarray, float]


class BayesianLinear(LinearGaussian):
    r"""A linear regression with normally distributed weights, which are integrated out.

    .. math:: w \sim N(0, s^2 I), \quad y \mid x, w \sim N(w^\top x + b, \sigma^2): \qquad
        p(y \mid x, \text{data}) = N\big(y; m^\top z, \sigma^2 + z^\top S z\big), \quad z = (x, 1)

    The bias has a flat prior. A fit computes the posterior :math:`N(m, S)` of the coefficients,
    whose covariance is zero before. If the scale :math:`s` or the noise :math:`\sigma^2` is not
    given, it is chosen to maximise the evidence.

    Args:
        child: Real variable of shape ``()``.
        parents: Real variables of known shape.
        scale: Prior standard deviation :math:`s` of the weights; estimated if not given.
        noise: Variance :math:`\sigma^2`; estimated if not given.

    Attributes:
        weight: ``(F,)`` posterior means of the weights.
        bias: Posterior mean of the bias.
        spread: ``(F + 1, F + 1)`` posterior covariance of weights and bias.
        prior_scale: The current scale :math:`s`.
        log_evidence: Log density of the data of the last fit, with the bias integrated out.

    Raises:
        ModelError: If a variable has an unsupported kind, or a setting is not positive.

    References:
        MacKay (1992), Bayesian interpolation. Bishop (2006), Pattern Recognition and Machine
        Learning, sections 3.3 and 3.5.

    Example:
        >>> x, y = Variable("x"), Variable("y")
        >>> own = BayesianLinear(y, [x], scale=1.0, noise=1.0)
        >>> rows = {"x": torch.tensor([-1.0, 0.0, 1.0]), "y": torch.tensor([-2.0, 0.0, 2.0])}
        >>> own.maximize(own.statistics(rows, torch.ones(3)))
        >>> round(float(own.weight[0].detach()), 4), round(float(own.spread[0, 0]), 4)
        (1.3333, 0.3333)
    """

    is_linear_gaussian = False
    spread: Tensor
    prior_scale: Tensor
    log_evidence: Tensor

    def __init__(
        self,
        child: Variable,
        parents: Sequence[Variable] = (),
        scale: float | None = None,
        noise: float | None = None,
    ) -> None:
        for name, value in (("scale", scale), ("noise", noise)):
            if value is not None:
                check_real(f"{name} of {child.name!r}", value, POSITIVE)
        super().__init__(child, parents, covariance=noise)
        if child.shape or any(v.is_discrete for v in self.parents):
            raise ModelError(
                f"BayesianLinear needs a single number as child and real parents, {child.name!r} "
                f"has the shape {child.shape}"
            )
        self._given_scale = scale
        size = self.num_features + 1
        self.register_buffer("spread", torch.zeros(size, size, dtype=torch.float64))
        start = torch.tensor(1.0 if scale is None else float(scale), dtype=torch.float64)
        self.register_buffer("prior_scale", start)
        self.register_buffer("log_evidence", torch.zeros((), dtype=torch.float64))

    def settings(self) -> Settings:
        """Return the variables, and the given scale and noise."""
        noise = None if self.scale.requires_grad else float(self.covariance.detach())
        settings = {"child": self.child, "parents": self.parents}
        return settings | {"scale": self._given_scale, "noise": noise}

    @property
    def posterior(self) -> MultivariateNormal:
        """Posterior of the weights and, last, the bias."""
        mean = torch.cat([self.weight.detach(), self.bias.detach().reshape(1)])
        return MultivariateNormal(mean, self.spread)

    def distribution(
        self, parents: Mapping[Hashable, Tensor], inputs: Mapping[Hashable, Tensor] | None = None
    ) -> Normal:
        """Return the predictive distributions at the parents' values."""
        values = self._values(parents)
        reals = [values[v.name] for v in self.parents]
        pairs = zip(self.parents, reals, strict=True)
        flat = [x.reshape(*x.shape[: x.dim() - len(v.shape)], v.num_elements) for v, x in pairs]
        z = torch.cat([*flat, torch.ones_like(flat[0][..., :1])], dim=-1).to(self.bias)
        return Normal(self._mean(z), self._variance(z).sqrt())

    def regression(self) -> Regression:
        """Not supported: the variance depends on the parents; see the base class."""
        return super(LinearGaussian, self).regression()

    def maximize(self, statistics: Statistics, prior: Any = None) -> None:
        """Set the posterior of the coefficients; see the base class.

        Args:
            statistics: The result of :meth:`statistics`.
            prior: None: the weights have their own prior.

        Raises:
            DataError: If the rows do not determine the noise or the scale, or squares overflow.
            ModelError: If there is a prior.
        """
        if prior is not None:
            raise ModelError(
                f"the weights of {self.child.name!r} have their own prior", "leave prior= out"
            )
        count, zz, yz, yy = (float(x) if x.dim() == 1 and x.numel() == 1 else x for x in statistics)
        zz, yz = np.asarray(zz)[0], np.asarray(yz)[0, 0]
        yy = float(np.asarray(yy).reshape(-1)[0])
        if count <= 0:
            return
        scale = self._given_scale
        noise = None if self.scale.requires_grad else float(self.covariance.detach())
        self._check_told(float(count), [zz.sum(), yz.sum(), yy], scale is None or noise is None)
        units = _Units.of(float(count), zz, yz, yy)
        evidence = _Evidence(float(count), *units.without(zz, yz, yy))
        scale, noise = evidence.maximized(
            None if scale is None else scale * units.features / units.child,
            None if noise is None else noise / units.child**2,
        )
        mean, spread = units.restored(*evidence.posterior(scale, noise))
        log_evidence = evidence.log(scale, noise) - (float(count) - 1.0) * np.log(units.child)
        scale, noise = scale * units.child / units.features, noise * units.child**2
        if self.origin is not None:
            origin = self.origin.numpy(force=True)
            back = np.eye(len(mean))
            back[-1, :-1] = -origin[:-1]
            mean, spread = back @ mean, back @ spread @ back.T
            mean[-1] += float(origin[-1])
        with torch.no_grad():
            self.weight.copy_(torch.from_numpy(mean[:-1]))
            self.bias.copy_(torch.tensor(mean[-1]))
            self.spread.copy_(torch.from_numpy(spread))
            self.prior_scale.fill_(scale)
            self.log_evidence.fill_(log_evidence)
            if self.scale.requires_grad:
                self.scale.fill_(0.5 * np.log(noise))

    def _check_told(self, count: float, sums: Sequence[float], choosing: bool) -> None:
        """Check that the rows determine all estimates.

        Raises:
            DataError: If they do not.
        """
        if not np.isfinite(sums).all():
            raise overflowing(v.name for v in self.scope)
        if choosing and count <= 1.0:
            raise DataError(
                f"one row determines neither the noise of {self.child.name!r} nor the scale of "
                "its weights",
                "use more rows, or give both scale= and noise=",
            )

    def doubt(self, statistics: Statistics) -> AdvisedWarning | None:
        """None: the posterior accounts for uncertain estimates."""
        return None

    def log_prior(self, prior: Any) -> Tensor:
        """Zero: see :meth:`maximize`."""
        return self.bias.new_zeros(())

    def accepts(self, prior: Any) -> bool:
        """False: the weights have their own prior."""
        return False

    def _mean(self, z: Tensor) -> Tensor:
        return z @ torch.cat([self.weight, self.bias.reshape(1)])

    def _variance(self, z: Tensor) -> Tensor:
        spread = self.spread.to(z)
        return self.covariance + ((z @ spread) * z).sum(dim=-1)

    def _log_density(self, x: Tensor, values: Mapping[Hashable, Tensor]) -> Tensor:
        features = self._features(values).to(x)
        missing = x[:, 0].isnan()
        self._check_features(features[~missing])
        z = torch.cat([features.nan_to_num(), torch.ones_like(x[:, :1])], dim=1)
        normal = Normal(self._mean(z), self._variance(z).sqrt())
        logs: Tensor = normal.log_prob(x[:, 0].nan_to_num())  # type: ignore[no-untyped-call]
        return torch.where(missing, torch.zeros_like(logs), logs).unsqueeze(1)


@dataclass(frozen=True)
class _Units:
    """Typical spreads of the features and of the child, in which sums do not overflow.

    Attributes:
        features: Root of the mean variance of the features, which have one prior.
        child: Standard deviation of the child.
    """

    features: float
    child: float

    @classmethod
    def of(cls, count: float, zz: np.ndarray, yz: np.ndarray, yy: float) -> _Units:
        """Measure them; one where nothing varies."""
        mean, centre = zz[-1, :-1] / count, yz[-1] / count
        spread = np.diagonal(zz)[:-1] / count - mean**2
        return cls(
            _root(float(spread.mean()) if spread.size else 0.0), _root(yy / count - centre**2)
        )

    def without(self, zz: np.ndarray, yz: np.ndarray, yy: float) -> Sums:
        """The sums in these units; see :class:`_Evidence`."""
        units = self._of_features(len(yz))
        return zz / units / units[:, None], yz / units / self.child, yy / self.child / self.child

    def restored(self, mean: np.ndarray, spread: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mean and covariance of weights and bias in the units of the data."""
        factor = self.child / self._of_features(len(mean))
        return mean * factor, spread * factor * factor[:, None]

    def _of_features(self, size: int) -> np.ndarray:
        return np.append(np.full(size - 1, self.features), 1.0)


def _root(variance: float) -> float:
    return float(np.sqrt(variance)) if variance > 0 else 1.0


class _Evidence:
    """Log density of data as a function of the prior's scale and the noise.

    Args:
        count: Number of rows.
        zz: ``(F + 1, F + 1)`` sums of products of features, the last of them one.
        yz: ``(F + 1,)`` sums of products with the child.
        yy: Sum of its squares.
    """

    def __init__(self, count: float, zz: np.ndarray, yz: np.ndarray, yy: float) -> None:
        self.count, self.zz, self.yz = count, zz, yz
        mean, centre = zz[-1, :-1] / count, yz[-1] / count
        scatter = zz[:-1, :-1] - count * np.outer(mean, mean)
        values, vectors = np.linalg.eigh(scatter)
        self.values = np.maximum(values, 0.0)
        self.squares = (vectors.T @ (yz[:-1] - count * centre * mean)) ** 2
        self.total = max(yy - count * centre**2, 0.0)

    def log(self, scale: float, noise: float) -> float:
        """The log density, with the bias integrated out under a flat prior."""
        ratio = noise / scale**2
        left = self.total - (self.squares / (self.values + ratio)).sum()
        determinant = np.log1p(self.values / ratio).sum()
        terms = (self.count - 1.0) * np.log(2.0 * np.pi * noise) + np.log(self.count)
        return float(-0.5 * (terms + determinant + left / noise))

    def maximized(self, scale: float | None, noise: float | None) -> tuple[float, float]:
        """The scale and noise of largest evidence; given values are kept.

        Each iteration re-estimates both from the effective number of parameters, until convergence.
        """
        least = 1e-12 * self.total / self.count or 1e-300
        s = 1.0 if scale is None else scale
        v = max(self.total / self.count, least) if noise is None else noise
        if scale is None and self.values.any():
            s = float(np.sqrt(max(self.total, least) / max(self.values.sum(), 1e-300)))
        for _ in range(_ROUNDS):
            ratio = v / s**2
            effective = float((self.values / (self.values + ratio)).sum())
            shrunk = self.squares / (self.values + ratio) ** 2
            weights = float(shrunk.sum())
            misfit = self.total - float((shrunk * (self.values + 2.0 * ratio)).sum())
            before = s, v
            if noise is None:
                v = max(misfit / max(self.count - 1.0 - effective, 1e-6), least)
            if scale is None:
                s = float(np.sqrt(max(weights / max(effective, 1e-12), 1e-24)))
            if abs(s - before[0]) <= _AT_REST * s and abs(v - before[1]) <= _AT_REST * v:
                break
        return s, v

    def posterior(self, scale: float, noise: float) -> tuple[np.ndarray, np.ndarray]:
        """Mean and covariance of weights and bias."""
        precision = self.zz / noise
        size = len(precision) - 1
        precision[np.arange(size), np.arange(size)] += scale**-2
        spread = np.linalg.inv(precision)
        spread = (spread + spread.T) / 2.0
        return spread @ self.yz / noise, spread
