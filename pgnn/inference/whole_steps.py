"""Steps that are no operations of torch, for those who write operations down."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor
from torch.utils._python_dispatch import _get_current_dispatch_mode

Step = Callable[..., Sequence[Tensor]]


def whole_step(step: Step, *tensors: Tensor) -> Sequence[Tensor]:
    """Run a step; if operations are being written down, it is written down as one.

    Who writes down is a dispatch mode of torch with a method ``whole(step, tensors)``.

    Args:
        step: Returns new tensors; it may leave torch, and must depend on its arguments alone.
        tensors: Its arguments.
    """
    whole = getattr(_get_current_dispatch_mode(), "whole", None)
    return step(*tensors) if whole is None else whole(step, tensors)
