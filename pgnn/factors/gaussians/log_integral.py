"""The integral of a normal density without its factors, differentiable by its moments."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from pgnn.factors.gaussians.elimination import Elimination, Moments, eliminate
from pgnn.factors.gaussians.least_squares import Block, common_shape, times
from pgnn.factors.gaussians.plain_elimination import PlainElimination


def log_integral(blocks: Sequence[Block], sizes: Mapping[int, int], order: Sequence[int]) -> Tensor:
    r"""Return ``(*lead)`` log of :math:`\int \exp(-\frac12 \|A x - b\|^2) dx`; differentiable.

    .. math:: \frac{\partial}{\partial A} = -E[(A x - b) x^\top], \qquad
        \frac{\partial}{\partial b} = E[A x - b]

    The factor :math:`\sqrt{2 \pi}` of each dimension is left out.

    Args:
        blocks: Terms of the energy.
        sizes: Dimensions of each variable.
        order: In which variables are eliminated.

    Cost:
        That of :func:`eliminate`; backward about twice as much.
    """
    tensors = [x for b in blocks for x in (b.matrix, b.target)]
    if not (torch.is_grad_enabled() and any(x.requires_grad for x in tensors)):
        plain = PlainElimination.of(blocks, sizes, order)
        return (plain or eliminate(blocks, sizes, order)).log_integral
    scopes = [b.scope for b in blocks]
    integral: Tensor = _LogIntegral.apply(scopes, sizes, order, *tensors)  # type: ignore[no-untyped-call]
    return integral


def family_moments(
    elimination: Elimination | PlainElimination,
    all_moments: Mapping[int, Moments],
    scope: Sequence[int],
) -> Moments:
    """Return the moments of variables that occur together, from those of all cliques.

    Args:
        elimination: An elimination.
        all_moments: Of :meth:`Elimination.moments`.
        scope: Some variables of one block.
    """
    first = scope[0] if len(scope) == 1 else min(scope, key=elimination.place.__getitem__)
    return elimination.marginal(all_moments[first], scope)


class _LogIntegral(Function):
    """The integral; its derivatives are moments."""

    @staticmethod
    def forward(
        ctx: Any,
        scopes: Sequence[tuple[int, ...]],
        sizes: Mapping[int, int],
        order: Sequence[int],
        *tensors: Tensor,
    ) -> Tensor:
        """Eliminate all variables."""
        ctx.scopes, ctx.sizes, ctx.order = scopes, sizes, order
        ctx.save_for_backward(*tensors)
        return eliminate(_blocks(scopes, tensors), sizes, order).log_integral.clone()

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Any, ...]:
        """Return expectations of the rows' residuals."""
        twice = torch.is_grad_enabled()
        blocks = _blocks(ctx.scopes, ctx.saved_tensors)
        elimination = eliminate(blocks, ctx.sizes, ctx.order, compress=not twice)
        cliques = elimination.moments()
        gradients: list[Tensor] = []
        for block in blocks:
            m = family_moments(elimination, cliques, block.scope)
            error = times(block.matrix, m.mean) - block.target
            weight = upstream[0][..., None]
            by_target = weight * error
            outer = by_target.unsqueeze(-1) * m.mean.unsqueeze(-2)
            inner = weight.unsqueeze(-1) * (block.matrix @ m.covariance)
            gradients += [
                -(_summed(outer, block.matrix) + _summed(inner, block.matrix)),
                _summed(by_target, block.target),
            ]
        return (None, None, None, *gradients)


def _summed(gradient: Tensor, like: Tensor) -> Tensor:
    """A gradient summed over the axes along which a tensor was broadcast."""
    shape = common_shape(gradient.shape, like.shape)
    summed: Tensor = gradient.expand(shape).sum_to_size(like.shape)
    return summed


def _blocks(scopes: Sequence[tuple[int, ...]], tensors: Sequence[Tensor]) -> list[Block]:
    pairs = zip(tensors[::2], tensors[1::2], strict=True)
    return [Block(s, a, b) for s, (a, b) in zip(scopes, pairs, strict=True)]
