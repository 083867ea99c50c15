"""Covariance matrices without restriction, one for each configuration or one for all."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.distributions import Distribution, MultivariateNormal

from pgnn.errors import DataError, ModelError, Unsupported
from pgnn.factors.conditionals.covariance import (
    Covariance,
    independent_log_density,
    log_normalizer,
    whitened_square,
)
from pgnn.factors.conditionals.exponential_family import LEAST_COUNT
from pgnn.factors.conditionals.incomplete_normal import expected_moments, log_density
from pgnn.factors.conditionals.ledoit_wolf import LedoitWolf
from pgnn.factors.finite import all_finite
from pgnn.limits import Interval, check_real

FULL_EXPANDED = 1e6
"""Largest sum of squares, in standard deviations, that may be expanded: ten digits are left."""
SYMMETRY = 1e-6
"""How far a given matrix may be from symmetric, relative to its largest entry."""


@dataclass(frozen=True)
class Full(Covariance):
    r"""Any covariance matrix for each configuration; natural numbers are matrices ``(D, D)``.

    The unconstrained numbers are the lower triangle of :math:`L`, where
    :math:`\Sigma = L L^\top`, row by row, with the logs of the diagonal.

    Args:
        min_variance: Lower bound on the eigenvalues of an estimate; see :class:`Covariance`.
            Smaller eigenvalues are raised to it, which maximises the likelihood subject to the
            bound.
        shrinkage: Factor by which correlations of estimates are reduced, one for all or one for
            each configuration; or :class:`LedoitWolf`, which estimates it from complete rows.
            Estimates are then not maximum likelihood estimates, and :class:`EM` stops when the
            likelihood decreases for that reason.

    Raises:
        ModelError: If the least variance is not positive, or the share not between 0 and 1.

    References:
        Friedman (1989), Regularized discriminant analysis.

    Example:
        >>> Full().unconstrained_tail(3)
        (6,)
    """

    shrinkage: float | tuple[float, ...] | LedoitWolf = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.shrinkage, LedoitWolf):
            several = isinstance(self.shrinkage, tuple | list)
            for share in self.shrinkage if several else [self.shrinkage]:  # type: ignore[union-attr]
                check_real("shrinkage", share, Interval(0.0, 1.0))

    def of_rows(self, rows: Tensor, weights: Tensor) -> Full:
        """The form with the shares that :class:`LedoitWolf` finds, of configurations or of all."""
        rule = self.shrinkage
        if not isinstance(rule, LedoitWolf):
            return self
        if not all_finite(rows):
            raise DataError(
                "LedoitWolf() is about complete rows",
                "drop those with missing numbers, or give the share to be taken away, such as "
                "shrinkage=0.1",
            )
        counts = weights.sum(dim=0).clamp(min=LEAST_COUNT)
        parts = [(rows - w @ rows / n, w) for w, n in zip(weights.T, counts, strict=True)]
        if self.tied:
            pooled = [
                torch.cat([part[w > 0] for part, w in parts]),
                torch.cat([w[w > 0] for _, w in parts]),
            ]
            return replace(self, shrinkage=rule.share(*pooled))
        return replace(self, shrinkage=tuple(rule.share(*part) for part in parts))

    def _shrunk(self, matrices: Tensor) -> Tensor:
        """Covariances with the share of their correlations taken away."""
        if isinstance(self.shrinkage, LedoitWolf):
            raise Unsupported(
                "LedoitWolf() finds what to take away from complete rows with known classes, by "
                "MaximumLikelihood()",
                "with others give the share, such as shrinkage=0.1",
            )
        share = torch.tensor(self.shrinkage, dtype=matrices.dtype, device=matrices.device)
        variances = torch.diag_embed(matrices.diagonal(dim1=-2, dim2=-1))
        return torch.lerp(matrices, variances, share.reshape(-1, 1, 1))

    def tail(self, size: int) -> tuple[int, ...]:
        """``(D, D)``."""
        return (size, size)

    def unconstrained_tail(self, size: int) -> tuple[int, ...]:
        """``(D (D + 1) / 2,)``."""
        return (size * (size + 1) // 2,)

    def constrain(self, raw: Tensor, size: int) -> Tensor:
        """Matrices of unconstrained numbers."""
        factor = self.cholesky(raw, size)
        matrices: Tensor = factor @ factor.mT
        return matrices

    def unconstrain(self, natural: Tensor) -> Tensor:
        """Cholesky factors with the logs of their diagonals, as vectors."""
        size = natural.shape[-1]
        scale = natural.abs().amax(dim=(-2, -1), keepdim=True)
        if bool(((natural - natural.mT).abs() > SYMMETRY * scale).any()):
            raise ModelError("covariance matrices must be symmetric")
        factor, info = torch.linalg.cholesky_ex(natural)
        # rounding lets singular matrices pass: a pivot lost in it is none
        pivots = factor.diagonal(dim1=-2, dim2=-1).square()
        lost = pivots <= 4 * size * torch.finfo(natural.dtype).eps * natural.diagonal(
            dim1=-2, dim2=-1
        )
        bad = ((info > 0) | lost.any(dim=-1)).reshape(-1)
        if bool(bad.any()):
            number = int(bad.int().argmax())
            least = torch.linalg.eigvalsh(natural.reshape(-1, size, size)[number])[0].item()
            raise ModelError(
                f"covariance matrix number {number} is singular or not positive definite: its "
                f"least eigenvalue is {least:.3g}",
                "leave out dimensions that follow from others, or add a small variance to its "
                "diagonal",
            )
        rows, columns = torch.tril_indices(size, size)
        diagonal = rows == columns
        packed: Tensor = factor[..., rows, columns]
        packed[..., diagonal] = packed[..., diagonal].log()
        return packed

    def cholesky(self, raw: Tensor, size: int) -> Tensor:
        """Factors of unconstrained numbers."""
        rows, columns = torch.tril_indices(size, size, device=raw.device)
        numbers = torch.where(rows == columns, raw.exp(), raw)
        flat = raw.new_zeros(*raw.shape[:-1], size * size)
        flat = flat.index_copy(-1, rows * size + columns, numbers)
        return flat.reshape(*raw.shape[:-1], size, size)

    def log_density(self, x: Tensor, mean: Tensor, raw: Tensor) -> Tensor:
        """Log densities, one matrix product for each pattern of the observations."""
        factor = self.cholesky(raw, x.shape[1])
        if all_finite(x):
            return normal_log_density(x, mean, factor)
        hole = x.isnan().any(dim=1)
        table = x.new_zeros(len(x), len(mean))
        whole, partly = (~hole).nonzero()[:, 0], hole.nonzero()[:, 0]
        if len(whole):
            table = table.index_copy(0, whole, normal_log_density(x[whole], mean, factor))
        return table.index_copy(0, partly, log_density(x[partly], mean, factor @ factor.mT))

    def moments(self, x: Tensor, w: Tensor, mean: Tensor, raw: Tensor) -> tuple[Tensor, Tensor]:
        """Weighted sums; of incomplete rows their expectations."""
        if all_finite(x):
            return self._complete_moments(x, w)
        hole = x.isnan().any(dim=1)
        first, second = self._complete_moments(x[~hole], w[~hole])
        if bool(hole.any()):
            matrices = self.constrain(raw, x.shape[1])
            more, products_of_more = expected_moments(x[hole], w[hole], mean, matrices)
            first, second = first + more, second + self.pool(products_of_more)
        return first, second

    def _complete_moments(self, x: Tensor, w: Tensor) -> tuple[Tensor, Tensor]:
        """Moments of rows without a hole."""
        totals = w.sum(dim=1, keepdim=True) if self.tied else w
        if totals.shape[1] == 1:
            return w.t() @ x, ((x * totals).t() @ x).unsqueeze(0)
        packed = x.new_zeros(totals.shape[1], x.shape[1] * (x.shape[1] + 1) // 2)
        for rows, part in products(x):
            packed.addmm_(totals[rows].t(), part.t())
        return w.t() @ x, unpacked(packed, x.shape[1])

    def product(self, a: Tensor, b: Tensor) -> Tensor:
        """Whole products."""
        return self.pool(a @ b.mT)

    def misfit(self, natural: Tensor, scatter: Tensor) -> Tensor:
        """Traces of quotients."""
        quotient: Tensor = torch.linalg.solve(natural, scatter)
        return quotient.diagonal(dim1=-2, dim2=-1).sum(dim=-1)

    def restrict(self, matrix: Tensor) -> Tensor:
        """The matrix."""
        return matrix.unsqueeze(0)

    def estimate(self, scatter: Tensor, weight: Tensor, floor: Tensor) -> Tensor:
        """Scatter over weight, eigenvalues raised that are small in units of the floor."""
        matrices = self._shrunk(scatter / weight[:, None, None])
        unit = floor.sqrt().unsqueeze(-1) * floor.sqrt()
        values, vectors = torch.linalg.eigh((matrices + matrices.mT) / 2 / unit)
        if bool((values >= 1.0).all()):
            return (matrices + matrices.mT) / 2
        raised = values.clamp(min=1.0).unsqueeze(-2)
        better: Tensor = (vectors * raised) @ vectors.mT * unit
        return better

    def at_floor(self, natural: Tensor, floor: Tensor) -> Tensor:
        """``(C,)`` whether an eigenvalue, in units of the floor, is the least."""
        unit = floor.sqrt().unsqueeze(-1) * floor.sqrt()
        least: Tensor = torch.linalg.eigvalsh(natural / unit)[..., 0]
        return least <= 1.001

    def variances(self, natural: Tensor, size: int) -> Tensor:
        """The diagonals."""
        return natural.diagonal(dim1=-2, dim2=-1)

    def distribution(self, mean: Tensor, raw: Tensor) -> Distribution:
        """A torch ``MultivariateNormal``."""
        return MultivariateNormal(mean, scale_tril=self.cholesky(raw, mean.shape[-1]))


@dataclass(frozen=True)
class Tied(Full):
    """One covariance matrix ``(D, D)`` for all configurations, as in linear discriminants.

    Args:
        min_variance: Least eigenvalue of an estimate; see :class:`Covariance`.
        shrinkage: Share of the correlations that is taken away from estimates; see :class:`Full`.

    Example:
        >>> Tied().lead((3,)), Full().lead((3,))
        ((), (3,))
    """

    tied = True

    def log_density(self, x: Tensor, mean: Tensor, raw: Tensor) -> Tensor:
        """Log densities; complete rows are whitened once for all configurations."""
        if not all_finite(x):
            return super().log_density(x, mean, raw)
        factor = self.cholesky(raw, x.shape[1])[0]
        white = torch.linalg.solve_triangular(factor, torch.cat([x, mean]).t(), upper=False).t()
        rows, means = white.split([len(x), len(mean)])
        log_det = factor.diagonal().log().sum()
        return independent_log_density(rows, means, torch.zeros_like(means)) - log_det


def normal_log_density(x: Tensor, mean: Tensor, factor: Tensor) -> Tensor:
    """Log densities ``(N, K)`` of complete rows, for factors ``(K or 1, D, D)``.

    Squares are expanded where that loses no digits and nobody differentiates: half the work.
    """
    size = x.shape[1]
    inverse = torch.linalg.solve_triangular(
        factor, torch.eye(size, dtype=x.dtype, device=x.device), upper=False
    ).expand(len(mean), -1, -1)
    offset = (inverse @ mean.unsqueeze(-1)).squeeze(-1)
    log_scale = factor.diagonal(dim1=-2, dim2=-1).log()
    constant = log_normalizer(log_scale)
    if not (torch.is_grad_enabled() and (x.requires_grad or inverse.requires_grad)):
        precision = inverse.mT @ inverse
        if len(x) >= size and _keeps_digits(x, mean, precision):
            constant = constant - 0.5 * offset.square().sum(dim=1)
            return _expanded_log_density(
                x, precision, (inverse.mT @ offset[..., None])[..., 0], constant
            )
    return constant - 0.5 * whitened_square(x, inverse, offset)


def _keeps_digits(x: Tensor, mean: Tensor, precision: Tensor) -> bool:
    """Whether terms of expanded squares are small enough."""
    far = torch.maximum(x.abs().amax(dim=0), mean.abs().amax(dim=0))
    most = (precision.abs() * far * far[:, None]).sum(dim=(1, 2)).max()
    return bool(most <= FULL_EXPANDED)


def _expanded_log_density(x: Tensor, precision: Tensor, linear: Tensor, constant: Tensor) -> Tensor:
    """``-x'Px / 2 + s'x + c`` for each row and configuration, ``(N, K)``."""
    rows, columns = packed_index(x.shape[1], x.device)
    twice = torch.where(rows == columns, -0.5, -1.0).to(x)
    weight = precision[:, rows, columns] * twice
    table = linear @ x.t() + constant.unsqueeze(1)
    for part, squares in products(x):
        table[:, part].addmm_(weight, squares)
    return table.t()


def products(x: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """Yield products of all pairs of columns ``(D (D + 1) / 2, n)`` of some rows after others.

    What was yielded is written over by the next.

    Args:
        x: ``(N, D)`` rows; as many at a time as have products that stay in the cache.
    """
    size = x.shape[1]
    pairs = size * (size + 1) // 2
    step = min(len(x), max(64, 2**19 // max(1, pairs)))
    space = x.new_empty(pairs * step)
    for first in range(0, len(x), max(1, step)):
        rows = slice(first, first + step)
        columns = x[rows].t().contiguous()
        pairs_of_columns = space[: pairs * columns.shape[1]].view(pairs, -1)
        begin = 0
        for i in range(size):
            end = begin + size - i
            torch.mul(columns[i:], columns[i], out=pairs_of_columns[begin:end])
            begin = end
        yield rows, pairs_of_columns


def packed_index(size: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return the rows and columns of a matrix that :func:`products` makes, in their order."""
    rows, columns = torch.triu_indices(size, size, device=device)
    return rows, columns


