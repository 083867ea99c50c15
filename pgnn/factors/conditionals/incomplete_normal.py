"""Partially observed normal vectors, batched over patterns of missing elements."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from pgnn.factors.conditionals.covariance import LOG_2PI

_NUMBERS = 2**20
"""Numbers of the matrices of some patterns, and of some rows, that are worked on together."""


class Patterns(NamedTuple):
    """Some patterns of missing elements and their rows.

    Attributes:
        observed: ``(P, D)`` mask of observed elements of each pattern.
        rows: ``(n,)`` indices of the rows.
        label: ``(n,)`` pattern of each row.
    """

    observed: Tensor
    rows: Tensor
    label: Tensor


def blocks(x: Tensor, count: int) -> Iterator[Patterns]:
    """Yield batches of patterns that limit memory use.

    Args:
        x: ``(N, D)`` rows, ``NaN`` where not observed.
        count: Number ``K`` of covariances and means.
    """
    size = max(1, x.shape[1])
    observed, label = torch.unique(~x.isnan(), dim=0, return_inverse=True)
    order = label.argsort(stable=True)
    ends = torch.bincount(label, minlength=len(observed)).cumsum(0)
    most = max(1, _NUMBERS // (count * size**2))
    begin = 0
    for first in range(0, len(observed), most):
        block = observed[first : first + most]
        end = int(ends[first + len(block) - 1])
        step = max(1, _NUMBERS // (count * size))
        for at in range(begin, end, step):
            rows = order[at : min(at + step, end)]
            yield Patterns(block, rows, label[rows] - first)
        begin = end


def log_density(x: Tensor, mean: Tensor, matrices: Tensor) -> Tensor:
    """Return ``(N, K)`` log densities of the observations of rows ``(N, D)``; differentiable.

    Args:
        x: ``(N, D)`` rows, ``NaN`` where not observed.
        mean: ``(K, D)``.
        matrices: ``(K or 1, D, D)`` covariances.
    """
    table = x.new_zeros(len(x), len(mean))
    for observed, rows, label in blocks(x, len(mean)):
        factor = torch.linalg.cholesky(_of_observed(matrices, observed))
        eye = torch.eye(x.shape[1], dtype=x.dtype, device=x.device).expand_as(factor)
        white = torch.linalg.solve_triangular(factor, eye, upper=False)
        logs = factor.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        logs = logs + 0.5 * LOG_2PI * observed.sum(dim=1, keepdim=True).to(x)
        error = _errors(x[rows], mean, observed[label])
        parts = []
        for mask, which in _some(error, label):
            square = torch.einsum(
                "nkij,nkj->nki", white[which].expand(-1, mask.shape[1], -1, -1), mask
            )
            parts.append(square.square().sum(dim=-1))
        value = -0.5 * torch.cat(parts) - logs[label]
        table = table.index_copy(0, rows, value)
    return table


def expected_moments(x: Tensor, w: Tensor, mean: Tensor, matrices: Tensor) -> tuple[Tensor, Tensor]:
    r"""Return expected weighted sums ``(K, D)`` of rows and ``(K, D, D)`` of their products.

    .. math:: E[x_m \mid x_o] = \mu_m + \Sigma_{mo} \Sigma_{oo}^{-1} (x_o - \mu_o), \qquad
        \mathrm{Cov}[x_m \mid x_o] = \Sigma_{mm} - \Sigma_{mo} \Sigma_{oo}^{-1} \Sigma_{om}

    Args:
        x: ``(N, D)``, ``NaN`` where not observed.
        w: ``(N, K)`` weights.
        mean: ``(K, D)``.
        matrices: ``(K or 1, D, D)`` covariances.
    """
    count, size = mean.shape
    first, second = x.new_zeros(count, size), x.new_zeros(count, size, size)
    for observed, rows, label in blocks(x, count):
        hidden = (~observed).to(x)
        across = hidden[:, None, :, None] * matrices * observed.to(x)[:, None, None, :]
        gain = torch.linalg.solve(_of_observed(matrices, observed), across.mT).mT
        left = hidden[:, None, :, None] * matrices * hidden[:, None, None, :]
        spread = left - gain @ across.mT
        error = _errors(x[rows], mean, observed[label])
        weight, at = w[rows], 0
        for mask, which in _some(error, label):
            part = weight[at : at + len(mask)]
            value = x[rows[at : at + len(mask)]].unsqueeze(1)
            conditional_mean = mean + torch.einsum(
                "nkij,nkj->nki", gain[which].expand(-1, count, -1, -1), mask
            )
            filled = torch.where(value.isnan(), conditional_mean, value.expand_as(conditional_mean))
            first = first + torch.einsum("nk,nkd->kd", part, filled)
            flat = (part.unsqueeze(-1) * filled).permute(1, 2, 0)
            second = second + flat @ filled.permute(1, 0, 2)
            at += len(mask)
        share = weight.new_zeros(len(observed), count).index_add(0, label, weight)
        second = second + torch.einsum("pk,pkij->kij", share, spread.expand(-1, count, -1, -1))
    return first, second


def _of_observed(matrices: Tensor, observed: Tensor) -> Tensor:
    """Return ``(P, K or 1, D, D)`` covariances of observed elements, identity for the rest."""
    both = (observed.unsqueeze(-1) & observed.unsqueeze(-2)).unsqueeze(1)
    return torch.where(both, matrices, torch.diag_embed((~observed).to(matrices)).unsqueeze(1))


def _errors(x: Tensor, mean: Tensor, observed: Tensor) -> Tensor:
    """Return ``(n, K, D)`` deviations of observed elements from the means, zeros elsewhere."""
    return torch.where(observed.unsqueeze(1), x.nan_to_num(nan=0.0).unsqueeze(1) - mean, 0.0)


def _some(error: Tensor, label: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield batches of rows, small enough for one matrix per row."""
    step = max(1, _NUMBERS // (error.shape[1] * error.shape[2] ** 2))
    yield from zip(torch.split(error, step), torch.split(label, step), strict=True)
