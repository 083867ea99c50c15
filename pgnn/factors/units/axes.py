"""Splitting the axis of concatenated features into an axis of units and one of features."""

from __future__ import annotations

from torch import Tensor


def cut(x: Tensor, axis: int, size: int) -> Tensor:
    """Split an axis of length ``n size`` into two of lengths ``n`` and ``size``.

    Args:
        x: Any tensor.
        axis: Index of the axis, not negative.
        size: Length of the second of the new axes.

    Example:
        >>> import torch
        >>> cut(torch.arange(6), 0, 2).tolist()
        [[0, 1], [2, 3], [4, 5]]
    """
    shape = list(x.shape)
    shape[axis : axis + 1] = [shape[axis] // size, size]
    return x.reshape(shape)
