"""Forms of covariances of normal distributions: parameters, estimation, lower bounds."""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.distributions import Distribution, Independent, Normal

from pgnn.errors import ModelError
from pgnn.factors.finite import all_finite
from pgnn.factors.piece import Restorable
from pgnn.limits import POSITIVE, check_settings

LOG_2PI = math.log(2.0 * math.pi)
RELATIVE_FLOOR = 1e-6
"""Least variance of an estimate, relative to that of the data."""


@dataclass(frozen=True)
class Covariance(Restorable):
    """The form of a covariance for each of ``K`` configurations.

    A covariance has three representations: *matrices* ``(C, D, D)``; *natural* parameters, as given
    by users, ``(C, *tail)``; and *unconstrained* parameters for optimisers. ``C`` is ``K``, or 1 if
    all configurations share one covariance.

    Args:
        min_variance: Lower bound on the variance of estimates in any direction, in squared units of
            the variable; if not given, a millionth of the variance of the data in each dimension.
            Estimates maximise the likelihood subject to this bound.

    Raises:
        ModelError: If it is not positive.
    """

    min_variance: float | None = None

    tied = False
    """Whether all configurations share one covariance."""
    shared = False
    """Whether all dimensions share one variance."""

    def __post_init__(self) -> None:
        check_settings(self, min_variance=POSITIVE)

    def floor(self, variance: Tensor) -> Tensor:
        """Return the lower bounds ``(D,)`` on variances.

        Args:
            variance: ``(D,)`` variances of the data; zeros are replaced by one.
        """
        if self.min_variance is not None:
            return torch.full_like(variance, self.min_variance)
        return RELATIVE_FLOOR * torch.where(variance > 0, variance, 1.0)

    def of_rows(self, rows: Tensor, weights: Tensor) -> Covariance:
        """Return the form with all settings that depend on the rows.

        Args:
            rows: ``(N, D)``, ``NaN`` where not observed.
            weights: ``(N, K)`` weights of the rows for each configuration.
        """
        return self

    @abstractmethod
    def tail(self, size: int) -> tuple[int, ...]:
        """Return the shape of the natural parameters of one covariance of ``D`` dimensions."""

    @abstractmethod
    def unconstrained_tail(self, size: int) -> tuple[int, ...]:
        """Return the shape of the unconstrained parameters of one covariance."""

    @abstractmethod
    def constrain(self, raw: Tensor, size: int) -> Tensor:
        """Return natural parameters given unconstrained ones; differentiable."""

    @abstractmethod
    def unconstrain(self, natural: Tensor) -> Tensor:
        """Return unconstrained parameters given natural ones.

        Raises:
            ModelError: If a covariance is not symmetric and positive definite.
        """

    @abstractmethod
    def cholesky(self, raw: Tensor, size: int) -> Tensor:
        """Lower triangular factors ``(C, D, D)``, differentiable."""

    @abstractmethod
    def log_density(self, x: Tensor, mean: Tensor, raw: Tensor) -> Tensor:
        """Log densities ``(N, K)`` of rows ``(N, D)`` about means ``(K, D)``, without ``NaN``."""

    @abstractmethod
    def moments(self, x: Tensor, w: Tensor, mean: Tensor, raw: Tensor) -> tuple[Tensor, Tensor]:
        """Weighted sums of rows ``(K, D)`` and of their products ``(C, *tail)``.

        Missing values (``NaN``) are replaced by their expectations given the rest of the row.
        """

    @abstractmethod
    def product(self, a: Tensor, b: Tensor) -> Tensor:
        r"""Return the part of :math:`a_k b_k^\top` that this form uses, for ``(K, D, F)`` each."""

    @abstractmethod
    def misfit(self, natural: Tensor, scatter: Tensor) -> Tensor:
        r"""Return ``(C,)`` traces :math:`\mathrm{tr}(\Sigma^{-1} S)` of scatters ``(C, *tail)``."""

    def log_determinant(self, raw: Tensor, size: int) -> Tensor:
        """Return ``(C,)`` log determinants of covariances, from unconstrained parameters."""
        return 2.0 * self.cholesky(raw, size).diagonal(dim1=-2, dim2=-1).log().sum(dim=-1)

    @abstractmethod
    def restrict(self, matrix: Tensor) -> Tensor:
        """Return the part of one matrix ``(D, D)`` that this form uses, ``(1, *tail)``."""

    @abstractmethod
    def estimate(self, scatter: Tensor, weight: Tensor, floor: Tensor) -> Tensor:
        """Return natural parameters of the estimated covariances for scatters ``(C, *tail)``.

        Args:
            scatter: Weighted sums of products.
            weight: ``(C,)`` sums of the weights.
            floor: ``(D,)`` lower bounds on variances.
        """

    def at_floor(self, natural: Tensor, floor: Tensor) -> Tensor:
        """Return ``(C,)`` whether covariances ``(C, *tail)`` are at the lower bound."""
        least = self.variances(natural, len(floor)) / (1.001 * floor)
        return (least <= 1.0).any(dim=-1)

    @abstractmethod
    def variances(self, natural: Tensor, size: int) -> Tensor:
        """Return ``(C, D)`` variances, from natural parameters or sums of products."""

    @abstractmethod
    def distribution(self, mean: Tensor, raw: Tensor) -> Distribution:
        """Return normals, given means ``(*batch, D)`` and unconstrained ``(*batch, *tail)``."""

    def pool(self, numbers: Tensor) -> Tensor:
        """Sum over the configurations ``(K, ...)`` that share a covariance."""
        return numbers.sum(dim=0, keepdim=True) if self.tied else numbers

    def lead(self, configurations: tuple[int, ...]) -> tuple[int, ...]:
        """Return the leading shape of the parameters of all covariances."""
        return () if self.tied else configurations


