"""Records the operations of a computation while it runs."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch._C import _len_torch_dispatch_stack, _pop_torch_dispatch_stack
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
    """Run a computation and record it.

    Args:
        compute: The computation, a function of the inputs and of constants.
        inputs: Tensors whose values will differ.
        numbers_only: Whether the results of the tape are not differentiated. Then tensors that
            require gradients may be constants, results may be changed in place, there may be
            opaque steps (:func:`opaque_step`), and conversions to bool become guards.
        with_draws: Whether random draws are repeated each time the tape is run.

    Returns:
        The tape; ``None`` if the computation cannot be repeated by its operations: it converts
        tensors to numbers, changes inputs or constants, or is random, unless allowed above.
    """
    recorder = _Recorder(inputs, numbers_only, with_draws)
    outer = _len_torch_dispatch_stack()
    try:
        with recorder:
            outputs = compute()
    except BaseException:
        try:
            _pop_modes(outer)
        except KeyboardInterrupt:  # a second interrupt
            _pop_modes(outer)
            raise
        raise
    return recorder.tape(outputs)


def _pop_modes(outer: int) -> None:
    """Remove modes of this thread that an interrupt, as they were exited, has left."""
    while _len_torch_dispatch_stack() > outer:
        _pop_torch_dispatch_stack(None)


def opaque_step(step: Callable[..., Sequence[Tensor]], *tensors: Tensor) -> Sequence[Tensor]:
    """Run a step; if operations are being recorded, it is recorded as a single one.

    Args:
        step: Returns new tensors; may compute outside of torch, from its arguments alone.
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
        self.tensors: list[Tensor] = [*inputs]  # kept alive, so that no id is used twice
        self.fixed = {_storage(x) for x in inputs}
        self.written: set[int] = set()
        self.inputs = tuple(range(len(inputs)))
        self.steps: list[Step] = []
        self.guards: list[tuple[Slot, bool]] = []
        self.repeatable = True

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Run an operation, and record it if it depends on the inputs."""
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        relevant = func._schema.is_mutable or self._draws(func) or self._depends((args, kwargs))
        if self.repeatable and relevant:
            self._record(func, args, kwargs, result)
        return result

    def opaque(
        self, step: Callable[..., Sequence[Tensor]], tensors: Sequence[Tensor]
    ) -> Sequence[Tensor]:
        """Run a step that is no operation of torch, and record it."""
        with _disable_current_modes():
            results = [x.detach() for x in step(*tensors)]
        self.repeatable &= self.numbers_only
        if self.repeatable:
            self._append_step(OpaqueStep(step), tuple(tensors), {}, results)
        return results

    def _record(
        self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any
    ) -> None:
        targets = _targets(func, args, kwargs) if func._schema.is_mutable else []
        if targets and self._draws(func):
            self.repeatable = False
        elif targets and not self._depends((args, kwargs)):  # of constants alone
            self.repeatable = self.fixed.isdisjoint(map(_storage, targets))
        elif (
            self.numbers_only
            and func is torch.ops.aten._local_scalar_dense.default
            and (isinstance(result, bool))
        ):
            self.guards.append((self._slots(args[0]), result))
        elif (_is_random(func) and not self.with_draws) or not _all_tensors(result):
            self.repeatable = False  # random, or a tensor was converted to a number
        elif targets and not (self.numbers_only and self._may_be_written(targets)):
            self.repeatable = False
        else:
            self._append_step(func, args, kwargs, result, writes=bool(targets))

    def _draws(self, func: Any) -> bool:
        return self.with_draws and _is_random(func)

    def _may_be_written(self, targets: Sequence[Tensor]) -> bool:
        """Whether tensors are results that share memory with no constant."""
        storages = {_storage(x) for x in targets}
        self.written |= storages
        return self._all_recorded(targets) and self.fixed.isdisjoint(storages)

    def _append_step(
        self, operation: Any, args: Any, kwargs: Any, result: Any, writes: bool = False
    ) -> None:
        slots, named = self._slots(args), {k: self._slots(a) for k, a in kwargs.items()}
        single = isinstance(result, Tensor)
        first = len(self.tensors)
        for tensor in [result] if single else result:
            self.numbers[id(tensor)] = len(self.tensors)
            self.tensors.append(tensor)
        out = tuple(range(first, len(self.tensors)))
        self.steps.append(Step(operation, slots, named, out, single, writes))

    def _depends(self, value: Any) -> bool:
        return any(id(x) in self.numbers for x in _tensors(value))

    def _all_recorded(self, tensors: Iterable[Tensor]) -> bool:
        return all(id(x) in self.numbers for x in tensors)

    def _slots(self, value: Any) -> Any:
        if isinstance(value, Tensor):
            number = self.numbers.get(id(value))
            return self._constant(value) if number is None else Slot(number)
        if isinstance(value, tuple | list):
            return type(value)(self._slots(x) for x in value)
        return value

    def _constant(self, value: Tensor) -> Tensor:
        if value.requires_grad and not self.numbers_only:
            self.repeatable = False
        self.fixed.add(_storage(value))
        return value.detach()

    def tape(self, outputs: Sequence[Tensor]) -> Tape | None:
        """The recorded tape, without repeated operations and those that no output needs."""
        ends = tuple(self._slots(x) for x in outputs)
        if not self.repeatable:
            return None
        mutable = set[int]()
        if self.written:
            mutable = {k for k, x in enumerate(self.tensors) if _storage(x) in self.written}
        if any(s.number in mutable for s, _ in self.guards):
            return None
        steps, same = _deduplicated(self.steps, mutable)
        final = _renamed(ends, same), tuple((_renamed(s, same), b) for s, b in self.guards)
        return Tape(self.inputs, tuple(steps), *final, len(self.tensors)).needed()


def _deduplicated(steps: Iterable[Step], mutable: set[int]) -> tuple[list[Step], dict[int, int]]:
    """Remove steps that repeat another one; return the rest, and the slots of equal results.

    Args:
        steps: In order.
        mutable: Slots of tensors that are changed in place.
    """
    kept: list[Step] = []
    known: dict[Hashable, Step] = {}
    same: dict[int, int] = {}
    for step in steps:
        step = replace(step, args=_renamed(step.args, same), kwargs=_renamed(step.kwargs, same))
        if not mutable.isdisjoint((*step.used, *step.out)) or _is_random(step.operation):
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
    """A hashable key of arguments; small constants by their values."""
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
    """The tensors that an operation changes in place."""
    written: list[Any] = []
    for k, a in enumerate(func._schema.arguments):
        if a.alias_info is not None and a.alias_info.is_write:
            written.append(args[k] if k < len(args) else kwargs.get(a.name))
    return [*_tensors(written)]


def _is_random(operation: Any) -> bool:
    tags = getattr(operation, "tags", ())
    return torch.Tag.nondeterministic_seeded in tags


def _storage(x: Tensor) -> int:
    """The address of a tensor's storage."""
    return int(x.untyped_storage()._cdata)


def _all_tensors(result: Any) -> bool:
    return isinstance(result, Tensor) or (
        isinstance(result, tuple | list) and all(isinstance(x, Tensor) for x in result)
    )
