"""Posteriors of latent factors of a vector that is linear in them, with independent noise."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

LOG_2PI = math.log(2.0 * math.pi)
AT_ONCE = 2**21
"""Numbers of rows that are computed together."""


class FactorPosterior(NamedTuple):
    r"""Posteriors of factors :math:`z \sim N(0, I)` given :math:`x \sim N(W z + \mu, \Psi)`.

    Attributes:
        mean: ``(N, K)``.
        covariance: ``(N, K, K)``, or ``(1, K, K)`` where rows have observed the same components.
        log_density: ``(N,)`` logs of the density of the observations.
    """

    mean: Tensor
    covariance: Tensor
    log_density: Tensor


def factor_posterior(x: Tensor, weight: Tensor, mean: Tensor, variance: Tensor) -> FactorPosterior:
    r"""Return posteriors of factors; differentiable.

    With :math:`o_d` one where a number was observed, the precision is
    :math:`A = I + \sum_d o_d w_d w_d^\top / \psi_d`, and the density follows from the lemma of
    Woodbury.

    Args:
        x: ``(N, D)`` rows, ``NaN`` where not observed.
        weight: ``(D, K)`` :math:`W`.
        mean: ``(D,)`` :math:`\mu`.
        variance: ``(D,)`` the diagonal of :math:`\Psi`.

    Cost:
        ``O(N D K^2)``, without holes ``O(N D K)``.
    """
    size, k = weight.shape
    hole = x.isnan()
    observed = (~hole).to(weight)
    error = torch.where(hole, torch.zeros_like(x), x - mean).to(weight)
    scaled = weight / variance.unsqueeze(1)
    if bool(hole.any()):
        products = (scaled.unsqueeze(2) * weight.unsqueeze(1)).reshape(size, k * k)
        precision = (observed @ products).reshape(-1, k, k)
    else:
        precision = (scaled.T @ weight).unsqueeze(0)
    precision = precision + torch.eye(k, dtype=weight.dtype, device=weight.device)
    factor = torch.linalg.cholesky(precision)
    target = error @ scaled
    white = torch.linalg.solve_triangular(factor, target.unsqueeze(-1), upper=False)
    result = torch.linalg.solve_triangular(factor.mT, white, upper=True).squeeze(-1)
    square = error.square() @ variance.reciprocal() - white.squeeze(-1).square().sum(dim=1)
    log_scale = observed @ variance.log() + LOG_2PI * observed.sum(dim=1)
    log_scale = log_scale + 2.0 * factor.diagonal(dim1=-2, dim2=-1).log().sum(dim=-1)
    return FactorPosterior(result, torch.cholesky_inverse(factor), -0.5 * (square + log_scale))


def blocks(x: Tensor, factors: int) -> Iterator[slice]:
    """Yield slices of rows that fit the memory at hand."""
    step = max(1, AT_ONCE // max(1, x.shape[1] + factors * factors))
    for first in range(0, len(x), step):
        yield slice(first, first + step)
