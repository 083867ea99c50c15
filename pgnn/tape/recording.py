"""A function's arithmetic, written down once and run again without Python."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from pgnn.tape.recorder import record
from pgnn.tape.tape import Slot, Step, Tape, slots_in

Function = Callable[[Tensor], tuple[Tensor, Tensor]]
"""Potentials ``(C,)`` and gradients ``(C, D)`` of points ``(C, D)``."""

_TOLERANCE = 1e-9


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
    point = points[0]
    tape = record(lambda: function(point), [point], numbers_only=True)
    if tape is None or not all(isinstance(x, Slot) for x in tape.outputs):
        return None
    replay = _Replay(tape, point)

    def fast(point: Tensor) -> tuple[Tensor, Tensor]:
        found = replay(point)
        return function(point) if found is None else found

    return fast if all(_agree(fast(x), function(x)) for x in points) else None


@dataclass(frozen=True, eq=False)
class _Run:
    """A part of a tape: what it is given and what it makes are kept by slot."""

    tape: Tape
    run: Callable[..., Sequence[Tensor]]

    @property
    def made(self) -> list[int]:
        """The slots of what it makes."""
        return [s.number for s in slots_in(self.tape.outputs)]


class _Replay:
    """The steps of a tape: operations of torch by its interpreter, whole steps between them.

    Args:
        tape: Of potential and gradient.
        point: Any input.
    """

    def __init__(self, tape: Tape, point: Tensor) -> None:
        self.tape = tape
        self.last = [s.number for s in slots_in(tape.outputs)]
        self.runs = []
        held: dict[int, Tensor] = {tape.inputs[0]: point.clone()}
        for part in _parts(tape):
            inputs = [held[k] for k in part.inputs]
            run = _Run(part, part.scripted(inputs))
            held.update(zip(run.made, part.run(inputs), strict=True))
            self.runs.append(run)

    def __call__(self, point: Tensor) -> tuple[Tensor, Tensor] | None:
        """Return potential and gradient; None where a question has another answer."""
        held: list[Any] = [None] * self.tape.size
        held[self.tape.inputs[0]] = point
        with torch.no_grad():
            for part in self.runs:
                found = part.run(*[held[k] for k in part.tape.inputs])
                for k, x in zip(part.made, found, strict=True):
                    held[k] = x
        if any(bool(held[s.number]) != value for s, value in self.tape.guards):
            return None
        return held[self.last[0]], held[self.last[1]]


def _parts(tape: Tape) -> list[Tape]:
    """The tape cut into runs of torch's operations, and whole steps alone."""
    needed = {s.number for s in slots_in((tape.outputs, tape.guards))}
    parts = []
    for steps in reversed(_runs(tape.steps)):
        made = {k for s in steps for k in s.out}
        used = set().union(*(s.used for s in steps))
        outputs = tuple(Slot(k) for k in sorted(made & needed))
        inputs = tuple(sorted(used - made))
        parts.append(replace(tape, inputs=inputs, steps=tuple(steps), outputs=outputs, guards=()))
        needed |= used
    return parts[::-1]


def _runs(steps: Sequence[Step]) -> list[list[Step]]:
    found: list[list[Step]] = []
    for step in steps:
        if step.is_whole or not found or found[-1][0].is_whole:
            found.append([])
        found[-1].append(step)
    return found


def _agree(a: Sequence[Tensor], b: Sequence[Tensor]) -> bool:
    return all(
        torch.allclose(x, y, rtol=_TOLERANCE, atol=_TOLERANCE, equal_nan=True)
        for x, y in zip(a, b, strict=True)
    )
