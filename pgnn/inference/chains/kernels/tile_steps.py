"""Operations on all rows of a tile at a step, in vector registers.

A message of a tile is ``(K, WIDTH)``; ``lanes`` hold five numbers of each row. Every function
takes ``(x, y, lanes, x_at, y_at, K)``: two arrays, ``lanes``, and the offsets of the messages.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from pgnn.inference.chains.kernels.arrays import LOST, exp_of
from pgnn.inference.chains.kernels.vector_registers import (
    WIDTH,
    data_of,
    load_vector,
    size_of,
    store_vector,
)

# offsets in the lanes
TOTAL, INVERSE, TOP, BEFORE, LOSSES = (place * WIDTH for place in range(5))
LANES = 5 * WIDTH
"""Numbers of a tile in its lanes."""


class _Step:
    """Emits the instructions of a step; numbers are vectors over the rows."""

    def __init__(self, builder: Any, data: Any, numbers: Any) -> None:
        self.builder, self.data = builder, data
        self.x_at, self.y_at, self.num_states = numbers
        self.kind = ir.VectorType(data.kind, WIDTH)

    @contextmanager
    def states(self) -> Iterator[tuple[Any, Any]]:
        """Yield the offsets of each state in ``x`` and in ``y``."""
        with cgutils.for_range(self.builder, self.num_states) as loop:
            moved = self.builder.mul(loop.index, ir.Constant(loop.index.type, WIDTH))
            yield self.builder.add(self.x_at, moved), self.builder.add(self.y_at, moved)

    def read(self, pointer: Any, at: Any) -> Any:
        """Load a vector of an array."""
        return load_vector(self.builder, pointer, at, self.data.kind, WIDTH)

    def write(self, value: Any, pointer: Any, at: Any) -> None:
        """Store a vector into an array."""
        store_vector(self.builder, value, pointer, at, self.data.kind, WIDTH)

    def lane(self, place: int) -> Any:
        """Load a number of each row from the lanes."""
        return self.read(self.data.out, self.x_at.type(place))

    def keep(self, value: Any, place: int) -> None:
        """Store a number of each row in the lanes."""
        self.write(value, self.data.out, self.x_at.type(place))

    def number(self, value: float) -> Any:
        """A constant in every row."""
        return ir.Constant(self.kind, [ir.Constant(self.kind.element, value)] * WIDTH)

    def variable(self, value: float) -> Any:
        """A variable that is updated over the states."""
        return cgutils.alloca_once_value(self.builder, self.number(value))

    def add_to(self, variable: Any, value: Any) -> None:
        """Add to a variable."""
        self.builder.store(self.builder.fadd(self.builder.load(variable), value), variable)

    def larger_of(self, variable: Any, value: Any) -> None:
        """Keep the larger number."""
        old = self.builder.load(variable)
        larger = self.builder.fcmp_ordered(">", value, old)
        self.builder.store(self.builder.select(larger, value, old), variable)

    def finite(self, value: Any) -> Any:
        """Replace ``-inf`` by zero."""
        real = self.builder.fcmp_ordered(">", value, self.number(-math.inf))
        return self.builder.select(real, value, self.number(0.0))

    def inverse(self, value: Any) -> Any:
        """Reciprocal, with zero for the reciprocal of zero."""
        positive = self.builder.fcmp_ordered(">", value, self.number(0.0))
        result = self.builder.fdiv(self.number(1.0), value)
        return self.builder.select(positive, result, self.number(0.0))


def _step(write: Callable[[_Step], None]) -> Any:
    def typed(typing_context, x, y, lanes, x_at, y_at, num):
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            write(_Step(builder, data_of(context, builder, signature, arguments), arguments[3:]))
            return context.get_dummy_value()

        return types.void(x, y, lanes, x_at, y_at, num), generate

    return intrinsic(typed)


def _largest(step: _Step) -> Any:
    top = step.variable(-math.inf)
    with step.states() as (x, _):
        step.larger_of(top, step.read(step.data.left, x))
    return step.finite(step.builder.load(top))


def _find_top(step: _Step) -> None:
    step.keep(_largest(step), TOP)


def _lower(step: _Step) -> None:
    top = _largest(step)
    with step.states() as (x, _):
        value = step.builder.fsub(step.read(step.data.left, x), top)
        step.write(value, step.data.left, x)


def _observe(step: _Step) -> None:
    builder, left, right = step.builder, step.data.left, step.data.right
    with step.states() as (x, y):
        field = builder.fsub(step.read(right, y), step.lane(TOP))
        step.write(builder.fadd(step.read(left, x), field), left, x)


def _emit(step: _Step) -> None:
    builder, left, right = step.builder, step.data.left, step.data.right
    total, factor = step.variable(0.0), step.lane(INVERSE)
    step.keep(factor, BEFORE)
    with step.states() as (x, y):
        emission = exp_of(builder, builder.fsub(step.read(right, y), step.lane(TOP)))
        step.write(emission, right, y)
        value = builder.fmul(step.read(left, x), builder.fmul(emission, factor))
        step.write(value, left, x)
        step.add_to(total, value)
    result = builder.load(total)
    step.keep(result, TOTAL)
    step.keep(step.inverse(result), INVERSE)


def _gain(step: _Step) -> None:
    builder, left, right = step.builder, step.data.left, step.data.right
    with step.states() as (x, y):
        emission = exp_of(builder, builder.fsub(step.read(right, y), step.lane(TOP)))
        step.write(builder.fmul(emission, step.lane(INVERSE)), left, x)


def _audit(step: _Step) -> None:
    builder, left, right = step.builder, step.data.left, step.data.right
    lost = step.number(LOST[8 * size_of(step.data.kind)])
    total, factor = step.variable(0.0), step.lane(BEFORE)
    with step.states() as (x, y):
        share = builder.fmul(step.read(right, y), factor)
        value = builder.fmul(builder.fadd(step.read(left, x), lost), share)
        value = builder.fadd(value, lost)
        step.write(value, left, x)
        step.add_to(total, value)
    step.keep(builder.fmul(builder.load(total), step.lane(INVERSE)), LOSSES)


def _meet(step: _Step) -> None:
    builder, left, right = step.builder, step.data.left, step.data.right
    size = builder.mul(step.num_states, step.x_at.type(WIDTH))
    total, ahead = step.variable(0.0), step.variable(0.0)
    with step.states() as (x, y):
        message = step.read(right, y)
        value = builder.fmul(step.read(left, x), message)
        step.write(value, right, builder.add(y, size))
        step.add_to(total, value)
        step.add_to(ahead, message)
    result = builder.load(total)
    step.keep(result, TOTAL)
    step.keep(step.inverse(result), INVERSE)
    step.keep(step.inverse(builder.load(ahead)), TOP)


def _multiply(step: _Step) -> None:
    builder, left, right = step.builder, step.data.left, step.data.right
    factor = step.lane(TOP)
    with step.states() as (x, y):
        value = builder.fmul(step.read(right, y), factor)
        step.write(builder.fmul(step.read(left, x), value), left, x)


def _scale(step: _Step) -> None:
    with step.states() as (x, _):
        value = step.builder.fmul(step.read(step.data.left, x), step.lane(INVERSE))
        step.write(value, step.data.left, x)


find_top = _step(_find_top)
"""``TOP`` becomes the largest number of ``x``, or zero if that is ``-inf``."""
lower = _step(_lower)
"""Subtract the maximum from ``x``, or zero if that is ``-inf``."""
observe = _step(_observe)
"""Add ``y - TOP`` to ``x``."""
emit = _step(_emit)
"""``y`` becomes the exponential of ``y - TOP``, ``x`` is multiplied by it and by ``INVERSE``;
``BEFORE`` becomes ``INVERSE``, ``TOTAL`` the sum of ``x``, ``INVERSE`` one over that, or zero."""
gain = _step(_gain)
"""``x`` becomes the exponential of ``y - TOP``, times ``INVERSE``."""
audit = _step(_audit)
"""After ``emit``: multiply the bound ``x`` on the loss of a message by the same factors, and add
the loss of this step. ``LOSSES`` becomes its share of the message."""
meet = _step(_meet)
"""``x`` times ``y`` is written behind ``y``; ``TOTAL`` becomes its sum, ``INVERSE`` one over that,
``TOP`` one over the sum of ``y``."""
multiply = _step(_multiply)
"""Multiply ``x`` by ``y`` and by ``TOP``."""
scale = _step(_scale)
"""Multiply ``x`` by ``INVERSE``."""
