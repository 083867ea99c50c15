"""A program's arithmetic written down once, each result once, to be run again without Python."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

_SMALL = 4096
"""Constants of so many numbers at most are told apart by their numbers."""


@dataclass(frozen=True)
class Slot:
    """Where a tape keeps a tensor."""

    number: int


@dataclass(frozen=True)
class _Step:
    """One operation of torch."""

    operation: Any
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    out: tuple[int | None, ...]
    single: bool


@dataclass(frozen=True, eq=False)
class Tape:
    """Operations that compute tensors from inputs.

    What does not depend on the inputs is a constant; what was computed twice is computed once, so
    a loop that looks the same rows of a table up at each step becomes a few operations.

    Attributes:
        steps: In order.
        outputs: The slot of each output, or the output itself where it is a constant.
        size: Number of slots; the inputs have the first ones.
    """

    steps: tuple[_Step, ...]
    outputs: tuple[Slot | Tensor, ...]
    size: int

    def run(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        """Compute the outputs; differentiable where operations of torch are.

        Args:
            inputs: As many as when the tape was made, of the same shapes.
        """
        held: list[Any] = [*inputs, *[None] * (self.size - len(inputs))]
        for step in self.steps:
            found = step.operation(
                *[_fill(a, held) for a in step.args],
                **{k: _fill(a, held) for k, a in step.kwargs.items()},
            )
            if step.single:
                held[step.out[0]] = found  # type: ignore[index]
            else:
                for place, value in zip(step.out, found, strict=True):
                    if place is not None:
                        held[place] = value
        return [held[o.number] if isinstance(o, Slot) else o for o in self.outputs]


def record(compute: Callable[[], Sequence[Tensor]], inputs: Sequence[Tensor]) -> Tape | None:
    """Run a computation and write it down.

    Args:
        compute: It may use the inputs, and constants.
        inputs: Tensors whose numbers will differ.

    Returns:
        The tape; ``None`` if the computation cannot be repeated by its operations: it looks at
        numbers, writes in place, is random, or uses tensors that want gradients and are no inputs.
    """
    recorder = _Recorder(inputs)
    with recorder:
        outputs = compute()
    return recorder.tape(outputs)


class _Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Numbers every tensor that depends on the inputs."""

    def __init__(self, inputs: Sequence[Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.numbers: dict[int, int] = {id(x): k for k, x in enumerate(inputs)}
        self.alive: list[Tensor] = [*inputs]  # so that no identity is used twice
        self.known: dict[Any, _Step] = {}
        self.steps: list[_Step] = []
        self.size = len(inputs)
        self.possible = True

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Run an operation, and write it down if it depends on the inputs."""
        kwargs = kwargs or {}
        found = func(*args, **kwargs)
        if self.possible and self._depends((args, kwargs)):
            if func._schema.is_mutable or torch.Tag.nondeterministic_seeded in func.tags:
                self.possible = False
            elif not _all_tensors(found):
                self.possible = False  # a number was looked at
            else:
                self._write(func, args, kwargs, found)
        return found

    def _write(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], found: Any) -> None:
        outs = [found] if isinstance(found, Tensor) else list(found)
        own, named = self._slots(args), {k: self._slots(a) for k, a in kwargs.items()}
        key = (func, _key(own), _key(named))
        step = self.known.get(key)
        if step is None:
            places = range(self.size, self.size + len(outs))
            step = _Step(func, own, named, tuple(places), isinstance(found, Tensor))
            self.size += len(outs)
            self.known[key] = step
            self.steps.append(step)
        for tensor, place in zip(outs, step.out, strict=True):
            if place is not None:
                self.numbers[id(tensor)] = place
                self.alive.append(tensor)

    def _depends(self, value: Any) -> bool:
        if isinstance(value, Tensor):
            if value.requires_grad and id(value) not in self.numbers and value.is_leaf:
                self.possible = False
            return id(value) in self.numbers
        if isinstance(value, tuple | list):
            return any([self._depends(x) for x in value])  # noqa: C419 (looks at all of them)
        if isinstance(value, dict):
            return any([self._depends(x) for x in value.values()])  # noqa: C419
        return False

    def _slots(self, value: Any) -> Any:
        if isinstance(value, Tensor):
            place = self.numbers.get(id(value))
            if place is not None:
                return Slot(place)
            self.alive.append(value)
            return value
        if isinstance(value, tuple | list):
            return type(value)(self._slots(x) for x in value)
        return value

    def tape(self, outputs: Sequence[Tensor]) -> Tape | None:
        """What was written down, without what the outputs do not need."""
        if not self.possible:
            return None
        ends = [self._slots(x) for x in outputs]
        needed = {e.number for e in ends if isinstance(e, Slot)}
        kept = []
        for step in reversed(self.steps):
            if needed.intersection(p for p in step.out if p is not None):
                kept.append(step)
                needed.update(_numbers((step.args, step.kwargs)))
        fixed = [e if isinstance(e, Slot) else e.detach() for e in ends]
        return Tape(tuple(reversed(kept)), tuple(fixed), self.size)


def _fill(value: Any, held: list[Any]) -> Any:
    if type(value) is Slot:
        return held[value.number]
    if type(value) is list or type(value) is tuple:
        return type(value)(_fill(x, held) for x in value)
    return value


def _numbers(value: Any) -> set[int]:
    if isinstance(value, Slot):
        return {value.number}
    if isinstance(value, tuple | list):
        return set().union(*(_numbers(x) for x in value)) if value else set()
    if isinstance(value, dict):
        return _numbers(tuple(value.values()))
    return set()


def _key(value: Any) -> Any:
    """What tells arguments apart: of small constants their numbers."""
    if isinstance(value, Tensor):
        if value.numel() > _SMALL or value.device.type != "cpu":
            return id(value)
        with torch.utils._python_dispatch._disable_current_modes():
            numbers = value.detach().contiguous().numpy().tobytes()
        return (value.dtype, tuple(value.shape), numbers)
    if isinstance(value, tuple | list):
        return tuple(_key(x) for x in value)
    if isinstance(value, dict):
        return tuple((k, _key(x)) for k, x in sorted(value.items()))
    return (type(value), value)


def _all_tensors(found: Any) -> bool:
    return isinstance(found, Tensor) or (
        isinstance(found, tuple | list) and all(isinstance(x, Tensor) for x in found)
    )