def unpacked(packed: Tensor, size: int) -> Tensor:
    """Return symmetric matrices ``(C, D, D)`` of sums of :func:`products`, ``(C, ...)``."""
    rows, columns = packed_index(size, packed.device)
    matrices = packed.new_zeros(len(packed), size, size)
    matrices[:, rows, columns] = packed
    matrices[:, columns, rows] = packed
    return matrices


def patterns(x: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the observed columns of some rows, and these rows, for each pattern of ``NaN``."""
    observed, label = torch.unique(~x.isnan(), dim=0, return_inverse=True)
    order = label.argsort(stable=True)
    counts = torch.bincount(label, minlength=len(observed)).tolist()
    for pattern, rows in zip(observed, order.split(counts), strict=True):
        yield pattern.nonzero().squeeze(1), rows


def completions(
    x: Tensor, mean: Tensor, matrices: Tensor
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    r"""Yield rows, their expectations under each configuration, and what these leave uncertain.

    .. math:: E[x_m \mid x_o] = \mu_m + \Sigma_{mo} \Sigma_{oo}^{-1} (x_o - \mu_o), \qquad
        \mathrm{Cov}[x_m \mid x_o] = \Sigma_{mm} - \Sigma_{mo} \Sigma_{oo}^{-1} \Sigma_{om}

    Args:
        x: ``(N, D)`` rows with holes.
        mean: ``(K, D)``, or ``(N, K, D)`` means that depend on the row.
        matrices: ``(K or 1, D, D)`` covariances.

    Yields:
        ``(n,)`` numbers of rows with one pattern of holes; ``(n, K, D)`` expectations; and
        ``(K or 1, D, D)`` covariances, zero where something was observed.
    """
    size = x.shape[1]
    for observed, rows in patterns(x):
        centre = mean[rows] if mean.dim() == 3 else mean.unsqueeze(0)
        hidden = torch.ones(size, dtype=torch.bool, device=x.device)
        hidden[observed] = False
        holes = hidden.nonzero().squeeze(1)
        inner = matrices[:, observed][:, :, observed]
        across = matrices[:, observed][:, :, holes]
        gain = torch.linalg.solve(inner, across)
        value = x[rows][:, None, :]
        filled = torch.where(hidden, centre, value).expand(-1, centre.shape[1], -1).clone()
        error = value[..., observed] - centre[..., observed]
        filled[..., holes] += torch.einsum(
            "nko,kom->nkm", error, gain.expand(centre.shape[1], -1, -1)
        )
        spread = torch.zeros_like(matrices)
        left = matrices[:, holes][:, :, holes] - across.mT @ gain
        spread[:, holes.unsqueeze(1), holes] = left
        yield rows, filled, spread
