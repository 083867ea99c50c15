"""Guides: families of distributions for variational approximations of a posterior."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn
from torch.distributions import LowRankMultivariateNormal

from pgnn.errors import ChecksArguments, ModelError
from pgnn.limits import POSITIVE, check_settings, check_size

if TYPE_CHECKING:
    from pgnn.inference.continuous.densities import SummedDensity

_LOG_2PI = math.log(2.0 * math.pi)


class At(NamedTuple):
    """Rows of evidence at which a guide is evaluated.

    Attributes:
        rows: ``(R,)`` indices of the rows.
        features: ``(R, F)`` evidence of the rows as features.
        density: Density of the model given the evidence, for guides that are part of the model.
    """

    rows: Tensor
    features: Tensor
    density: SummedDensity | None = None


class Approximation(nn.Module, ABC):
    """A family of distributions over ``D`` unconstrained coordinates of each row.

    Calling it with points ``(S, R, D)`` returns their log densities ``(S, R)``.

    Attributes:
        noise_size: Number ``E`` of standard normal variates of a draw.
        is_density: Whether the family has densities; a point mass has none.
    """

    noise_size: int
    is_density = True

    @abstractmethod
    def draw(self, noise: Tensor, at: At) -> Tensor:
        """Return draws ``(S, R, D)`` as a differentiable function of noise ``(S, R, E)``."""

    @abstractmethod
    def forward(self, z: Tensor, at: At) -> Tensor:
        """Return log densities ``(S, R)``."""


class Guide(metaclass=ChecksArguments):
    """Settings of a family of approximations of the posterior of the latent real variables."""

    @abstractmethod
    def start(self, rows: int, size: int) -> Approximation:
        """Return the initial approximation.

        Args:
            rows: Number of rows of evidence, each with separate parameters.
            size: Number ``D`` of unconstrained coordinates of a row.
        """


@dataclass(frozen=True)
class MeanFieldNormal(Guide):
    r"""Independent normal distributions, :math:`q(z) = \prod_d N(z_d; m_d, s_d^2)`.

    For a normal posterior with precision :math:`\Lambda`, the optimum has the exact means and the
    variances :math:`1 / \Lambda_{dd}`, which are too small if coordinates are correlated.

    Args:
        scale: Initial standard deviations of the unconstrained coordinates.

    References:
        Bishop (2006), Pattern Recognition and Machine Learning, section 10.1.2.

    Example:
        >>> sum(p.numel() for p in MeanFieldNormal().start(rows=1, size=3).parameters())
        6
    """

    scale: float = 0.1

    def __post_init__(self) -> None:
        check_settings(self, scale=POSITIVE)

    def start(self, rows: int, size: int) -> Approximation:
        """See :class:`Guide`."""
        return _Diagonal(rows, size, self.scale)


@dataclass(frozen=True)
class FullRankNormal(Guide):
    r"""A multivariate normal distribution, :math:`q(z) = N(z; m, L L^\top)`.

    Args:
        scale: Initial standard deviations of the unconstrained coordinates.

    References:
        Kucukelbir et al. (2017), Automatic differentiation variational inference, section 2.4.

    Example:
        >>> sum(p.numel() for p in FullRankNormal().start(rows=1, size=3).parameters())
        12
    """

    scale: float = 0.1

    def __post_init__(self) -> None:
        check_settings(self, scale=POSITIVE)

    def start(self, rows: int, size: int) -> Approximation:
        """See :class:`Guide`."""
        check_size("a triangular matrix for each row", rows * size**2,
                   advice="Use MeanFieldNormal()")  # fmt: skip
        return _Full(rows, size, self.scale)


@dataclass(frozen=True)
class LowRankNormal(Guide):
    r"""A normal distribution with covariance :math:`F F^\top + \mathrm{diag}(s^2)`.

    Args:
        rank: Number of columns of :math:`F`.
        scale: Initial standard deviations of the unconstrained coordinates.

    References:
        Ong, Nott and Smith (2018), Gaussian variational approximation with a factor covariance
        structure.

    Example:
        >>> sum(p.numel() for p in LowRankNormal(rank=1).start(rows=1, size=3).parameters())
        9
    """

    rank: int
    scale: float = 0.1

    def __post_init__(self) -> None:
        check_settings(self, scale=POSITIVE, rank=1)

    def start(self, rows: int, size: int) -> Approximation:
        """See :class:`Guide`."""
        check_size(f"{self.rank:,} columns", rows * size * self.rank, advice="Use a smaller rank")
        return _LowRank(rows, size, self.rank, self.scale)


@dataclass(frozen=True)
class Delta(Guide):
    r"""A point mass at the most probable values :math:`\arg\max_r p(r, e)`.

    The maximised density is that of the variables, not of their unconstrained coordinates.

    Example:
        >>> sum(p.numel() for p in Delta().start(rows=1, size=3).parameters())
        3
    """

    def start(self, rows: int, size: int) -> Approximation:
        """See :class:`Guide`."""
        return _Point(rows, size)


class _Diagonal(Approximation):
    def __init__(self, rows: int, size: int, scale: float) -> None:
        super().__init__()
        self.noise_size = size
        self.loc = nn.Parameter(torch.zeros(rows, size, dtype=torch.float64))
        self.log_scale = nn.Parameter(torch.full_like(self.loc, math.log(scale)))

    def draw(self, noise: Tensor, at: At) -> Tensor:
        return self.loc[at.rows] + self.log_scale[at.rows].exp() * noise

    def forward(self, z: Tensor, at: At) -> Tensor:
        return diagonal_log_prob(z, self.loc[at.rows], self.log_scale[at.rows])


class _Full(Approximation):
    def __init__(self, rows: int, size: int, scale: float) -> None:
        super().__init__()
        self.noise_size = size
        self.loc = nn.Parameter(torch.zeros(rows, size, dtype=torch.float64))
        start = math.log(scale) * torch.eye(size, dtype=torch.float64)
        self.raw = nn.Parameter(start.repeat(rows, 1, 1))

    def draw(self, noise: Tensor, at: At) -> Tensor:
        return self.loc[at.rows] + times(triangular(self.raw[at.rows]), noise)

    def forward(self, z: Tensor, at: At) -> Tensor:
        return triangular_log_prob(z, self.loc[at.rows], self.raw[at.rows])


class _LowRank(Approximation):
    def __init__(self, rows: int, size: int, rank: int, scale: float) -> None:
        super().__init__()
        self.noise_size, self.size = size + rank, size
        self.loc = nn.Parameter(torch.zeros(rows, size, dtype=torch.float64))
        self.log_scale = nn.Parameter(torch.full_like(self.loc, math.log(scale)))
        # the gradient vanishes at columns of zeros
        start = scale / math.sqrt(rank) * torch.randn(rows, size, rank, dtype=torch.float64)
        self.factor = nn.Parameter(0.1 * start)

    def draw(self, noise: Tensor, at: At) -> Tensor:
        independent, shared = noise[..., : self.size], noise[..., self.size :]
        spread = self.log_scale[at.rows].exp() * independent
        return self.loc[at.rows] + spread + times(self.factor[at.rows], shared)

    def forward(self, z: Tensor, at: At) -> Tensor:
        scale = (2 * self.log_scale[at.rows]).exp()
        distribution = LowRankMultivariateNormal(
            self.loc[at.rows], self.factor[at.rows], scale, validate_args=False
        )
        log_probs: Tensor = distribution.log_prob(z)  # type: ignore[no-untyped-call]
        return log_probs


class _Point(Approximation):
    is_density = False

    def __init__(self, rows: int, size: int) -> None:
        super().__init__()
        self.noise_size = size
        self.loc = nn.Parameter(torch.zeros(rows, size, dtype=torch.float64))

    def draw(self, noise: Tensor, at: At) -> Tensor:
        return self.loc[at.rows].expand(len(noise), -1, -1)

    def forward(self, z: Tensor, at: At) -> Tensor:
        return z.new_zeros(z.shape[:2])


def triangular(raw: Tensor) -> Tensor:
    """Return triangular matrices, given unconstrained ones with logs of the diagonal."""
    diagonal = raw.diagonal(dim1=-2, dim2=-1).exp()
    return raw.tril(-1) + torch.diag_embed(diagonal)


def diagonal_log_prob(z: Tensor, loc: Tensor, log_scale: Tensor) -> Tensor:
    """Return log densities ``(S, R)`` of independent normal variables."""
    white = (z - loc) * (-log_scale).exp()
    return (-0.5 * white.square() - log_scale - 0.5 * _LOG_2PI).sum(-1)


def triangular_log_prob(z: Tensor, loc: Tensor, raw: Tensor) -> Tensor:
    """Return log densities ``(S, R)`` of normal vectors with covariance :math:`L L^T`."""
    white = torch.linalg.solve_triangular(triangular(raw), (z - loc).permute(1, 2, 0), upper=False)
    log_det = raw.diagonal(dim1=-2, dim2=-1).sum(-1)
    square: Tensor = white.square().sum(1).T
    return -0.5 * square - log_det - 0.5 * z.shape[-1] * _LOG_2PI


def times(matrix: Tensor, noise: Tensor) -> Tensor:
    """Multiply matrices ``(R, D, E)`` by vectors ``(S, R, E)``."""
    return (matrix @ noise.unsqueeze(-1)).squeeze(-1)


@dataclass(frozen=True)
class Amortised(Guide):
    r"""A normal distribution whose parameters are computed from the evidence by an encoder.

    Args:
        encoder: Maps ``(R, F)`` features to ``(R, 2 D)`` numbers: means, then logs of standard
            deviations; or to ``(R, D + D (D + 1) / 2)``: means, then the rows of a triangular
            matrix :math:`L`, with logs on the diagonal. The features are the observed real
            variables (flattened; zero if missing), then an indicator for each state of the
            observed discrete ones, in the order of the variables of the model, then the inputs.
            Fitting the model trains the encoder; a query trains a copy.

    References:
        Kingma and Welling (2014), Auto-encoding variational Bayes.

    Example:
        >>> guide = Amortised(nn.Linear(4, 2).double())
        >>> at = At(torch.arange(5), torch.zeros(5, 4, dtype=torch.float64))
        >>> guide.start(rows=5, size=1).draw(torch.zeros(1, 5, 1).double(), at).shape
        torch.Size([1, 5, 1])
    """

    encoder: nn.Module

    def __post_init__(self) -> None:
        if not isinstance(self.encoder, nn.Module):
            raise ModelError(f"encoder must be a torch module, got {self.encoder!r}")

    def start(self, rows: int, size: int) -> Approximation:
        """See :class:`Guide`."""
        return _Encoded(self.encoder, size)


class _Encoded(Approximation):
    def __init__(self, encoder: nn.Module, size: int) -> None:
        super().__init__()
        self.noise_size, self.encoder = size, encoder

    def draw(self, noise: Tensor, at: At) -> Tensor:
        loc, scale = self._parameters_of(at)
        if scale.dim() == 2:
            return loc + scale.exp() * noise
        return loc + times(triangular(scale), noise)

    def forward(self, z: Tensor, at: At) -> Tensor:
        loc, scale = self._parameters_of(at)
        log_prob = diagonal_log_prob if scale.dim() == 2 else triangular_log_prob
        return log_prob(z, loc, scale)

    def _parameters_of(self, at: At) -> tuple[Tensor, Tensor]:
        """Return means, and log standard deviations ``(R, D)`` or raw triangles ``(R, D, D)``."""
        first = next((p for p in self.encoder.parameters()), at.features)
        D, R = self.noise_size, len(at.features)
        out = self.encoder(at.features.to(first)).double()
        if tuple(out.shape) == (R, 2 * D):
            return out[:, :D], out[:, D:]
        if tuple(out.shape) != (R, D + D * (D + 1) // 2):
            raise ModelError(
                f"the encoder must return {R} rows of {2 * D} numbers (means and logs of standard "
                f"deviations) or of {D + D * (D + 1) // 2} (means and a triangular matrix), got "
                f"{tuple(out.shape)}"
            )
        i, j = torch.tril_indices(D, D)
        return out[:, :D], out.new_zeros(R, D, D).index_put(
            (torch.arange(R).unsqueeze(1), i, j), out[:, D:]
        )
