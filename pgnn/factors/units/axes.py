"""An axis of all units' features side by side, cut into one of units and one of features."""

from __future__ import annotations

from torch import Tensor


def cut(x: Tensor, axis: int, size: int) -> Tensor:
    """Return an axis of ``n size`` numbers as two, of ``n`` and of ``size``.

    Args:
        x: Any tensor.
        axis: Which, counted from the first one.
        size: Of the new axis behind it.

    Example:
        >>> import torch
        >>> cut(torch.arange(6), 0, 2).tolist()
        [[0, 1], [2, 3], [4, 5]]
    """
    shape = list(x.shape)
    shape[axis : axis + 1] = [shape[axis] // size, size]
    return x.reshape(shape)
