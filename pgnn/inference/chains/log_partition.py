"""log Z of a chain as one differentiable operation on top of the compiled kernel."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.autograd import Function

from pgnn.inference.chains.chain_tensors import ChainTensors
from pgnn.inference.chains.cpu_chain import CpuChain
from pgnn.inference.chains.torch_chain import TorchChain


def log_partition(tensors: ChainTensors, kernel: CpuChain) -> Tensor:
    """Return ``(B,)`` log Z.

    If a gradient is required, the forward pass also computes marginals and their sums over rows;
    sums are computed again if the rows get different weights. Torch computes higher derivatives.
    """
    if not tensors.requires_grad:
        return torch.from_numpy(kernel.log_partition()).to(tensors.field.dtype)
    parts = (tensors.initial, tensors.transition, tensors.field)
    out: Tensor = _LogPartition.apply(tensors, kernel, *parts)  # type: ignore[no-untyped-call]
    return out


class _LogPartition(Function):
    """log Z, whose gradients are the marginals (field) and expected transitions (transition)."""

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
        parts = ctx.saved_tensors  # raises if one was changed in place
        possible = torch.from_numpy(ctx.sums.log_z > -np.inf)
        weights = torch.where(possible, upstream[0], 0.0)
        smoothed = _Smoothed(ctx.tensors, ctx.kernel, ctx.sums, possible, ctx.needs_input_grad[2:])
        if torch.is_grad_enabled():
            return None, None, *_Gradients.apply(smoothed, weights, *parts)  # type: ignore[no-untyped-call]
        return None, None, *smoothed.gradients(weights, parts)


class _Smoothed(NamedTuple):
    """The sums that the kernel computed, and the gradients that are required."""

    tensors: ChainTensors
    kernel: CpuChain
    sums: Any
    possible: Tensor
    wanted: Sequence[bool]

    def gradients(self, weights: Tensor, parts: Sequence[Tensor]) -> tuple[Tensor | None, ...]:
        """Return gradients of the weighted sum of log Z: initial, transition and field."""
        initial = transition = field = None
        if self.wanted[0] or self.wanted[2]:
            marginals = torch.from_numpy(self.sums.states).to(parts[2].dtype)
            field = torch.where(self.possible[:, None, None], marginals, 0.0)
            field = field * weights[:, None, None]
            if self.wanted[0]:
                first = field[:, 0] if field.shape[1] else field.new_zeros(field.shape[::2])
                initial = first.sum_to_size(parts[0].shape)
        if self.wanted[1]:
            transition = self._transitions(weights).to(parts[1].dtype)
        return initial, transition, field if self.wanted[2] else None

    def _transitions(self, weights: Tensor) -> Tensor:
        pairs = torch.from_numpy(self.sums.pairs)
        if len(pairs) == len(weights):
            return pairs * weights.to(pairs.dtype)[:, None, None, None]
        counted = weights[self.possible]
        if not len(counted) or bool((counted == counted[0]).all()):
            return pairs * (counted[0] if len(counted) else 0.0)
        shape = self.tensors.transition.shape[:2]
        array = weights.double().numpy()
        return torch.from_numpy(self.kernel.smooth(array, (shape[0], shape[1])).pairs)


class _Gradients(Function):
    """Gradients from the kernel; torch computes second derivatives."""

    @staticmethod
    def forward(
        ctx: Any, smoothed: _Smoothed, weights: Tensor, *parts: Tensor
    ) -> tuple[Tensor | None, ...]:
        ctx.smoothed = smoothed
        ctx.save_for_backward(weights, *parts)
        return smoothed.gradients(weights.detach(), [p.detach() for p in parts])

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor | None) -> tuple[Any, ...]:
        again = torch.is_grad_enabled()
        with torch.enable_grad():
            # Views stop the gradient if one part was computed from another.
            views = [
                p.view_as(p) if p.requires_grad else p.detach().requires_grad_()
                for p in ctx.saved_tensors
            ]
            statistics = _through_torch(ctx.smoothed.tensors, views[1:], views[0])
            required = [(x, u) for x, u in zip(statistics, upstream, strict=True) if u is not None]
            gradients = torch.autograd.grad(
                [x for x, _ in required],
                views,
                [u for _, u in required],
                create_graph=again,
                materialize_grads=True,
                allow_unused=True,
            )
        return None, *gradients


def _through_torch(
    tensors: ChainTensors, parts: Sequence[Tensor], weights: Tensor
) -> tuple[Tensor, ...]:
    """Compute the gradients by differentiable operations."""
    initial, transition, field = parts
    again = TorchChain(ChainTensors(initial, transition, field, tensors.lengths)).log_partition()
    return torch.autograd.grad(
        again, [*parts], weights, create_graph=True, materialize_grads=True, allow_unused=True
    )
