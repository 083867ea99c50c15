"""Label probabilities by the sparse kernel, with derivatives from the dense chain."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor
from torch.autograd import Function

from pgnn.inference.chains.edge_chain import EdgeChain
from pgnn.inference.chains.edge_log_partition import edge_log_partition
from pgnn.inference.chains.wide_chain import WideChain

Ask = Literal["smoothed", "filtered"]


def edge_probabilities(
    ask: Ask, kernel: EdgeChain, lengths: Tensor, begins: Tensor, scores: Tensor, field: Tensor
) -> tuple[Tensor, Tensor]:
    """Return probabilities of labels, differentiable any number of times.

    The dense table of all pairs of states is built only for derivatives of the probabilities.

    Args:
        ask: Method of :class:`WideChain` that computes the same result.
        kernel: Sparse chain of the same numbers.
        lengths: ``(B,)`` lengths of the rows.
        begins: ``(K,)`` scores of first labels.
        scores: ``(E,)`` scores of the transitions.
        field: ``(B, T, K)`` scores of the labels at each step.

    Returns:
        ``(B, T, K)`` probabilities, and ``(B,)`` log Z or its ``(B, T)`` increments.
    """
    parts = (begins, scores, field)
    if torch.is_grad_enabled() and any(part.requires_grad for part in parts):
        answer: tuple[Tensor, Tensor] = _Probabilities.apply(ask, kernel, lengths, *parts)  # type: ignore[no-untyped-call]
        return answer
    return _answer(ask, kernel, field)


def _answer(ask: Ask, kernel: EdgeChain, field: Tensor) -> tuple[Tensor, Tensor]:
    if ask == "filtered":
        probs, logs = kernel.filtered()
        logs = logs.reshape(field.shape[:2])
    else:
        sums = kernel.smooth()
        probs, logs = sums.labels[0], sums.log_z
    probs = probs.reshape(field.shape)
    return torch.from_numpy(probs).to(field.dtype), torch.from_numpy(logs).to(field.dtype)


class _Probabilities(Function):
    """Values from the kernel; derivatives of probabilities from the dense chain."""

    @staticmethod
    def forward(
        ctx: Any, ask: Ask, kernel: EdgeChain, lengths: Tensor, *parts: Tensor
    ) -> tuple[Tensor, Tensor]:
        ctx.ask, ctx.kernel, ctx.lengths = ask, kernel, lengths
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*parts)
        return _answer(ask, kernel, parts[2])

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor | None) -> tuple[Any, ...]:
        parts, again = ctx.saved_tensors, torch.is_grad_enabled()
        with torch.enable_grad():
            # views stop the gradient if one tensor was computed from another
            views = [
                p.view_as(p) if p.requires_grad else p.detach().requires_grad_() for p in parts
            ]
            found = _differentiable(ctx, views, of_log_z=upstream[0] is None)
            required = [
                (x, u)
                for x, u in zip(found, upstream, strict=True)
                if x is not None and u is not None
            ]
            gradients = torch.autograd.grad(
                [x for x, _ in required],
                views,
                [u for _, u in required],
                create_graph=again,
                materialize_grads=True,
                allow_unused=True,
            )
        return None, None, None, *gradients


def _differentiable(ctx: Any, parts: list[Tensor], of_log_z: bool) -> tuple[Tensor | None, Tensor]:
    """Compute the same result by differentiable operations."""
    edges, (begins, scores, field) = ctx.kernel.edges, parts
    if of_log_z and ctx.ask == "smoothed":
        flat = field.flatten(0, 1)
        return None, edge_log_partition(edges, ctx.kernel.rows, begins, scores, flat)
    wide = WideChain(edges, begins, scores, field, ctx.lengths)
    return wide.filtered() if ctx.ask == "filtered" else wide.smoothed()
