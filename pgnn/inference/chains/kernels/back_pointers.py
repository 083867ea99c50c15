"""Maxima with back pointers, computed in vector registers."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from pgnn.inference.chains.kernels.vector_registers import (
    MAX,
    WIDTH,
    data_of,
    load_vector,
    part_of,
    spread,
    spread_value,
    start_of,
    store_vector,
)

_BYTE = ir.IntType(8)
_BYTES = ir.VectorType(_BYTE, WIDTH)


def _tile_max_origins(columns: int) -> Any:
    def maximize(typing_context, matrix, x, out, origins, at, step, x_at, to, origin_to, num):
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            data = data_of(context, builder, signature, arguments)
            noted = context.make_array(signature.args[3])(context, builder, arguments[3]).data
            at, step, x_at, to, origin_to, num = arguments[4:]
            kind, index = data.kind, at.type
            tops = [
                cgutils.alloca_once_value(builder, start_of(ir.VectorType(kind, WIDTH), MAX))
                for _ in range(columns)
            ]
            froms = [
                cgutils.alloca_once_value(builder, ir.Constant(_BYTES, [0] * WIDTH))
                for _ in range(columns)
            ]
            with cgutils.for_range(builder, num) as loop:
                i = loop.index
                address = builder.add(x_at, builder.mul(i, index(WIDTH)))
                row = builder.add(at, builder.mul(i, step))
                value = load_vector(builder, data.right, address, kind, WIDTH)
                origin = spread_value(builder, builder.trunc(i, _BYTE), WIDTH)
                for j, (top, best_origin) in enumerate(zip(tops, froms, strict=True)):
                    number = spread(builder, data.left, builder.add(row, index(j)), kind, WIDTH)
                    candidate, old = builder.fadd(value, number), builder.load(top)
                    larger = builder.fcmp_ordered(">", candidate, old)
                    builder.store(builder.select(larger, candidate, old), top)
                    builder.store(
                        builder.select(larger, origin, builder.load(best_origin)), best_origin
                    )
            for j, (top, best_origin) in enumerate(zip(tops, froms, strict=True)):
                where = builder.add(to, index(j * WIDTH))
                store_vector(builder, builder.load(top), data.out, where, kind, WIDTH)
                where = builder.add(origin_to, index(j * WIDTH))
                store_vector(builder, builder.load(best_origin), noted, where, _BYTE, WIDTH)
            return context.get_dummy_value()

        return types.void(matrix, x, out, origins, at, step, x_at, to, origin_to, num), generate

    return intrinsic(maximize)


tile_max_origin_4, tile_max_origin_1 = _tile_max_origins(4), _tile_max_origins(1)
"""Like ``tile_max_4`` and ``tile_max_1``; also stores the smallest state of each maximum."""


def _follow(typing_context, origins, path, at, after, to, num):
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        noted, path = (
            context.make_array(kind)(context, builder, value).data
            for kind, value in zip(signature.args[:2], arguments[:2], strict=True)
        )
        at, after, to, num = arguments[2:]
        index = at.type
        state = load_vector(builder, path, after, _BYTE, WIDTH)
        origins_found = cgutils.alloca_once_value(builder, ir.Constant(_BYTES, [0] * WIDTH))
        with cgutils.for_range(builder, num) as loop:
            address = builder.add(at, builder.mul(loop.index, index(WIDTH)))
            best_origin = load_vector(builder, noted, address, _BYTE, WIDTH)
            this = spread_value(builder, builder.trunc(loop.index, _BYTE), WIDTH)
            same = builder.icmp_unsigned("==", state, this)
            builder.store(
                builder.select(same, best_origin, builder.load(origins_found)), origins_found
            )
        store_vector(builder, builder.load(origins_found), path, to, _BYTE, WIDTH)
        return context.get_dummy_value()

    return types.void(origins, path, at, after, to, num), generate


follow: Any = intrinsic(_follow)
"""``path[to + w] = origins[at + path[after + w] * WIDTH + w]`` of all rows."""


def _max_origins_of_few(
    typing_context, matrix, field, reach, origins, at, field_at, origin_at, num, steps
):
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        matrix, field, reach, origins = (
            context.make_array(kind)(context, builder, value).data
            for kind, value in zip(signature.args[:4], arguments[:4], strict=True)
        )
        at, field_at, origin_at, num, steps = arguments[4:]
        index, kind = at.type, reach.type.pointee
        rows = [
            load_vector(builder, matrix, builder.add(at, _address(builder, i, num, FEW)), kind, FEW)
            for i in range(FEW)
        ]
        vector, places = ir.VectorType(kind, FEW), ir.VectorType(_BYTE, FEW)
        message = cgutils.alloca_once_value(
            builder, load_vector(builder, reach, index(0), kind, FEW)
        )
        with cgutils.for_range(builder, steps) as loop:
            old = builder.load(message)
            ways = [
                (
                    builder.fadd(part_of(builder, old, i, FEW, 0), rows[i]),
                    ir.Constant(places, [i] * FEW),
                )
                for i in range(FEW)
            ]
            while len(ways) > 1:
                ways = [_first(builder, *pair) for pair in zip(ways[::2], ways[1::2], strict=True)]
            (value, best_origin), address = (
                ways[0],
                builder.add(field_at, builder.mul(loop.index, num)),
            )
            observed: Any = ir.Constant(vector, [ir.Constant(kind, 0.0)] * FEW)
            for k in range(FEW):
                place = builder.add(address, _address(builder, k, num))
                number = builder.load(builder.gep(field, [place]))
                observed = builder.insert_element(observed, number, ir.IntType(32)(k))
            builder.store(builder.fadd(value, observed), message)
            where = builder.add(origin_at, builder.mul(loop.index, index(FEW)))
            store_vector(builder, best_origin, origins, where, _BYTE, FEW)
        store_vector(builder, builder.load(message), reach, index(0), kind, FEW)
        return context.get_dummy_value()

    argument_values = matrix, field, reach, origins, at, field_at, origin_at, num, steps
    return types.void(*argument_values), generate


def _address(builder: Any, k: int, num: Any, step: int = 1) -> Any:
    """Address of a state; that of the first one if there is no such state."""
    inside = builder.icmp_unsigned("<", num.type(k), num)
    return builder.select(inside, num.type(k * step), num.type(0))


def _first(builder: Any, x: tuple[Any, Any], y: tuple[Any, Any]) -> tuple[Any, Any]:
    """Elementwise maximum of two vectors, the first among ties, and its origins."""
    larger = builder.fcmp_ordered(">", y[0], x[0])
    return builder.select(larger, y[0], x[0]), builder.select(larger, y[1], x[1])


FEW = 4
max_origins_of_few: Any = intrinsic(_max_origins_of_few)
"""Max-product messages of a row of at most ``FEW`` states, held in one register.

``reach`` is the message before and after, padded with ``-inf``; the matrix is padded to ``FEW``
rows and columns.
"""