def check_positive(variances: Tensor) -> None:
    """Check variances.

    Raises:
        ModelError: If one is not positive.
    """
    if not bool((variances > 0).all()):
        raise ModelError(f"variances must be positive, got {variances.min().item():g}")


def log_normalizer(log_scale: Tensor) -> Tensor:
    """Log normaliser of a normal density, from log standard deviations ``(..., D)``."""
    size = log_scale.shape[-1]
    return -log_scale.sum(dim=-1) - 0.5 * size * LOG_2PI


def whitened_square(rows: Tensor, matrix: Tensor, offset: Tensor) -> Tensor:
    r"""Return :math:`\|R_k u_n - o_k\|^2` as ``(N, K)``, by blocks of rows that fit the cache.

    Args:
        rows: ``(N, E)``.
        matrix: ``(K, D, E)`` matrices :math:`R_k`.
        offset: ``(K, D)`` vectors :math:`o_k`.
    """
    K, D, E = matrix.shape
    flat = matrix.reshape(K * D, E).t().contiguous()
    shift = -offset.reshape(K * D)
    block = max(1, 2**18 // max(1, K * D))
    parts = [
        torch.addmm(shift, part, flat).reshape(len(part), K, D).square().sum(dim=-1)
        for part in torch.split(rows, block)
    ]
    return torch.cat(parts) if len(parts) != 1 else parts[0]


EXPANDED = 1e4
"""Largest sum of squares, in standard deviations, that may be expanded: digits are lost to it."""


@dataclass(frozen=True)
class Diagonal(Covariance):
    """Diagonal covariances; natural parameters are ``(D,)`` variances.

    The unconstrained parameters are log standard deviations.

    Args:
        min_variance: Lower bound on estimated variances; see :class:`Covariance`.

    Example:
        >>> Diagonal().constrain(torch.tensor([[0.0, 0.5]]), 2)
        tensor([[1.0000, 2.7183]])
    """

    def tail(self, size: int) -> tuple[int, ...]:
        """``(D,)``."""
        return (size,)

    def unconstrained_tail(self, size: int) -> tuple[int, ...]:
        """As :meth:`tail`."""
        return self.tail(size)

    def constrain(self, raw: Tensor, size: int) -> Tensor:
        """Variances."""
        return (2.0 * raw).exp()

    def unconstrain(self, natural: Tensor) -> Tensor:
        """Logs of standard deviations."""
        check_positive(natural)
        return 0.5 * natural.log()

    def cholesky(self, raw: Tensor, size: int) -> Tensor:
        """Diagonal matrices of standard deviations."""
        return torch.diag_embed(self._log_scale(raw, size).exp())

    def _log_scale(self, raw: Tensor, size: int) -> Tensor:
        """``(..., D)`` logs of standard deviations."""
        return raw

    def log_density(self, x: Tensor, mean: Tensor, raw: Tensor) -> Tensor:
        """Log densities by one matrix product; see :func:`independent_log_density`."""
        return independent_log_density(x, mean, self._log_scale(raw, x.shape[1]))

    def moments(self, x: Tensor, w: Tensor, mean: Tensor, raw: Tensor) -> tuple[Tensor, Tensor]:
        """Weighted sums of values and of their squares."""
        if all_finite(x):
            return w.t() @ x, self._gather(w.t() @ x.square())
        hole = x.isnan()
        x = x.masked_fill(hole, 0.0)
        unobserved = w.t() @ hole.to(x.dtype)
        variance = (2.0 * self._log_scale(raw, x.shape[1])).exp()
        first = w.t() @ x + unobserved * mean
        return first, self._gather(w.t() @ x.square() + unobserved * (mean.square() + variance))

    def _gather(self, squares: Tensor) -> Tensor:
        """Sums ``(K, D)`` pooled for each variance."""
        return squares

    def product(self, a: Tensor, b: Tensor) -> Tensor:
        """Diagonals of products."""
        return self._gather((a * b).sum(dim=-1))

    def misfit(self, natural: Tensor, scatter: Tensor) -> Tensor:
        """Sums over dimensions, in units of the variances."""
        return (scatter / natural).reshape(len(natural), -1).sum(dim=1)

    def log_determinant(self, raw: Tensor, size: int) -> Tensor:
        """Sums of logs of variances."""
        return 2.0 * self._log_scale(raw, size).sum(dim=-1)

    def restrict(self, matrix: Tensor) -> Tensor:
        """The diagonal."""
        return self._gather(matrix.diagonal().unsqueeze(0))

    def estimate(self, scatter: Tensor, weight: Tensor, floor: Tensor) -> Tensor:
        """Scatter divided by weight, with the lower bound."""
        return (scatter / weight.unsqueeze(1)).maximum(floor)

    def variances(self, natural: Tensor, size: int) -> Tensor:
        """The natural parameters."""
        return natural

    def distribution(self, mean: Tensor, raw: Tensor) -> Distribution:
        """Independent torch ``Normal`` distributions."""
        scale = self._log_scale(raw, mean.shape[-1]).exp()
        return Independent(Normal(mean, scale, validate_args=False), 1, validate_args=False)


@dataclass(frozen=True)
class Spherical(Diagonal):
    """Spherical covariances; natural parameters are single variances.

    The unconstrained parameters are log standard deviations.

    Args:
        min_variance: Lower bound on estimated variances; see :class:`Covariance`.

    Example:
        >>> Spherical().cholesky(torch.zeros(1), 2)
        tensor([[[1., 0.],
                 [0., 1.]]])
    """

    shared = True

    def tail(self, size: int) -> tuple[int, ...]:
        """``()``."""
        return ()

    def _log_scale(self, raw: Tensor, size: int) -> Tensor:
        return raw.unsqueeze(-1).expand(*raw.shape, size)

    def _gather(self, squares: Tensor) -> Tensor:
        return squares.sum(dim=-1)

    def estimate(self, scatter: Tensor, weight: Tensor, floor: Tensor) -> Tensor:
        """Scatter divided by weight and dimensions, with the lower bound."""
        return (scatter / (len(floor) * weight)).maximum(floor.mean())

    def variances(self, natural: Tensor, size: int) -> Tensor:
        """The same variance for each dimension."""
        return natural.unsqueeze(-1).expand(*natural.shape, size)

    def at_floor(self, natural: Tensor, floor: Tensor) -> Tensor:
        """Return ``(C,)`` whether variances ``(C,)`` are at the lower bound."""
        return natural <= 1.001 * floor.mean()


def independent_log_density(x: Tensor, mean: Tensor, log_scale: Tensor) -> Tensor:
    """Return log densities ``(N, K)`` of rows ``(N, D)`` whose dimensions are independent.

    Squares are expanded, so that one matrix product suffices; if that would be inaccurate, because
    rows are far from zero in units of the standard deviation, distances are computed elementwise.
    """
    hole = x.isnan()
    holes = bool(hole.any())
    observed = (~hole).to(x.dtype) if holes else None
    x = x.masked_fill(hole, 0.0) if holes else x
    precision = (-2.0 * log_scale).exp()
    centred = precision * mean
    constant = -0.5 * (centred * mean + LOG_2PI) - log_scale
    far = x.detach().abs().amax(dim=0).square() + mean.detach().square()
    if not bool((precision.detach() * far).sum(dim=1).max() <= EXPANDED):
        return _one_by_one(x, observed, mean, log_scale)
    weight = torch.cat([-0.5 * precision, centred], dim=1)
    features = torch.cat([x.square(), x], dim=1)
    if observed is None:
        return torch.addmm(constant.sum(dim=1), features, weight.t())
    return torch.cat([features, observed], dim=1) @ torch.cat([weight, constant], dim=1).t()


def _one_by_one(x: Tensor, observed: Tensor | None, mean: Tensor, log_scale: Tensor) -> Tensor:
    """Log densities ``(N, K)`` from elementwise distances."""
    inverse = (-log_scale).exp()
    constant = 2.0 * log_scale + LOG_2PI
    total = torch.zeros_like(x[:, :1])
    for d in range(x.shape[1]):
        square = ((x[:, d : d + 1] - mean[:, d]) * inverse[:, d]).square() + constant[:, d]
        total = total + (square if observed is None else square * observed[:, d : d + 1])
    return -0.5 * total
