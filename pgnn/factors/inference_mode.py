"""Modes of torch: ordinary tensors in ``torch.inference_mode()``, gradients after an error."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import torch
from torch import Tensor, nn

P = ParamSpec("P")
R = TypeVar("R")


def outside_inference_mode(work: Callable[P, R]) -> Callable[P, R]:
    """Return a function whose results are ordinary tensors, even in inference mode.

    Its results may be kept, differentiated and changed afterwards. Gradients are disabled, except
    where the function itself enables them.

    Example:
        >>> with torch.inference_mode():
        ...     outside_inference_mode(torch.zeros)(2).is_inference()
        False
    """
    if not torch.is_inference_mode_enabled():
        return work

    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        with torch.inference_mode(False), torch.no_grad():
            return work(*args, **kwargs)

    return run


def in_ordinary_mode(work: Callable[P, R]) -> Callable[P, R]:
    """Decorate a function to compute ordinary tensors, and to restore the gradient mode on error.

    Torch's context managers are written in Python: an interrupt as one of them exits would leave
    gradients disabled in the rest of the thread.

    Example:
        >>> @in_ordinary_mode
        ... def fail():
        ...     torch.set_grad_enabled(False)
        ...     raise KeyboardInterrupt
        >>> try:
        ...     fail()
        ... except KeyboardInterrupt:
        ...     print(torch.is_grad_enabled())
        True
    """

    @wraps(work)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        gradients = torch.is_grad_enabled()
        try:
            if torch.is_inference_mode_enabled():
                return outside_inference_mode(work)(*args, **kwargs)
            return work(*args, **kwargs)
        except BaseException:
            try:
                torch.set_grad_enabled(gradients)
            except KeyboardInterrupt:  # a second interrupt
                torch.set_grad_enabled(gradients)
                raise
            raise

    return run


def ordinary(value: Any) -> Any:
    """Return a copy of a tensor that was made in inference mode; anything else unchanged."""
    if isinstance(value, Tensor) and value.is_inference():
        with torch.inference_mode(False):
            return value.clone()
    return value


def make_ordinary(module: nn.Module) -> bool:
    """Replace parameters and buffers made in inference mode; return whether there were any.

    Modules that share a parameter share its replacement.
    """
    copies: dict[int, Tensor] = {}
    for part in module.modules():
        registries: list[dict[str, Any]] = [vars(part)["_parameters"], vars(part)["_buffers"]]
        for names in registries:
            for name, x in names.items():
                if x is None or not x.is_inference():
                    continue
                if id(x) not in copies:
                    with torch.inference_mode(False):
                        copy: Tensor = x.clone()
                        if isinstance(x, nn.Parameter):
                            copy = nn.Parameter(copy, requires_grad=x.requires_grad)
                    copies[id(x)] = copy
                names[name] = copies[id(x)]
    return bool(copies)
