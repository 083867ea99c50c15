"""The type in which networks compute while something learns: mixed precision."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

_REDUCED: ContextVar[bool] = ContextVar("networks compute in bfloat16", default=False)


@contextmanager
def mixed_precision(on: bool = True) -> Iterator[None]:
    """Have matrices of networks multiplied in bfloat16, in what is called meanwhile.

    Parameters keep their type, and so does what networks return: log densities are made of it.
    Networks in float64 compute as they would.

    Args:
        on: Whether to do so.

    References:
        Micikevicius et al. (2018), Mixed precision training. Kalamkar et al. (2019), A study of
        BFLOAT16 for deep learning training.
    """
    token = _REDUCED.set(on)
    try:
        yield
    finally:
        _REDUCED.reset(token)


def run(network: nn.Module, *arguments: Any) -> Any:
    """Return what a network makes of its arguments, in the type of its own numbers."""
    if not _REDUCED.get():
        return network(*arguments)
    numbers = chain(network.parameters(), network.buffers())
    like = next((x for x in numbers if x.is_floating_point()), torch.zeros(()))
    with torch.autocast(like.device.type, torch.bfloat16):
        output = network(*arguments)
    return mapped(output, lambda x: x.to(like.dtype) if x.dtype == torch.bfloat16 else x)


def mapped(thing: Any, function: Callable[[Tensor], Tensor]) -> Any:
    """Return tensors, or a distribution or containers of them, with a function applied to each."""
    if isinstance(thing, Tensor):
        return function(thing)
    if isinstance(thing, Distribution):
        other = copy.copy(thing)
        for name, part in vars(thing).items():
            if isinstance(part, Tensor | Distribution):
                other.__dict__[name] = mapped(part, function)
        return other
    if isinstance(thing, Mapping):
        return {name: mapped(part, function) for name, part in thing.items()}
    if type(thing) in (tuple, list):
        return type(thing)(mapped(part, function) for part in thing)
    return thing
