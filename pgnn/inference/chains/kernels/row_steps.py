"""Operations on a row at a step, in vector registers that run over its states.

States are processed in groups of sixteen, then of four, then a masked remainder.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from pgnn.inference.chains.kernels.arrays import LOST
from pgnn.inference.chains.kernels.vector_registers import (
    load_vector,
    part_of,
    size_of,
    spread_value,
    store_vector,
    vector_at,
)

_LANES = (16, 4)
_INDEX = ir.IntType(64)


class _Part:
    """A group of states: one for each lane of a vector, or fewer in the last group."""

    def __init__(self, builder: Any, lanes: int, first: Any, mask: Any = None) -> None:
        self.builder, self.lanes, self.first, self.mask = builder, lanes, first, mask

    def read(self, array: tuple[Any, Any], rest: float = 0.0) -> Any:
        """Load numbers of an array; ``rest`` in lanes without a state."""
        builder, (pointer, begin) = self.builder, array
        at, kind = builder.add(begin, self.first), pointer.type.pointee
        if self.mask is None:
            return load_vector(builder, pointer, at, kind, self.lanes)
        vector = ir.VectorType(kind, self.lanes)
        where = vector_at(builder, pointer, at, kind, self.lanes)
        arguments = [where, ir.IntType(32)(size_of(kind)), self.mask, self.number(kind, rest)]
        return builder.call(self._masked("load", vector, vector, arguments), arguments)

    def write(self, value: Any, array: tuple[Any, Any]) -> None:
        """Store numbers into an array."""
        builder, (pointer, begin) = self.builder, array
        at, kind = builder.add(begin, self.first), pointer.type.pointee
        if self.mask is None:
            store_vector(builder, value, pointer, at, kind, self.lanes)
            return
        where = vector_at(builder, pointer, at, kind, self.lanes)
        arguments = [value, where, ir.IntType(32)(size_of(kind)), self.mask]
        builder.call(self._masked("store", ir.VoidType(), value.type, arguments), arguments)

    def number(self, kind: Any, value: float) -> Any:
        """A constant in every lane."""
        return ir.Constant(ir.VectorType(kind, self.lanes), [ir.Constant(kind, value)] * self.lanes)

    def spread(self, value: Any) -> Any:
        """A number in every lane."""
        return spread_value(self.builder, value, self.lanes)

    def _masked(self, what: str, result: Any, vector: Any, arguments: Sequence[Any]) -> Any:
        name = f"llvm.masked.{what}.v{self.lanes}f{8 * size_of(vector.element)}.p0"
        signature = ir.FunctionType(result, [value.type for value in arguments])
        return cgutils.get_or_insert_function(self.builder.module, signature, name)


def _parts(builder: Any, num: Any, write: Callable[[_Part], None]) -> None:
    """Emit instructions for all states."""
    done: Any = _INDEX(0)
    for lanes in _LANES:
        whole = builder.udiv(builder.sub(num, done), _INDEX(lanes))
        with cgutils.for_range(builder, whole) as loop:
            write(_Part(builder, lanes, builder.add(done, builder.mul(loop.index, _INDEX(lanes)))))
        done = builder.add(done, builder.mul(whole, _INDEX(lanes)))
    left, lanes = builder.sub(num, done), _LANES[-1]
    with builder.if_then(builder.icmp_unsigned(">", left, _INDEX(0))):
        places = ir.Constant(ir.VectorType(_INDEX, lanes), list(range(lanes)))
        mask = builder.icmp_unsigned("<", places, spread_value(builder, left, lanes))
        write(_Part(builder, lanes, done, mask))


class _Total:
    """A sum or a maximum over all states."""

    def __init__(self, builder: Any, kind: Any, maximum: bool = False) -> None:
        self.builder, self.maximum = builder, maximum
        start = -math.inf if maximum else 0.0
        self.vectors = {
            lanes: cgutils.alloca_once_value(
                builder, ir.Constant(ir.VectorType(kind, lanes), [ir.Constant(kind, start)] * lanes)
            )
            for lanes in _LANES
        }

    def include(self, part: _Part, value: Any) -> None:
        """Take some states into account."""
        place = self.vectors[part.lanes]
        self.builder.store(self._join(value, self.builder.load(place)), place)

    def result(self) -> Any:
        """Return the total."""
        long, short = (self.builder.load(self.vectors[lanes]) for lanes in _LANES)
        for first in range(0, _LANES[0], _LANES[1]):
            short = self._join(part_of(self.builder, long, first, _LANES[1]), short)
        while short.type.count > 1:
            half = short.type.count // 2
            halves = (part_of(self.builder, short, first, half) for first in (0, half))
            short = self._join(*halves)
        return self.builder.extract_element(short, ir.IntType(32)(0))

    def _join(self, x: Any, y: Any) -> Any:
        if not self.maximum:
            return self.builder.fadd(x, y)
        return self.builder.select(self.builder.fcmp_ordered(">", x, y), x, y)


def _pointer(context: Any, builder: Any, kind: Any, value: Any) -> Any:
    return context.make_array(kind)(context, builder, value).data


def _pointers(context: Any, builder: Any, signature: Any, arguments: Any, count: int) -> list[Any]:
    """Data pointers of the first arguments, which are arrays."""
    pairs = zip(signature.args[:count], arguments[:count], strict=True)
    return [_pointer(context, builder, *pair) for pair in pairs]


def _begin(typing_context, field, out, at, to, num, room):
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        field, out = _pointers(context, builder, signature, arguments, 2)
        at, to, num, room = arguments[2:]
        kind = field.type.pointee
        top = _Total(builder, kind, True)
        _parts(builder, num, lambda part: top.include(part, part.read((field, at), -math.inf)))
        result = top.result()
        real = builder.fcmp_ordered(">", result, ir.Constant(kind, -math.inf))
        result = builder.select(real, result, ir.Constant(kind, 0.0))
        nothing = ir.Constant(ir.VectorType(kind, 4), [ir.Constant(kind, -math.inf)] * 4)
        with builder.if_then(builder.icmp_unsigned(">", room, num)):
            last = builder.add(to, builder.sub(room, _INDEX(4)))
            store_vector(builder, nothing, out, last, kind, 4)

        def lower(part: _Part) -> None:
            part.write(builder.fsub(part.read((field, at)), part.spread(result)), (out, to))

        _parts(builder, num, lower)
        return result

    return field.dtype(field, out, at, to, num, room), generate


def _emit(typing_context, x, y, x_at, y_at, num, factor):
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        left, right = _pointers(context, builder, signature, arguments, 2)
        x_at, y_at, num, factor = arguments[2:]
        total = _Total(builder, left.type.pointee)

        def emit(part: _Part) -> None:
            scaled = builder.fmul(part.read((right, y_at)), part.spread(factor))
            value = builder.fmul(part.read((left, x_at)), scaled)
            part.write(value, (left, x_at))
            total.include(part, value)

        _parts(builder, num, emit)
        return total.result()

    return x.dtype(x, y, x_at, y_at, num, factor), generate


def _audit(typing_context, x, y, x_at, y_at, num, factor):
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        left, right = _pointers(context, builder, signature, arguments, 2)
        x_at, y_at, num, factor = arguments[2:]
        kind = left.type.pointee
        total = _Total(builder, kind)

        def audit(part: _Part) -> None:
            lost = part.number(kind, LOST[8 * size_of(kind)])
            share = builder.fmul(part.read((right, y_at)), part.spread(factor))
            value = builder.fmul(builder.fadd(part.read((left, x_at)), lost), share)
            value = builder.fadd(value, lost)
            part.write(value, (left, x_at))
            total.include(part, value)

        _parts(builder, num, audit)
        return total.result()

    return x.dtype(x, y, x_at, y_at, num, factor), generate


def _meet(typing_context, x, y, x_at, y_at, num):
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        left, right = _pointers(context, builder, signature, arguments, 2)
        x_at, y_at, num = arguments[2:]
        total, size = (_Total(builder, left.type.pointee) for _ in range(2))

        def meet(part: _Part) -> None:
            value = part.read((left, x_at))
            size.include(part, value)
            total.include(part, builder.fmul(value, part.read((right, y_at))))

        _parts(builder, num, meet)
        return context.make_tuple(builder, signature.return_type, [total.result(), size.result()])

    return types.UniTuple(x.dtype, 2)(x, y, x_at, y_at, num), generate


def _multiply(typing_context, x, y, out, x_at, y_at, to, num, factor):
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        left, right, out = _pointers(context, builder, signature, arguments, 3)
        x_at, y_at, to, num, factor = arguments[3:]

        def multiply(part: _Part) -> None:
            value = builder.fmul(part.read((left, x_at)), part.read((right, y_at)))
            part.write(builder.fmul(value, part.spread(factor)), (out, to))

        _parts(builder, num, multiply)
        return context.get_dummy_value()

    return types.void(x, y, out, x_at, y_at, to, num, factor), generate


def _scale(typing_context, x, out, x_at, to, num, factor):
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        left, out = _pointers(context, builder, signature, arguments, 2)
        x_at, to, num, factor = arguments[2:]

        def scale(part: _Part) -> None:
            part.write(builder.fmul(part.read((left, x_at)), part.spread(factor)), (out, to))

        _parts(builder, num, scale)
        return context.get_dummy_value()

    return types.void(x, out, x_at, to, num, factor), generate


def _observe(typing_context, x, y, x_at, y_at, num, top):
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        left, right = _pointers(context, builder, signature, arguments, 2)
        x_at, y_at, num, top = arguments[2:]

        def observe(part: _Part) -> None:
            field = builder.fsub(part.read((right, y_at)), part.spread(top))
            part.write(builder.fadd(part.read((left, x_at)), field), (left, x_at))

        _parts(builder, num, observe)
        return context.get_dummy_value()

    return types.void(x, y, x_at, y_at, num, top), generate


begin_step: Any = intrinsic(_begin)
"""Write the field of a step minus its maximum, padded with ``-inf``; return the maximum."""
row_emit: Any = intrinsic(_emit)
"""Multiply ``x`` by ``y`` and by a number; return its sum."""
row_audit: Any = intrinsic(_audit)
"""The same for a bound ``x`` on the loss of a message, to which the loss of this step is added;
for multiples of four states."""
row_meet: Any = intrinsic(_meet)
"""Return the sum of ``x`` times ``y``, and that of ``x``."""
row_multiply: Any = intrinsic(_multiply)
"""Write ``x`` times ``y`` times a number."""
row_scale: Any = intrinsic(_scale)
"""Write ``x`` times a number."""
row_observe: Any = intrinsic(_observe)
"""Add ``y``, less a number, to ``x``."""
