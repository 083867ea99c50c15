"""Recorded computations, which are run again without Python."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class Slot:
    """A numbered slot of a tape, which holds a tensor."""

    number: int


@dataclass(frozen=True, eq=False)
class OpaqueStep:
    """An operation that is not one of torch's."""

    step: Callable[..., Sequence[Tensor]]

    def __call__(self, *tensors: Tensor) -> Sequence[Tensor]:
        """Run it."""
        return self.step(*tensors)


@dataclass(frozen=True, eq=False)
class Step:
    """One operation.

    Attributes:
        operation: Of torch, or a :class:`OpaqueStep`.
        args: Positional arguments, with slots for tensors that depend on the inputs.
        kwargs: Keyword arguments.
        out: The slots of its results.
        single: Whether it returns one tensor, not a sequence.
        writes: Whether it changes an argument in place.
    """

    operation: Any
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    out: tuple[int, ...]
    single: bool
    writes: bool = False

    @property
    def is_opaque(self) -> bool:
        """Whether it is not one of torch's."""
        return isinstance(self.operation, OpaqueStep)

    @property
    def used(self) -> set[int]:
        """The slots among its arguments."""
        return {s.number for s in slots_in((self.args, self.kwargs))}


@dataclass(frozen=True, eq=False)
class Tape:
    """Operations that compute tensors from inputs.

    Results that do not depend on the inputs are constants; repeated computations are done once, so
    that a loop that looks up the same rows of a table at each step becomes a few operations.

    Attributes:
        inputs: The slots of the inputs.
        steps: In order.
        outputs: The slot of each output, or the output itself where it is a constant.
        guards: Slots of conditions with their recorded values; the outputs are valid only where
            the conditions have these values.
        size: Number of slots.

    Example:
        >>> import torch
        >>> from pgnn.tape.recorder import record
        >>> x = torch.tensor([1.0, 2.0])
        >>> tape = record(lambda: [x.exp() + x.exp()], [x])
        >>> len(tape.steps), tape.run([torch.zeros(2)])
        (2, [tensor([2., 2.])])
    """

    inputs: tuple[int, ...]
    steps: tuple[Step, ...]
    outputs: tuple[Slot | Tensor, ...]
    guards: tuple[tuple[Slot, bool], ...]
    size: int

    def run(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        """Compute the outputs; differentiable where operations of torch are.

        Args:
            inputs: Tensors of the same number and shapes as those of the recording.
        """
        held: list[Any] = [None] * self.size
        for place, value in zip(self.inputs, inputs, strict=True):
            held[place] = value
        for step in self.steps:
            result = step.operation(
                *[_fill(a, held) for a in step.args],
                **{k: _fill(a, held) for k, a in step.kwargs.items()},
            )
            if step.single:
                held[step.out[0]] = result
            else:
                for place, value in zip(step.out, result, strict=True):
                    held[place] = value
        return [held[o.number] if isinstance(o, Slot) else o for o in self.outputs]

    def scripted(self, inputs: Sequence[Tensor]) -> Callable[..., Sequence[Tensor]]:
        """Return :meth:`run` compiled for torch's interpreter, without derivatives.

        Args:
            inputs: Examples of the inputs.

        Returns:
            A function of the inputs as positional arguments; :meth:`run` itself where the
            interpreter lacks an operation.
        """

        def function(*tensors: Tensor) -> tuple[Tensor, ...]:
            return tuple(self.run(tensors))

        if any(step.is_opaque for step in self.steps):
            return function
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            with contextlib.suppress(RuntimeError):
                # functions made by torch.jit.trace are never freed, nor are their constants
                graph, _ = torch._C._create_graph_by_tracing(
                    function, tuple(inputs), lambda _: "", True, False
                )
                return torch._C.CompilationUnit().create_function("run", graph)
        return function

    def needed(self) -> Tape:
        """Return the tape without steps on which neither outputs nor guards depend."""
        needed = {s.number for s in slots_in((self.outputs, self.guards))}
        kept = []
        for step in reversed(self.steps):
            if step.writes or needed.intersection(step.out):
                kept.append(step)
                needed |= step.used
        return replace(self, steps=tuple(reversed(kept)))


def slots_in(value: Any) -> Iterator[Slot]:
    """Yield the slots in nested containers."""
    if isinstance(value, Slot):
        yield value
    elif isinstance(value, tuple | list):
        for x in value:
            yield from slots_in(x)
    elif isinstance(value, dict):
        yield from slots_in(tuple(value.values()))


def _fill(value: Any, held: list[Any]) -> Any:
    if type(value) is Slot:
        return held[value.number]
    if type(value) is list or type(value) is tuple:
        return type(value)(_fill(x, held) for x in value)
    return value
