"""Largest sums of a tile and where they come from, found in vector registers."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from pgnn.inference.kernels.chain_vectors import (
    MAX,
    WIDTH,
    data_of,
    load_vector,
    spread,
    spread_value,
    start_of,
    store_vector,
)

_BYTE = ir.IntType(8)
_BYTES = ir.VectorType(_BYTE, WIDTH)


def _tile_links(columns: int) -> Any:
    def link(typing_context, matrix, x, out, links, at, step, x_at, to, link_to, num):
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            data = data_of(context, builder, signature, arguments)
            noted = context.make_array(signature.args[3])(context, builder, arguments[3]).data
            at, step, x_at, to, link_to, num = arguments[4:]
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
                here = builder.add(x_at, builder.mul(i, index(WIDTH)))
                row = builder.add(at, builder.mul(i, step))
                value = load_vector(builder, data.right, here, kind, WIDTH)
                origin = spread_value(builder, builder.trunc(i, _BYTE), WIDTH)
                for j, (top, came) in enumerate(zip(tops, froms, strict=True)):
                    number = spread(builder, data.left, builder.add(row, index(j)), kind, WIDTH)
                    found, old = builder.fadd(value, number), builder.load(top)
                    larger = builder.fcmp_ordered(">", found, old)
                    builder.store(builder.select(larger, found, old), top)
                    builder.store(builder.select(larger, origin, builder.load(came)), came)
            for j, (top, came) in enumerate(zip(tops, froms, strict=True)):
                where = builder.add(to, index(j * WIDTH))
                store_vector(builder, builder.load(top), data.out, where, kind, WIDTH)
                where = builder.add(link_to, index(j * WIDTH))
                store_vector(builder, builder.load(came), noted, where, _BYTE, WIDTH)
            return context.get_dummy_value()

        return types.void(matrix, x, out, links, at, step, x_at, to, link_to, num), generate

    return intrinsic(link)


tile_link_4, tile_link_1 = _tile_links(4), _tile_links(1)
"""Like ``tile_max_4`` and ``tile_max_1``; the smallest state a largest sum comes from is noted."""


def _follow(typing_context, links, path, at, after, to, num):
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        noted, path = (
            context.make_array(kind)(context, builder, value).data
            for kind, value in zip(signature.args[:2], arguments[:2], strict=True)
        )
        at, after, to, num = arguments[2:]
        index = at.type
        state = load_vector(builder, path, after, _BYTE, WIDTH)
        found = cgutils.alloca_once_value(builder, ir.Constant(_BYTES, [0] * WIDTH))
        with cgutils.for_range(builder, num) as loop:
            here = builder.add(at, builder.mul(loop.index, index(WIDTH)))
            came = load_vector(builder, noted, here, _BYTE, WIDTH)
            this = spread_value(builder, builder.trunc(loop.index, _BYTE), WIDTH)
            same = builder.icmp_unsigned("==", state, this)
            builder.store(builder.select(same, came, builder.load(found)), found)
        store_vector(builder, builder.load(found), path, to, _BYTE, WIDTH)
        return context.get_dummy_value()

    return types.void(links, path, at, after, to, num), generate


follow: Any = intrinsic(_follow)
"""``path[to + w] = links[at + path[after + w] * WIDTH + w]`` of all rows."""
