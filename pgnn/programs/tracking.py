"""Tensors that record the sample sites from which they were computed."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

Sources = frozenset[str]

_NOTHING: Sources = frozenset()

READERS = {
    Tensor.__bool__: "bool()",
    Tensor.__int__: "int()",
    Tensor.__float__: "float()",
    Tensor.__index__: "an index",
    Tensor.item: ".item()",
    Tensor.tolist: ".tolist()",
    Tensor.numpy: ".numpy()",
    Tensor.nonzero: ".nonzero()",
    torch.nonzero: "torch.nonzero()",
    Tensor.masked_select: ".masked_select()",
    torch.masked_select: "torch.masked_select()",
    Tensor.unique: ".unique()",
    torch.equal: "torch.equal()",
    Tensor.equal: ".equal()",
}
"""Functions that read a value as a number, and their names in messages."""

# checks of arguments and shapes read values, but their results do not depend on them
_CHECKERS = ("torch.distributions", "pyro.", "pgnn.factors")


class LatentRead(Exception):
    """Raised if a program reads the value of a random tensor, which may affect its control flow.

    Args:
        sources: The sites from which the value was computed.
        reader: Name of the function that read it.
    """

    def __init__(self, sources: Sources, reader: str) -> None:
        super().__init__(reader)
        self.sources, self.reader = sources, reader


class Tracked(Tensor):
    """A tensor that records the sample sites from which it was computed.

    Results of torch operations on it are tracked as well. Reading its value as a number, such as by
    ``bool()``, raises :class:`LatentRead`.
    """

    sources: Sources

    @classmethod
    def __torch_function__(
        cls, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Compute with plain tensors, and propagate their sources."""
        kwargs = kwargs or {}
        sources = sources_of((args, kwargs))
        if sources and (func in READERS or _picks_by_mask(func, args)) and not checking():
            raise LatentRead(sources, READERS.get(func, "a mask as an index"))
        with torch._C.DisableTorchFunctionSubclass():
            result = func(*args, **kwargs)
        return tracked(result, sources) if sources else result


def track(value: Tensor, name: str) -> Tracked:
    """Track a value that was drawn at a site."""
    tracked_value: Tracked = plain(value).as_subclass(Tracked)
    tracked_value.sources = frozenset([name])
    return tracked_value


def plain(value: Any) -> Any:
    """Return a tensor without its sources; other objects are returned unchanged."""
    return value.as_subclass(Tensor) if isinstance(value, Tracked) else value


def tracked(result: Any, sources: Sources) -> Any:
    """Track results, in any container, with the given sources."""
    if isinstance(result, Tensor):
        tracked_result = result if isinstance(result, Tracked) else result.as_subclass(Tracked)
        tracked_result.sources = sources
        return tracked_result
    if isinstance(result, tuple | list):
        parts = [tracked(x, sources) for x in result]
        if hasattr(result, "_fields"):
            return type(result)(*parts)
        return type(result)(parts)
    return result


def sources_of(value: Any) -> Sources:
    """Return the sites from which a value, or the values in a container, were computed."""
    if isinstance(value, Tracked):
        return getattr(value, "sources", _NOTHING)
    if isinstance(value, dict):
        return _union(value.values())
    if isinstance(value, tuple | list):
        return _union(value)
    return _NOTHING


def _union(values: Iterable[Any]) -> Sources:
    union = _NOTHING
    for value in values:
        sources = sources_of(value)
        union = union | sources if sources else union
    return union


def _picks_by_mask(func: Any, args: tuple[Any, ...]) -> bool:
    """Whether elements are selected by a random mask, so that their number is random."""
    if func is not Tensor.__getitem__:
        return False
    index = args[1] if isinstance(args[1], tuple) else (args[1],)
    return any(isinstance(i, Tracked) and i.dtype == torch.bool and i.dim() > 0 for i in index)


def checking() -> bool:
    """Whether the value is being read by an argument check."""
    frame = sys._getframe(2)
    for _ in range(3):
        module = str(frame.f_globals.get("__name__", ""))
        if module.startswith(_CHECKERS):
            return True
        if not module.startswith("torch") or frame.f_back is None:
            return False
        frame = frame.f_back
    return False
