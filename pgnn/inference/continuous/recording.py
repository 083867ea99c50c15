"""A function's arithmetic, written down once and run again without Python."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
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


@dataclass(frozen=True, eq=False)
class _Whole:
    """A step that torch's interpreter cannot run."""

    step: Any

    def __call__(self, *tensors: Tensor) -> Sequence[Tensor]:
        """Run it."""
        return self.step(*tensors)  # type: ignore[no-any-return]


class _Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes every operation that depends on the input; what does not is a constant."""

    def __init__(self, point: Tensor) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.kept: list[Any] = [point]
        self.place = {id(point): 0}
        self.steps: list[tuple[Any, Any, Any, list[int]]] = []
        self.guards: list[tuple[int, bool]] = []

    def whole(self, step: Any, tensors: Sequence[Tensor]) -> Sequence[Tensor]:
        """Run a step that is no operation of torch and note it, see :func:`whole_step`."""
        given = tuple(self._placed(x) for x in tensors)
        with _disable_current_modes():
            made = [x.detach() for x in step(*tensors)]
        self.steps.append((_Whole(step), given, {}, [self._new(x) for x in made]))
        return made

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
    fast = _replayed(recorder, [recorder.place[id(x)] for x in outputs], points[0], function)
    return fast if all(_agree(fast(x), function(x)) for x in points) else None


def _replayed(recorder: _Recorder, last: list[int], point: Tensor, function: Function) -> Function:
    """The steps in a row: operations of torch by its interpreter, whole steps between them."""
    guards, size = recorder.guards, len(recorder.kept)
    needed = {*last, *(k for k, _ in guards)}
    parts: list[tuple[Any, list[int], list[int]]] = []
    for steps in reversed(_runs(recorder.steps)):
        made = {k for _, _, _, out in steps for k in out}
        used = {p.number for _, a, k, _ in steps for p in tree_flatten((a, k))[0]
                if isinstance(p, _Place)}  # fmt: skip
        given, kept = sorted(used - made), sorted(made & needed)
        needed |= used
        parts.append((_Run(steps, given, kept), given, kept))
    parts.reverse()
    held: list[Any] = [None] * size
    held[0] = point.clone()
    ready = []
    for run, given, kept in parts:
        inputs = [held[k] for k in given]
        fast = run if run.whole else _scripted(run, inputs)
        ready.append((fast, given, kept))
        for k, x in zip(kept, run(*inputs), strict=True):
            held[k] = x

    def replay(point: Tensor) -> tuple[Tensor, Tensor]:
        held: list[Any] = [None] * size
        held[0] = point
        with torch.no_grad():
            for fast, given, kept in ready:
                for k, x in zip(kept, fast(*[held[k] for k in given]), strict=True):
                    held[k] = x
        changed = any(bool(held[k]) != value for k, value in guards)
        return function(point) if changed else (held[last[0]], held[last[1]])

    return replay


class _Run:
    """Steps one after the other: inputs by place, outputs by place.

    Args:
        steps: Operations of torch, or one whole step.
        given: Places of the inputs.
        kept: Places of the outputs.
    """

    def __init__(self, steps: list[Any], given: list[int], kept: list[int]) -> None:
        self.steps, self.given, self.kept = steps, given, kept
        self.whole = isinstance(steps[0][0], _Whole)

    def __call__(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Run them."""
        held = dict(zip(self.given, inputs, strict=True))

        def at(place: _Place) -> Any:
            return held[place.number]

        for func, args, kwargs, out in self.steps:
            args, kwargs = tree_map_only(_Place, at, (args, kwargs))
            made = func(*args, **kwargs)
            for number, x in zip(out, [made] if isinstance(made, Tensor) else made, strict=True):
                held[number] = x
        return tuple(held[k] for k in self.kept)


def _runs(steps: list[Any]) -> list[list[Any]]:
    """The steps cut into runs of torch's operations, and whole steps alone."""
    found: list[list[Any]] = []
    for step in steps:
        alone = isinstance(step[0], _Whole)
        if alone or not found or isinstance(found[-1][0][0], _Whole):
            found.append([])
        found[-1].append(step)
    return found


def _scripted(run: _Run, inputs: list[Tensor]) -> Any:
    """Operations for torch's interpreter, or as they are where it lacks one of them."""

    def function(*tensors: Tensor) -> tuple[Tensor, ...]:
        return run(*tensors)

    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        with contextlib.suppress(RuntimeError):
            return torch.jit.trace(function, tuple(inputs), check_trace=False)  # type: ignore[no-untyped-call]
    return run


def _agree(a: Sequence[Tensor], b: Sequence[Tensor]) -> bool:
    return all(
        torch.allclose(x, y, rtol=_TOLERANCE, atol=_TOLERANCE, equal_nan=True)
        for x, y in zip(a, b, strict=True)
    )
