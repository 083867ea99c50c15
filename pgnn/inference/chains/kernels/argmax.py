"""The largest of many potentials and its index, computed in vector registers."""

from __future__ import annotations

import math
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from pgnn.inference.chains.kernels.vector_registers import (
    MAX,
    data_of,
    load_vector,
    part_of,
    start_of,
)


def _picks(lanes: int) -> Any:
    def pick(typing_context, x, y, z, x_at, y_at, num):
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            data = data_of(context, builder, signature, arguments)
            x_at, y_at, num = arguments[3:]
            kind, index = data.kind, x_at.type
            places = ir.VectorType(index, lanes)
            first = ir.Constant(places, list(range(lanes)))
            top = cgutils.alloca_once_value(builder, start_of(ir.VectorType(kind, lanes), MAX))
            best = cgutils.alloca_once_value(builder, first)
            position = cgutils.alloca_once_value(builder, first)
            jump = ir.Constant(places, [lanes] * lanes)
            with cgutils.for_range(builder, builder.udiv(num, index(lanes))) as loop:
                moved = builder.mul(loop.index, index(lanes))
                value = builder.fadd(
                    load_vector(builder, data.left, builder.add(x_at, moved), kind, lanes),
                    load_vector(builder, data.right, builder.add(y_at, moved), kind, lanes),
                )
                old, at = builder.load(top), builder.load(position)
                larger = builder.fcmp_ordered(">", value, old)
                builder.store(builder.select(larger, value, old), top)
                builder.store(builder.select(larger, at, builder.load(best)), best)
                builder.store(builder.add(at, jump), position)
            value, which = _first_largest(builder, builder.load(top), builder.load(best))
            return which

        return types.intp(x, y, z, x_at, y_at, num), generate

    return intrinsic(pick)


def _first_largest(builder: Any, values: Any, places: Any) -> tuple[Any, Any]:
    """The largest lane and its index; the smallest index among ties."""
    while values.type.count > 1:
        half = values.type.count // 2
        (x, i), (y, j) = (
            tuple(part_of(builder, vector, first, half) for vector in (values, places))
            for first in (0, half)
        )
        first = builder.icmp_signed("<", j, i)
        better = builder.or_(
            builder.fcmp_ordered(">", y, x),
            builder.and_(builder.fcmp_ordered("==", y, x), first),
        )
        values, places = builder.select(better, y, x), builder.select(better, j, i)
    zero = ir.IntType(32)(0)
    return builder.extract_element(values, zero), builder.extract_element(places, zero)


argmax_4, argmax_16 = _picks(4), _picks(16)
"""Index ``k`` of the largest sum ``x[x_at + k] + y[y_at + k]``; the first among ties."""


def _largest(typing_context, x, at, num):
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        x, at, num = arguments
        pointer = context.make_array(signature.args[0])(context, builder, x).data
        kind, index = context.get_data_type(signature.args[0].dtype), at.type
        lanes = 8
        top = cgutils.alloca_once_value(builder, start_of(ir.VectorType(kind, lanes), MAX))
        single = cgutils.alloca_once_value(builder, ir.Constant(kind, -math.inf))
        whole = builder.udiv(num, index(lanes))
        with cgutils.for_range(builder, whole) as loop:
            moved = builder.add(at, builder.mul(loop.index, index(lanes)))
            value, old = load_vector(builder, pointer, moved, kind, lanes), builder.load(top)
            larger = builder.fcmp_ordered(">", value, old)
            builder.store(builder.select(larger, value, old), top)
        with cgutils.for_range(builder, builder.urem(num, index(lanes))) as loop:
            moved = builder.add(builder.mul(whole, index(lanes)), loop.index)
            value = builder.load(builder.gep(pointer, [builder.add(at, moved)]))
            old = builder.load(single)
            larger = builder.fcmp_ordered(">", value, old)
            builder.store(builder.select(larger, value, old), single)
        values = builder.load(top)
        while values.type.count > 1:
            half = values.type.count // 2
            x, y = part_of(builder, values, 0, half), part_of(builder, values, half, half)
            values = builder.select(builder.fcmp_ordered(">", y, x), y, x)
        value, old = builder.extract_element(values, ir.IntType(32)(0)), builder.load(single)
        return builder.select(builder.fcmp_ordered(">", value, old), value, old)

    return x.dtype(x, at, num), generate


largest: Any = intrinsic(_largest)
"""The largest of ``x[at:at + num]``."""
