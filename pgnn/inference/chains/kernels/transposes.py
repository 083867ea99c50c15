"""Loads and stores of the steps of many rows as tiles, transposed in vector registers.

In memory, the states of a step of a row are contiguous; in a tile, the rows of a state are. A block
has as many rows as fill a register; one, two or four states of each row are moved at a time.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from pgnn.inference.chains.kernels.vector_registers import (
    WIDTH,
    data_of,
    load_vector,
    size_of,
    store_vector,
)

_AHEAD = 512  # prefetch distance in bytes: hardware does not detect such slow streams

Labels = list[tuple[int, int]]
Labelled = tuple[Any, Labels]
"""A vector, and the row and the state of each of its lanes."""


def _shuffled(builder: Any, x: Labelled, y: Labelled, wanted: Labels) -> Labelled:
    """Select lanes of two vectors."""
    lanes = x[1] + y[1]
    mask = [lanes.index(label) for label in wanted]
    picked = ir.Constant(ir.VectorType(ir.IntType(32), len(mask)), mask)
    return builder.shuffle_vector(x[0], y[0], picked), wanted


def _sorted_out(builder: Any, vectors: list[Labelled], keys: range) -> list[Labelled]:
    """Sort the lanes of vectors by their keys, one range of keys for each vector."""
    if len(vectors) == 1:
        return vectors
    result = []
    half = len(keys) // 2
    for part in (keys[:half], keys[half:]):
        merged = []
        for x, y in zip(vectors[::2], vectors[1::2], strict=True):
            wanted = sorted(label for label in x[1] + y[1] if label[0] in part)
            merged.append(_shuffled(builder, x, y, wanted))
        result += _sorted_out(builder, merged, part)
    return result


def _joined(builder: Any, vectors: list[Labelled], num: int) -> list[Labelled]:
    """Concatenate the lanes into fewer, longer vectors."""
    while len(vectors) > num:
        vectors = [
            _shuffled(builder, x, y, x[1] + y[1])
            for x, y in zip(vectors[::2], vectors[1::2], strict=True)
        ]
    return vectors


def _row(builder: Any, places: Any, index: Any, at: Any) -> Any:
    """Offset of a step of a row."""
    return builder.add(builder.load(builder.gep(places, [index])), at)


def _loads(states: int) -> Any:
    def bring(typing_context, field, out, places, at, to):
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            data = data_of(context, builder, signature, arguments)
            at, to = arguments[3:]
            kind, index = data.kind, at.type
            lanes = 64 // size_of(kind)
            for block in range(0, WIDTH, lanes):
                parts: list[Labelled] = []
                for w in range(lanes):
                    address = _row(builder, data.out, index(block + w), at)
                    ahead = builder.add(address, index(_AHEAD // size_of(kind)))
                    _fetch(builder, builder.gep(data.left, [ahead]))
                    vector = load_vector(builder, data.left, address, kind, states)
                    parts.append((vector, [(k, w) for k in range(states)]))
                vectors = _joined(builder, parts, states)
                for k, (vector, _) in enumerate(_sorted_out(builder, vectors, range(states))):
                    where = builder.add(to, index(k * WIDTH + block))
                    store_vector(builder, vector, data.right, where, kind, lanes)
            return context.get_dummy_value()

        return types.void(field, out, places, at, to), generate

    return intrinsic(bring)


def _fetch(builder: Any, pointer: Any) -> None:
    """Prefetch memory."""
    number, text = ir.IntType(32), ir.IntType(8).as_pointer()
    function = builder.module.globals.get("llvm.prefetch.p0i8") or ir.Function(
        builder.module, ir.FunctionType(ir.VoidType(), [text] + [number] * 3), "llvm.prefetch.p0i8"
    )
    builder.call(function, [builder.bitcast(pointer, text), number(0), number(3), number(1)])


def _stores(states: int) -> Any:
    def write(typing_context, values, out, places, factors, at, by, to, block):
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            data = data_of(context, builder, signature, arguments)
            factors = context.make_array(signature.args[3])(context, builder, arguments[3]).data
            at, by, to, block = arguments[4:]
            kind, index = data.kind, at.type
            lanes = 64 // size_of(kind)
            factor = load_vector(builder, factors, builder.add(by, block), kind, lanes)
            vectors: list[Labelled] = []
            for k in range(states):
                address = builder.add(builder.add(at, index(k * WIDTH)), block)
                value = load_vector(builder, data.left, address, kind, lanes)
                vectors.append((builder.fmul(value, factor), [(w, k) for w in range(lanes)]))
            parts = _sorted_out(builder, vectors, range(lanes))
            for vector, labels in parts:
                for first in range(0, lanes, states):
                    piece = ir.Constant(
                        ir.VectorType(ir.IntType(32), states), [*range(first, first + states)]
                    )
                    one = builder.shuffle_vector(
                        vector, ir.Constant(vector.type, ir.Undefined), piece
                    )
                    row = _row(builder, data.out, builder.add(block, index(labels[first][0])), to)
                    store_vector(builder, one, data.right, row, kind, states)
            return context.get_dummy_value()

        return types.void(values, out, places, factors, at, by, to, block), generate

    return intrinsic(write)


bring_1, bring_2, bring_4 = (_loads(states) for states in (1, 2, 4))
"""Copy ``field[places[w] + at + k]`` of all rows to ``out[to + k * WIDTH + w]``."""
write_1, write_2, write_4 = (_stores(states) for states in (1, 2, 4))
"""Write ``values[at + k * WIDTH + w] * factors[by + w]`` of a block to
``out[places[w] + to + k]``."""
