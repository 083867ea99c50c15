"""Values whose gradients are known without backpropagation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable


def with_gradients(value: Tensor, numbers: Sequence[Tensor], gradients: Sequence[Tensor]) -> Tensor:
    """Return a scalar tensor with the given gradients with respect to some tensors.

    Args:
        value: The value.
        numbers: The tensors from which it was computed.
        gradients: The gradient with respect to each of them, in its shape.

    Example:
        >>> import torch
        >>> x = torch.tensor(3.0, requires_grad=True)
        >>> with_gradients(x.detach() ** 2, [x], [torch.tensor(6.0)]).backward()
        >>> x.grad
        tensor(6.)
    """
    differentiable: Tensor = _Known.apply(value, list(gradients), *numbers)  # type: ignore[no-untyped-call]
    return differentiable


class _Known(Function):
    @staticmethod
    def forward(ctx: Any, value: Tensor, gradients: list[Tensor], *numbers: Tensor) -> Tensor:
        ctx.save_for_backward(*(s.to(n) for s, n in zip(gradients, numbers, strict=True)))
        return value.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Any, ...]:
        return (None, None, *(upstream[0].to(s) * s for s in ctx.saved_tensors))
