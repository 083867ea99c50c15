"""log Z of a chain as one differentiable operation on top of the compiled kernel."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd import Function

from pgnn.inference.sequences.chain_tensors import ChainTensors
from pgnn.inference.sequences.cpu_chain import CpuChain
from pgnn.inference.sequences.torch_chain import TorchChain


def log_partition(tensors: ChainTensors, kernel: CpuChain) -> Tensor:
    """Return ``(B,)`` log Z.

    Where a gradient is wanted marginals are computed at once; their weighted sums are, too, unless
    rows turn out to have different weights. Derivatives of derivatives are torch's.
    """
    if not tensors.requires_grad:
        return torch.from_numpy(kernel.log_partition()).to(tensors.field.dtype)
    parts = (tensors.initial, tensors.transition, tensors.field)
    out: Tensor = _LogPartition.apply(tensors, kernel, *parts)  # type: ignore[no-untyped-call]
    return out


class _LogPartition(Function):
    """Marginals are the gradient by the field, expected transitions that by the transition."""

    @staticmethod
    def forward(ctx: Any, tensors: ChainTensors, kernel: CpuChain, *parts: Tensor) -> Tensor:
        shape = tensors.transition.shape[:2]
        ctx.pairs = (shape[0], shape[1]) if tensors.transition.requires_grad else None
        ctx.tensors, ctx.kernel = tensors, kernel
        ctx.sums = kernel.smooth(pairs=ctx.pairs)
        log_z = torch.from_numpy(ctx.sums.log_z).to(tensors.field.dtype)
        ctx.save_for_backward(*parts)
        return log_z

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Any, ...]:
        parts = ctx.saved_tensors  # raises where one was changed in place
        possible = torch.from_numpy(ctx.sums.log_z > -np.inf)
        weights = torch.where(possible, upstream[0], 0.0)
        wanted = ctx.needs_input_grad[2:]
        if torch.is_grad_enabled():
            found = _through_torch(ctx.tensors, parts, weights)
            return None, None, *(g if w else None for g, w in zip(found, wanted, strict=True))
        initial = transition = field = None
        if wanted[0] or wanted[2]:
            marginals = torch.from_numpy(ctx.sums.states).to(parts[2].dtype)
            field = torch.where(possible[:, None, None], marginals, 0.0) * weights[:, None, None]
            if wanted[0]:
                first = field[:, 0] if field.shape[1] else field.new_zeros(field.shape[::2])
                initial = first.sum_to_size(parts[0].shape)
        if wanted[1]:
            transition = _transitions(ctx, weights, possible).to(parts[1].dtype)
        return None, None, initial, transition, field if wanted[2] else None


def _transitions(ctx: Any, weights: Tensor, possible: Tensor) -> Tensor:
    pairs = torch.from_numpy(ctx.sums.pairs)
    if len(pairs) == len(weights):
        return pairs * weights.to(pairs.dtype)[:, None, None, None]
    counted = weights[possible]
    if not len(counted) or bool((counted == counted[0]).all()):
        return pairs * (counted[0] if len(counted) else 0.0)
    array = weights.double().numpy()
    return torch.from_numpy(ctx.kernel.smooth(array, ctx.pairs).pairs)


def _through_torch(
    tensors: ChainTensors, parts: tuple[Tensor, ...], weights: Tensor
) -> tuple[Tensor, ...]:
    # Views, so that the gradient stops at them where one part is computed from another.
    views = [p.view_as(p) if p.requires_grad else p.detach().requires_grad_() for p in parts]
    initial, transition, field = views
    again = TorchChain(ChainTensors(initial, transition, field, tensors.lengths)).log_partition()
    return torch.autograd.grad(
        again, views, weights, create_graph=True, materialize_grads=True, allow_unused=True
    )
