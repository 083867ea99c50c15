"""Small matrix products that hold their sums in vector registers.

The compiler would store and load the sum at every term. Vectors may be longer than those of the
machine, which then uses several registers for each.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

SUM = False
MAX = True
WIDTH = 32
"""Number of rows of a tile."""


class _Arrays(NamedTuple):
    """Data pointers of three arrays and the type of their entries."""

    left: Any
    right: Any
    out: Any
    kind: Any


def data_of(context: Any, builder: Any, signature: Any, arguments: Any) -> _Arrays:
    """Data pointers of the first three arguments."""
    left, right, out = (
        context.make_array(kind)(context, builder, value).data
        for kind, value in zip(signature.args[:3], arguments[:3], strict=True)
    )
    return _Arrays(left, right, out, context.get_data_type(signature.args[0].dtype))


def vector_at(builder: Any, pointer: Any, index: Any, kind: Any, lanes: int) -> Any:
    """Pointer to contiguous numbers as a vector."""
    at = builder.gep(pointer, [index])
    return builder.bitcast(at, ir.VectorType(kind, lanes).as_pointer())


def size_of(kind: Any) -> int:
    """Bytes of a number."""
    if isinstance(kind, ir.IntType):
        return int(kind.width) // 8
    return 4 if isinstance(kind, ir.FloatType) else 8


def load_vector(builder: Any, pointer: Any, index: Any, kind: Any, lanes: int) -> Any:
    """Load contiguous numbers."""
    return builder.load(vector_at(builder, pointer, index, kind, lanes), align=size_of(kind))


def store_vector(builder: Any, value: Any, pointer: Any, index: Any, kind: Any, lanes: int) -> None:
    """Store contiguous numbers."""
    builder.store(value, vector_at(builder, pointer, index, kind, lanes), align=size_of(kind))


def spread(builder: Any, pointer: Any, index: Any, kind: Any, lanes: int) -> Any:
    """Broadcast a number of an array to every lane."""
    return spread_value(builder, builder.load(builder.gep(pointer, [index])), lanes)


def spread_value(builder: Any, number: Any, lanes: int) -> Any:
    """Broadcast a number to every lane."""
    vector = ir.VectorType(number.type, lanes)
    one = builder.insert_element(ir.Constant(vector, ir.Undefined), number, ir.IntType(32)(0))
    zeros = ir.Constant(ir.VectorType(ir.IntType(32), lanes), [0] * lanes)
    return builder.shuffle_vector(one, ir.Constant(vector, ir.Undefined), zeros)


def include(builder: Any, total: Any, x: Any, y: Any, maximum: bool) -> Any:
    """Add a product to a total, or take the maximum of a sum and the total."""
    if not maximum:
        flags = ("contract",)
        return builder.fadd(builder.fmul(x, y, flags=flags), total, flags=flags)
    value = builder.fadd(x, y)
    return builder.select(builder.fcmp_ordered(">", value, total), value, total)


def part_of(builder: Any, vector: Any, first: int, num: int, step: int = 1) -> Any:
    """Select lanes of a vector; with ``step`` 0, one lane repeatedly."""
    lanes = [first + k * step for k in range(num)]
    picked = ir.Constant(ir.VectorType(ir.IntType(32), num), lanes)
    return builder.shuffle_vector(vector, ir.Constant(vector.type, ir.Undefined), picked)


def total_of(builder: Any, vector: Any) -> Any:
    """Sum of the lanes, by recursive halving."""
    while vector.type.count > 1:
        half = vector.type.count // 2
        parts = (part_of(builder, vector, first, half) for first in (0, half))
        vector = builder.fadd(*parts)
    return builder.extract_element(vector, ir.IntType(32)(0))


def start_of(vector: Any, maximum: bool) -> Any:
    """Initial value of a sum or a maximum."""
    value = -math.inf if maximum else 0.0
    return ir.Constant(vector, [ir.Constant(vector.element, value)] * vector.count)


def _tile_product(columns: int, maximum: bool) -> Any:
    def product(typing_context, matrix, x, out, at, step, x_at, to, num):
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            data = data_of(context, builder, signature, arguments)
            at, step, x_at, to, num = arguments[3:]
            vector = ir.VectorType(data.kind, WIDTH)
            totals = [
                cgutils.alloca_once_value(builder, start_of(vector, maximum))
                for _ in range(columns)
            ]
            index = at.type
            with cgutils.for_range(builder, num) as loop:
                i = loop.index
                address = builder.add(x_at, builder.mul(i, index(WIDTH)))
                row = builder.add(at, builder.mul(i, step))
                value = load_vector(builder, data.right, address, data.kind, WIDTH)
                for j, total in enumerate(totals):
                    entry = builder.add(row, index(j))
                    number = spread(builder, data.left, entry, data.kind, WIDTH)
                    result = include(builder, builder.load(total), value, number, maximum)
                    builder.store(result, total)
            for j, total in enumerate(totals):
                where = builder.add(to, index(j * WIDTH))
                store_vector(builder, builder.load(total), data.out, where, data.kind, WIDTH)
            return context.get_dummy_value()

        return types.void(matrix, x, out, at, step, x_at, to, num), generate

    return intrinsic(product)


tile_sum_4, tile_sum_1 = _tile_product(4, SUM), _tile_product(1, SUM)
tile_max_4, tile_max_1 = _tile_product(4, MAX), _tile_product(1, MAX)


def _row_product(lanes: int, maximum: bool, onto: bool) -> Any:
    def product(typing_context, matrix, x, out, at, step, x_at, x_step, to, num):
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            data = data_of(context, builder, signature, arguments)
            at, step, x_at, x_step, to, num = arguments[3:]
            kind, index = data.kind, at.type
            vector = ir.VectorType(kind, lanes)
            totals = [
                cgutils.alloca_once_value(builder, start_of(vector, maximum)) for _ in range(4)
            ]
            if onto:
                builder.store(load_vector(builder, data.out, to, kind, lanes), totals[0])

            def add_row(i: Any, total: Any) -> None:
                address = builder.add(x_at, builder.mul(i, x_step))
                number = spread(builder, data.right, address, kind, lanes)
                row = builder.add(at, builder.mul(i, step))
                value = load_vector(builder, data.left, row, kind, lanes)
                builder.store(include(builder, builder.load(total), value, number, maximum), total)

            fours = builder.udiv(num, index(4))
            with cgutils.for_range(builder, fours) as loop:
                first = builder.mul(loop.index, index(4))
                for u in range(4):
                    add_row(builder.add(first, index(u)), totals[u])
            with cgutils.for_range(builder, builder.urem(num, index(4))) as loop:
                add_row(builder.add(builder.mul(fours, index(4)), loop.index), totals[0])
            values = [builder.load(total) for total in totals]
            for k in (2, 1):
                for u in range(k):
                    x, y = values[u], values[u + k]
                    if maximum:
                        values[u] = builder.select(builder.fcmp_ordered(">", x, y), x, y)
                    else:
                        values[u] = builder.fadd(x, y)
            store_vector(builder, values[0], data.out, to, kind, lanes)
            return context.get_dummy_value()

        return types.void(matrix, x, out, at, step, x_at, x_step, to, num), generate

    return intrinsic(product)


row_sum_4, row_sum_8, row_sum_32 = (_row_product(n, SUM, False) for n in (4, 8, 32))
row_max_4, row_max_8, row_max_32 = (_row_product(n, MAX, False) for n in (4, 8, 32))
row_add_4, row_add_8, row_add_32 = (_row_product(n, SUM, True) for n in (4, 8, 32))


def _tile_outer(size: int) -> Any:
    def outer(typing_context, x, y, out, x_at, y_at, back, to, step, num):
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            data = data_of(context, builder, signature, arguments)
            x_at, y_at, back, to, step, num = arguments[3:]
            kind, index = data.kind, x_at.type
            lanes = 64 // size_of(kind)
            vector = ir.VectorType(kind, lanes)
            totals = [
                cgutils.alloca_once_value(builder, start_of(vector, SUM))
                for _ in range(size * size)
            ]
            with cgutils.for_range(builder, num) as loop:
                moved = builder.mul(loop.index, back)
                for lane in range(0, WIDTH, lanes):
                    xs, ys = (
                        [
                            load_vector(
                                builder,
                                pointer,
                                builder.add(builder.add(at, moved), index(k * WIDTH + lane)),
                                kind,
                                lanes,
                            )
                            for k in range(size)
                        ]
                        for pointer, at in ((data.left, x_at), (data.right, y_at))
                    )
                    for i in range(size):
                        for j in range(size):
                            total = totals[i * size + j]
                            old = builder.load(total)
                            builder.store(include(builder, old, xs[i], ys[j], SUM), total)
            for i in range(size):
                for j in range(size):
                    where = builder.add(to, builder.add(builder.mul(step, index(i)), index(j)))
                    pointer = builder.gep(data.out, [where])
                    terms = builder.load(totals[i * size + j])
                    result = builder.fadd(builder.load(pointer), total_of(builder, terms))
                    builder.store(result, pointer)
            return context.get_dummy_value()

        return types.void(x, y, out, x_at, y_at, back, to, step, num), generate

    return intrinsic(outer)


tile_outer_4, tile_outer_1 = _tile_outer(4), _tile_outer(1)
