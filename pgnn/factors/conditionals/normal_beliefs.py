"""Normal-inverse-Wishart distributions of means and covariances, updated and compared."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from pgnn.errors import ModelError
from pgnn.factors.conditionals.covariance import Covariance
from pgnn.factors.conditionals.normal_wishart import NormalWishart


class NormalBeliefs(NamedTuple):
    r"""Beliefs :math:`\mu \mid \Sigma \sim N(m, \Sigma / \kappa), \Sigma \sim W^{-1}(\Psi, \nu)`.

    For diagonal covariances each variance has its own one-dimensional beliefs; for spherical ones
    the variance shared by all dimensions has. A tied covariance is shared by all configurations, so
    ``C`` is 1, otherwise ``K``.

    Attributes:
        mean: ``(K, D)`` :math:`m`.
        confidence: ``(K,)`` :math:`\kappa`.
        degrees: ``(C,)`` :math:`\nu`.
        scale: ``(C, D, D)`` :math:`\Psi`; ``(C, D)`` for diagonal covariances, ``(C, 1)`` for
            spherical ones.
    """

    mean: Tensor
    confidence: Tensor
    degrees: Tensor
    scale: Tensor

    @property
    def diagonal(self) -> bool:
        """Whether beliefs are about variances instead of matrices."""
        return self.scale.dim() == 2

    @property
    def sharing(self) -> int:
        """Number of dimensions that share each variance."""
        return self.mean.shape[1] // self.scale.shape[1]

    def pool(self, numbers: Tensor) -> Tensor:
        """Sum values ``(K, ...)`` over the configurations that share a covariance."""
        return numbers if len(self.degrees) == len(numbers) else numbers.sum(dim=0, keepdim=True)

    @classmethod
    def of(
        cls, prior: NormalWishart | None, rows: Tensor, count: int, form: Covariance
    ) -> NormalBeliefs:
        """Return priors of some configurations.

        Args:
            prior: The given prior; by default a weak one about mean and covariance of the rows.
            rows: ``(N, D)`` rows, possibly none, ``NaN`` where not observed.
            count: Number of configurations.
            form: Form of their covariances.

        Raises:
            ModelError: If the prior is improper.
        """
        size, diagonal = rows.shape[1], len(form.tail(rows.shape[1])) < 2
        if prior is None:
            mean = rows.nanmean(dim=0).nan_to_num()
            error = (rows - mean).nan_to_num(nan=0.0)
            observed = (~rows.isnan()).double()
            scale = (error.T @ error) / (observed.T @ observed).clamp(min=1.0)
            spread = scale.diagonal()
            scale = scale + torch.diag(torch.where(spread > 0, 1e-6 * spread, 1.0))
            confidence, degrees = 1.0, float(size)
            if diagonal:
                degrees = 1.0
        else:
            mean, scale = prior.location(size), prior.matrix(size)
            confidence, degrees = prior.confidence, prior.degrees
        if form.shared:  # the same density, restricted to spherical or to diagonal matrices
            scale, degrees = scale.trace().reshape(1), size * (degrees + size + 1.0) - 2.0
        elif diagonal:
            scale, degrees = scale.diagonal(), degrees + size - 1.0
        least = 0.0 if diagonal else size - 1.0
        proper = scale.min() > 0 if diagonal else torch.linalg.eigvalsh(scale)[0] > 0
        if not (confidence > 0 and degrees > least and bool(proper)):
            raise ModelError(
                "a NormalWishart prior of variational Bayes must be a distribution: confidence "
                f"above 0, degrees above {size - 1}, a positive definite scale; got {prior!r}"
            )
        covariances = 1 if form.tied else count
        return cls(
            mean.expand(count, size),
            torch.full((count,), confidence, dtype=torch.float64),
            torch.full((covariances,), degrees, dtype=torch.float64),
            scale.expand(covariances, *scale.shape),
        )

    def updated(self, count: Tensor, first: Tensor, second: Tensor) -> NormalBeliefs:
        """Return the posterior for sums ``(K,)``, ``(K, D)``, and in the shape of the scale."""
        confidence = self.confidence + count
        mean = (self.confidence[:, None] * self.mean + first) / confidence[:, None]
        scale = self.scale + second
        for weight, m, sign in ((self.confidence, self.mean, 1.0), (confidence, mean, -1.0)):
            if self.diagonal:
                square = m.square().reshape(len(m), -1, self.sharing).sum(dim=2)
            else:
                square = m[:, :, None] * m[:, None, :]
            weighted = weight.reshape(-1, *[1] * (square.dim() - 1)) * square
            scale = scale + sign * self.pool(weighted)
        if not self.diagonal:
            scale = (scale + scale.mT) / 2
        degrees = self.degrees + self.sharing * self.pool(count)
        return NormalBeliefs(mean, confidence, degrees, scale)

    @property
    def covariance(self) -> Tensor:
        """The inverse of the mean precision, in the shape of the scale."""
        return self.scale / self.degrees.reshape(-1, *[1] * (self.scale.dim() - 1))

    @property
    def offset(self) -> Tensor:
        r"""``(K,)`` :math:`E[\log N(x; \mu, \Sigma)] - \log N(x; m, \Psi / \nu)`, for any ``x``."""
        size, nu = self.mean.shape[1], self.degrees
        if self.diagonal:
            each = 0.5 * ((nu / 2).digamma() + math.log(2.0) - nu.log()) - 0.5 / self.confidence
            return size * each
        logs = _digammas(nu, size) + size * math.log(2.0) - size * nu.log()
        return 0.5 * logs - 0.5 * size / self.confidence

    def divergence(self, other: NormalBeliefs) -> float:
        """Return the Kullback-Leibler divergence from other beliefs, over all configurations."""
        size = self.mean.shape[1]
        ratio = other.confidence / self.confidence
        change = self.mean - other.mean
        if self.diagonal:
            inverse = self.scale.reciprocal()
            square = (change.square() * inverse).sum(1)
            trace = (other.scale * inverse).sum(1)
            logs = (self.scale.log() - other.scale.log()).sum(1)
            parts, width = self.scale.shape[1], 1
        else:
            square = (change * torch.linalg.solve(self.scale, change.unsqueeze(-1))[..., 0]).sum(1)
            trace = torch.linalg.solve(self.scale, other.scale).diagonal(dim1=-2, dim2=-1).sum(-1)
            logs = torch.linalg.slogdet(self.scale)[1] - torch.linalg.slogdet(other.scale)[1]
            parts, width = 1, size
        of_means = 0.5 * (
            size * (ratio - 1.0 - ratio.log()) + other.confidence * self.degrees * square
        )
        a, b = self.degrees / 2, other.degrees / 2
        normalizers = torch.mvlgamma(b, width) - torch.mvlgamma(a, width)
        of_scales = (
            b * logs
            + a * (trace - parts * width)
            + parts * (normalizers + (a - b) * _digammas(self.degrees, width))
        )
        return float(of_means.sum() + of_scales.sum())


def _digammas(degrees: Tensor, size: int) -> Tensor:
    """Return ``(K,)`` multivariate digamma functions of half the degrees."""
    steps = torch.arange(size, dtype=degrees.dtype)
    return ((degrees[:, None] - steps) / 2).digamma().sum(dim=1)
