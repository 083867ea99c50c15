"""Writes the operations of a computation down while it runs."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import (
    TorchDispatchMode,
    _disable_current_modes,
    _get_current_dispatch_mode,
)

from pgnn.tape.tape import OpaqueStep, Slot, Step, Tape

_SMALL = 4096
"""Constants of at most so many numbers are compared by value."""


def record(
    compute: Callable[[], Sequence[Tensor]],
    inputs: Sequence[Tensor],
    *,
    numbers_only: bool = False,
    with_draws: bool = False,
) -> Tape | None:
    """Run a computation and write it down.

    Args:
        compute: It may use the inputs, and constants.
        inputs: Tensors whose numbers will differ.
        numbers_only: Whether no derivatives are taken of what the tape computes. Then tensors that
            require gradients may be constants, results may be written into, there may be opaque
            steps (:func:`opaque_step`), and answers of yes or no become guards.
        with_draws: Whether random draws are made anew each time the tape is run.

    Returns:
        The tape; ``None`` if the computation cannot be repeated by its operations: it reads
        numbers, writes into inputs or constants, or is random, unless allowed above.
    """
    recorder = _Recorder(inputs, numbers_only, with_draws)
    with recorder:
        outputs = compute()
    return recorder.tape(outputs)


def opaque_step(step: Callable[..., Sequence[Tensor]], *tensors: Tensor) -> Sequence[Tensor]:
    """Run a step; if operations are being written down, it is written down as one.

    Args:
        step: Returns new tensors; it may leave torch, and must depend on its arguments alone.
        tensors: Its arguments.
    """
    mode = _get_current_dispatch_mode()
    return mode.opaque(step, tensors) if isinstance(mode, _Recorder) else step(*tensors)


class _Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Numbers every tensor that depends on the inputs."""

    def __init__(self, inputs: Sequence[Tensor], numbers_only: bool, with_draws: bool) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.numbers_only, self.with_draws = numbers_only, with_draws
        self.numbers = {id(x): k for k, x in enumerate(inputs)}
        self.kept: list[Tensor] = [*inputs]  # of each number; so that no identity is used twice
        self.fixed = {_storage(x) for x in inputs}
        self.written: set[int] = set()
        self.inputs = tuple(range(len(inputs)))
        self.steps: list[Step] = []
        self.guards: list[tuple[Slot, bool]] = []
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
        result = func(*args, **kwargs)
        noted = func._schema.is_mutable or self._draws(func) or self._depends((args, kwargs))
        if self.possible and noted:
            self._note(func, args, kwargs, result)
        return result

    def opaque(
        self, step: Callable[..., Sequence[Tensor]], tensors: Sequence[Tensor]
    ) -> Sequence[Tensor]:
        """Run a step that is no operation of torch, and write it down."""
        with _disable_current_modes():
            results = [x.detach() for x in step(*tensors)]
        self.possible &= self.numbers_only
        if self.possible:
            self._write(OpaqueStep(step), tuple(tensors), {}, results)
        return results

    def _note(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> None:
        targets = _targets(func, args, kwargs) if func._schema.is_mutable else []
        if targets and self._draws(func):
            self.possible = False
        elif targets and not self._depends((args, kwargs)):  # not ours, if it leaves ours alone
            self.possible = self.fixed.isdisjoint(map(_storage, targets))
        elif (
            self.numbers_only
            and func is torch.ops.aten._local_scalar_dense.default
            and (isinstance(result, bool))
        ):
            self.guards.append((self._slots(args[0]), result))
        elif (_is_random(func) and not self.with_draws) or not _all_tensors(result):
            self.possible = False  # random, or a number was looked at
        elif targets and not (self.numbers_only and self._may_write(targets)):
            self.possible = False
        else:
            self._write(func, args, kwargs, result, writes=bool(targets))

    def _draws(self, func: Any) -> bool:
        return self.with_draws and _is_random(func)

    def _may_write(self, targets: Sequence[Tensor]) -> bool:
        """Whether tensors are results, and no constant has their place in memory."""
        places = {_storage(x) for x in targets}
        self.written |= places
        return self._all_ours(targets) and self.fixed.isdisjoint(places)

    def _write(
        self, operation: Any, args: Any, kwargs: Any, result: Any, writes: bool = False
    ) -> None:
        slots, named = self._slots(args), {k: self._slots(a) for k, a in kwargs.items()}
        single = isinstance(result, Tensor)
        first = len(self.kept)
        for tensor in [result] if single else result:
            self.numbers[id(tensor)] = len(self.kept)
            self.kept.append(tensor)
        out = tuple(range(first, len(self.kept)))
        self.steps.append(Step(operation, slots, named, out, single, writes))

    def _depends(self, value: Any) -> bool:
        return any(id(x) in self.numbers for x in _tensors(value))

    def _all_ours(self, tensors: Iterable[Tensor]) -> bool:
        return all(id(x) in self.numbers for x in tensors)

    def _slots(self, value: Any) -> Any:
        if isinstance(value, Tensor):
            place = self.numbers.get(id(value))
            return self._constant(value) if place is None else Slot(place)
        if isinstance(value, tuple | list):
            return type(value)(self._slots(x) for x in value)
        return value

    def _constant(self, value: Tensor) -> Tensor:
        if value.requires_grad and not self.numbers_only:
            self.possible = False
        self.fixed.add(_storage(value))
        return value.detach()

    def tape(self, outputs: Sequence[Tensor]) -> Tape | None:
        """The recorded tape: each result once, without operations that the outputs do not need."""
        ends = tuple(self._slots(x) for x in outputs)
        if not self.possible:
            return None
        unsteady = set[int]()
        if self.written:
            unsteady = {k for k, x in enumerate(self.kept) if _storage(x) in self.written}
        if any(s.number in unsteady for s, _ in self.guards):
            return None
        steps, same = _deduplicated(self.steps, unsteady)
        final = _renamed(ends, same), tuple((_renamed(s, same), b) for s, b in self.guards)
        return Tape(self.inputs, tuple(steps), *final, len(self.kept)).needed()


def _deduplicated(steps: Iterable[Step], unsteady: set[int]) -> tuple[list[Step], dict[int, int]]:
    """Steps without those that repeat another one, and which slot has the result of each that did.

    Args:
        steps: In order.
        unsteady: Slots of tensors that are written into.
    """
    kept: list[Step] = []
    known: dict[Hashable, Step] = {}
    same: dict[int, int] = {}
    for step in steps:
        step = replace(step, args=_renamed(step.args, same), kwargs=_renamed(step.kwargs, same))
        if not unsteady.isdisjoint((*step.used, *step.out)) or _is_random(step.operation):
            kept.append(step)
            continue
        first = known.setdefault((step.operation, _key(step.args), _key(step.kwargs)), step)
        if first is step:
            kept.append(step)
        else:
            same.update(zip(step.out, first.out, strict=True))
    return kept, same


def _renamed(value: Any, same: Mapping[int, int]) -> Any:
    if isinstance(value, Slot):
        return Slot(same[value.number]) if value.number in same else value
    if isinstance(value, tuple | list):
        return type(value)(_renamed(x, same) for x in value)
    if isinstance(value, dict):
        return {k: _renamed(x, same) for k, x in value.items()}
    return value


def _key(value: Any) -> Hashable:
    """The key of arguments: of small constants their values."""
    if isinstance(value, Tensor):
        if value.numel() > _SMALL or value.device.type != "cpu":
            return value.data_ptr(), value.dtype, tuple(value.shape), value.stride()
        return value.dtype, tuple(value.shape), value.contiguous().numpy().tobytes()
    if isinstance(value, tuple | list):
        return tuple(_key(x) for x in value)
    if isinstance(value, dict):
        return tuple((k, _key(x)) for k, x in sorted(value.items()))
    return type(value), value


def _tensors(value: Any) -> Iterable[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, tuple | list):
        for x in value:
            yield from _tensors(x)
    elif isinstance(value, dict):
        yield from _tensors(tuple(value.values()))


def _targets(func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> list[Tensor]:
    """The tensors that an operation writes into."""
    written: list[Any] = []
    for k, a in enumerate(func._schema.arguments):
        if a.alias_info is not None and a.alias_info.is_write:
            written.append(args[k] if k < len(args) else kwargs.get(a.name))
    return [*_tensors(written)]


def _is_random(operation: Any) -> bool:
    tags = getattr(operation, "tags", ())
    return torch.Tag.nondeterministic_seeded in tags


def _storage(x: Tensor) -> int:
    """What tensors that share memory have in common."""
    return int(x.untyped_storage()._cdata)


def _all_tensors(result: Any) -> bool:
    return isinstance(result, Tensor) or (
        isinstance(result, tuple | list) and all(isinstance(x, Tensor) for x in result)
    )
