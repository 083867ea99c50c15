"""A function's arithmetic, written down once and run again without Python."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map_only

Function = Callable[[Tensor], tuple[Tensor, Tensor]]
"""Potentials ``(C,)`` and gradients ``(C, D)`` of points ``(C, D)``."""

_TOLERANCE = 1e-9


class _NotRecorded(Exception):
    """What was computed cannot be written down."""


class _Place:
    """Stands for the tensor of that number."""

    def __init__(self, number: int) -> None:
        self.number = number


class _Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes every operation that depends on the input; what does not is a constant."""

    def __init__(self, point: Tensor) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.kept: list[Any] = [point]
        self.place = {id(point): 0}
        self.steps: list[tuple[Any, Any, Any, list[int]]] = []
        self.guards: list[tuple[int, bool]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operation and note it."""
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        tensors = [x for x in tree_flatten((args, kwargs))[0] if isinstance(x, Tensor)]
        known = [id(x) in self.place for x in tensors]
        if not any(known):
            return out
        if isinstance(out, bool) and func._schema.name == "aten::_local_scalar_dense":
            self.guards.append((self.place[id(args[0])], out))
            return out
        made = [out] if isinstance(out, Tensor) else out
        if not isinstance(made, tuple | list) or not all(isinstance(x, Tensor) for x in made):
            raise _NotRecorded(f"{func} makes a number of what is not known")
        if func._schema.is_mutable and not known[0]:
            raise _NotRecorded(f"{func} writes into a constant")
        given = tree_map_only(Tensor, self._placed, (args, kwargs))
        self.steps.append((func, *given, [self._new(x) for x in made]))
        return out

    def _placed(self, x: Tensor) -> Any:
        return _Place(self.place[id(x)]) if id(x) in self.place else x.detach()

    def _new(self, x: Tensor) -> int:
        self.kept.append(x)
        self.place[id(x)] = len(self.kept) - 1
        return len(self.kept) - 1


def recorded(function: Function, points: Sequence[Tensor]) -> Function | None:
    """Return the same function without the Python between its operations.

    Where the function asked whether something is true, the answer is asked again at each point,
    and if it differs the function itself is called.

    Args:
        function: What is to be written down, at the first point.
        points: ``(C, D)`` each; at all of them both must agree.

    Returns:
        ``None`` if the function looks at numbers in other ways, or disagrees.
    """
    recorder = _Recorder(points[0])
    try:
        with recorder:
            outputs = function(points[0])
    except _NotRecorded:
        return None
    if any(id(x) not in recorder.place for x in outputs):
        return None
    last = [recorder.place[id(x)] for x in outputs]
    steps, size, guards = recorder.steps, len(recorder.kept), recorder.guards

    def replay(point: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        held: list[Any] = [None] * size
        held[0] = point

        def at(place: _Place) -> Any:
            return held[place.number]

        for func, args, kwargs, out in steps:
            args, kwargs = tree_map_only(_Place, at, (args, kwargs))
            made = func(*args, **kwargs)
            for number, x in zip(out, [made] if isinstance(made, Tensor) else made, strict=True):
                held[number] = x
        other = [~held[k].reshape(1) if value else held[k].reshape(1) for k, value in guards]
        changed = torch.cat(other).any() if other else torch.zeros((), dtype=torch.bool)
        return held[last[0]], held[last[1]], changed

    fast = _scripted(replay, points[0], function, bool(guards))
    return fast if all(_agree(fast(x), function(x)) for x in points) else None


def _scripted(replay: Any, point: Tensor, function: Function, guarded: bool) -> Function:
    """The operations in a row, for torch's interpreter."""
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        traced: Any = replay
        # torch's interpreter lacks a few operations that Python has
        with contextlib.suppress(RuntimeError):
            traced = torch.jit.trace(replay, (point.clone(),), check_trace=False)  # type: ignore[no-untyped-call]

    def run(point: Tensor) -> tuple[Tensor, Tensor]:
        with torch.no_grad():
            potential, gradient, changed = traced(point)
        return function(point) if guarded and bool(changed) else (potential, gradient)

    return run


def _agree(a: Sequence[Tensor], b: Sequence[Tensor]) -> bool:
    return all(
        torch.allclose(x, y, rtol=_TOLERANCE, atol=_TOLERANCE, equal_nan=True)
        for x, y in zip(a, b, strict=True)
    )
