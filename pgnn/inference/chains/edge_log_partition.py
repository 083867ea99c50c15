"""log Z of a sparse chain as one differentiable operation on top of the compiled kernel."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.autograd import Function

from pgnn.inference.chains.chain_edges import ChainEdges
from pgnn.inference.chains.edge_chain import EdgeChain, EdgeRows
from pgnn.inference.chains.wide_chain import WideChain

Floats = NDArray[np.float64]


def edge_chain(
    edges: ChainEdges, rows: EdgeRows, begins: Tensor, scores: Tensor, field: Tensor
) -> EdgeChain:
    """Return an :class:`EdgeChain` with the numbers of the given tensors."""
    arrays = (x.detach().double().numpy() for x in (begins, scores, field))
    return EdgeChain(edges, rows, *arrays)


def edge_log_partition(
    edges: ChainEdges, rows: EdgeRows, begins: Tensor, scores: Tensor, field: Tensor
) -> Tensor:
    """Return ``(B,)`` log Z, differentiable any number of times.

    Second and higher derivatives are computed by :class:`WideChain`.

    Args:
        edges: The transitions.
        rows: Positions of the rows in the concatenated steps.
        begins: ``(K,)`` scores of first labels.
        scores: ``(E,)`` scores of the transitions.
        field: ``(N, K)`` scores of the labels at each step.
    """
    parts = (begins, scores, field)
    if torch.is_grad_enabled() and any(part.requires_grad for part in parts):
        log_z: Tensor = _LogPartition.apply(edges, rows, *parts)  # type: ignore[no-untyped-call]
        return log_z
    return torch.from_numpy(edge_chain(edges, rows, *parts).log_partition()).to(field.dtype)


class _LogPartition(Function):
    """log Z; marginals and expected transitions are computed with it, for the gradient."""

    @staticmethod
    def forward(ctx: Any, edges: ChainEdges, rows: EdgeRows, *parts: Tensor) -> Tensor:
        ctx.kernel = edge_chain(edges, rows, *parts)
        ctx.save_for_backward(*parts)
        ctx.sums = ctx.kernel.smooth(counted=True)
        return torch.from_numpy(ctx.sums.log_z).to(parts[2].dtype)

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Any, ...]:
        parts = ctx.saved_tensors
        if torch.is_grad_enabled():
            # views stop the gradient if one tensor was computed from another
            views = [
                p.view_as(p) if p.requires_grad else p.detach().requires_grad_() for p in parts
            ]
            again = wide_log_partition(ctx.kernel.edges, ctx.kernel.rows, *views)
            possible = upstream[0].masked_fill(again.isneginf(), 0.0)
            return None, None, *torch.autograd.grad(again, views, possible, create_graph=True)
        weights = upstream[0].double().numpy()
        gradients = _gradients(ctx.kernel, ctx.sums, np.where(ctx.sums.log_z > -np.inf, weights, 0))
        return (
            None,
            None,
            *(torch.from_numpy(g).to(p.dtype) for g, p in zip(gradients, parts, strict=True)),
        )


def _gradients(kernel: EdgeChain, sums: Any, weights: Floats) -> tuple[Floats, Floats, Floats]:
    """Return gradients with respect to the scores of first labels, transitions and steps."""
    lengths = kernel.rows.lengths
    counted = weights[(lengths > 0) & (sums.log_z > -np.inf)]
    alike = bool((counted == counted[:1]).all())
    factor = counted[0] if len(counted) else 0.0
    counts = sums.counts * factor if alike else kernel.smooth(weights, counted=True).counts
    at = kernel.rows.inside
    marginals = np.zeros_like(sums.labels[0])
    with np.errstate(invalid="ignore"):
        marginals[at] = sums.labels[0][at] * np.repeat(weights, lengths)[:, None]
    marginals[np.isnan(marginals)] = 0.0  # impossible rows
    first = kernel.rows.starts[lengths > 0]
    return marginals[first].sum(0), counts, marginals


def wide_log_partition(
    edges: ChainEdges, rows: EdgeRows, begins: Tensor, scores: Tensor, field: Tensor
) -> Tensor:
    """Compute the same as :func:`edge_log_partition` by a chain with dense transitions.

    Args:
        edges: The transitions.
        rows: Positions of the rows in the concatenated steps.
        begins: ``(K,)`` scores of first labels.
        scores: ``(E,)`` scores of the transitions.
        field: ``(N, K)`` scores of the labels at each step.
    """
    lengths = torch.from_numpy(rows.lengths)
    inside = torch.arange(int(rows.lengths.max(initial=0))) < lengths[:, None]
    padded = field.new_zeros((*inside.shape, field.shape[1]))
    present = field[torch.from_numpy(rows.inside).to(field.device)]
    padded = padded.index_put((inside.to(field.device),), present)
    return WideChain(edges, begins, scores, padded, lengths).log_partition()
