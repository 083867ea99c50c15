"""Recorded functions that are replayed without Python."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from pgnn.tape.recorder import record
from pgnn.tape.tape import Slot, Step, Tape, slots_in

Function = Callable[[Tensor], tuple[Tensor, Tensor]]
"""Potentials ``(C,)`` and gradients ``(C, D)`` of points ``(C, D)``."""


def recorded(
    function: Function, points: Sequence[Tensor], tolerance: float = 1e-9
) -> Replay | None:
    """Return a function's recording, which agrees with it at some points.

    Conversions of tensors to bool become guards, which are tested at each point.

    Args:
        function: The function, which is recorded at the first point.
        points: ``(C, D)`` each; the recording and the function must agree at all of them.
        tolerance: Tolerance of the agreement, relative and absolute.

    Returns:
        The recording; ``None`` if the function cannot be recorded, or they disagree.
    """
    point = points[0]
    tape = record(lambda: function(point), [point], numbers_only=True)
    if tape is None or not all(isinstance(x, Slot) for x in tape.outputs):
        return None
    replay = Replay(tape, point)
    for x in points:
        replayed = replay(x)
        if replayed is not None and not _agree(replayed, function(x), tolerance):
            return None
    return replay


class _Part(NamedTuple):
    """Consecutive steps of a tape that are run together.

    Attributes:
        inputs: The slots that they read.
        outputs: The slots that they write.
        run: Computes the outputs from the inputs.
    """

    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    run: Callable[..., Sequence[Tensor]]


class Replay:
    """The steps of a tape: operations of torch by its interpreter, opaque steps between them.

    Called with points ``(C, D)`` it returns potentials ``(C,)`` and gradients ``(C, D)``, or None
    where a guard has another value than in the recording.

    Args:
        tape: Tape of potential and gradient.
        point: Any input.
    """

    def __init__(self, tape: Tape, point: Tensor) -> None:
        self.size, self.start = tape.size, tape.inputs[0]
        self.value, self.gradient = (s.number for s in slots_in(tape.outputs))
        self.guards = [(s.number, answer) for s, answer in tape.guards]
        self.parts: list[_Part] = []
        values: dict[int, Tensor] = {self.start: point.clone()}
        for steps in _parts(tape):
            inputs = [values[k] for k in steps.inputs]
            outputs = tuple(s.number for s in slots_in(steps.outputs))
            part = _Part(steps.inputs, outputs, steps.scripted(inputs))
            values.update(zip(outputs, part.run(*inputs), strict=True))
            self.parts.append(part)

    def __call__(self, point: Tensor) -> tuple[Tensor, Tensor] | None:
        """Return potential and gradient; None where a guard has another value."""
        values: list[Any] = [None] * self.size
        values[self.start] = point
        with torch.no_grad():
            for part in self.parts:
                results = part.run(*[values[k] for k in part.inputs])
                for k, x in zip(part.outputs, results, strict=True):
                    values[k] = x
        if any(bool(values[k]) != answer for k, answer in self.guards):
            return None
        return values[self.value], values[self.gradient]


def _parts(tape: Tape) -> list[Tape]:
    """The tape split into sequences of torch's operations and single opaque steps."""
    needed = {s.number for s in slots_in((tape.outputs, tape.guards))}
    parts = []
    for steps in reversed(_runs(tape.steps)):
        filled = {k for s in steps for k in s.out}
        used = set().union(*(s.used for s in steps))
        outputs = tuple(Slot(k) for k in sorted(filled & needed))
        inputs = tuple(sorted(used - filled))
        parts.append(replace(tape, inputs=inputs, steps=tuple(steps), outputs=outputs, guards=()))
        needed |= used
    return parts[::-1]


def _runs(steps: Sequence[Step]) -> list[list[Step]]:
    runs: list[list[Step]] = []
    for step in steps:
        if step.is_opaque or not runs or runs[-1][0].is_opaque:
            runs.append([])
        runs[-1].append(step)
    return runs


def _agree(a: Sequence[Tensor], b: Sequence[Tensor], tolerance: float) -> bool:
    return all(
        torch.allclose(x, y, rtol=tolerance, atol=tolerance, equal_nan=True)
        for x, y in zip(a, b, strict=True)
    )
