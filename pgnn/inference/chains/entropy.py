"""Entropies of the posteriors over the paths of chains."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from pgnn.inference.chains.chain_tensors import ChainTensors
from pgnn.inference.chains.torch_chain import TorchChain

_TINY = 1e-200


def entropy_by_potentials(tensors: ChainTensors) -> Tensor:
    r"""Return ``(B,)`` :math:`\log Z - E[\log \tilde p(z)]`, differentiable."""
    chain = TorchChain(tensors)
    log_z, marginals = chain.log_partition(), chain.marginals()
    if not tensors.num_steps:
        return log_z
    mean = (marginals * _finite(tensors.field)).sum((1, 2))
    mean = mean + (marginals[:, 0] * _finite(tensors.initial)).sum(1)
    pairs = chain.pairs() if tensors.transition.shape[1] > 1 else chain.transitions()[:, None]
    mean = mean + (pairs * _finite(tensors.transition)).sum((1, 2, 3))
    return torch.where(log_z.isneginf(), math.nan, _finite(log_z) - mean)


def entropy_by_steps(tensors: ChainTensors, filtered: Tensor, marginals: Tensor) -> Tensor:
    r"""Return ``(B,)`` sums of the conditional entropies of each state given the next one.

    Uses :math:`p(z_t = i \mid z_{t+1} = j, x) = a_i A_{ij} / \sum_i a_i A_{ij}` with filtered
    probabilities :math:`a`, in which no large numbers cancel. Rows that underflow are computed by
    :func:`entropy_by_potentials`.

    Args:
        tensors: The chain.
        filtered: ``(B, T, K)`` p(z_t | x_1..t).
        marginals: ``(B, T, K)`` p(z_t | x).
    """
    B, T, _ = filtered.shape
    if not T:
        return filtered.new_zeros(B)
    filtered, marginals = filtered.double(), marginals.double()
    table = tensors.transition.detach().double()
    table = (table - _finite(table.amax((2, 3), keepdim=True))).exp()
    before = filtered[:, :-1]
    sizes = _row_products(before, table)
    mean = _row_products(_x_log_x(before), table) + _row_products(before, _x_log_x(table))
    each = sizes.clamp(min=_TINY).log() - mean / sizes.clamp(min=_TINY)
    inside = tensors.within[:, 1:, None] & (marginals[:, 1:] > 0)
    total = torch.where(inside, marginals[:, 1:] * each, 0.0).sum((1, 2))
    rows = torch.arange(B)
    last = marginals[rows, (tensors.lengths - 1).clamp(min=0)]
    total = total - _x_log_x(last).sum(1)
    doubtful = (inside & ~(sizes > _TINY)).flatten(1).any(1).nonzero()[:, 0]
    if len(doubtful):
        total[doubtful] = entropy_by_potentials(tensors.detach().at(doubtful))
    return total.clamp(min=0.0)


def _row_products(left: Tensor, table: Tensor) -> Tensor:
    """Multiply ``(B, T, K)`` row vectors by ``(1 or B, 1 or T, K, K)`` matrices."""
    if table.shape[1] == 1:
        return left @ table[:, 0]
    return (left[:, :, None] @ table)[:, :, 0]


def _x_log_x(x: Tensor) -> Tensor:
    product: Tensor = torch.special.xlogy(x, x)
    return product


def _finite(logs: Tensor) -> Tensor:
    return logs.masked_fill(logs.isneginf(), 0.0)
