"""Gather and scatter of indexed rows of a table: their sum, and a vector added to each of them.

Eight columns at a time are held in vector registers, see :mod:`vector_registers`.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from pgnn.inference.chains.kernels.vector_registers import (
    SUM,
    load_vector,
    spread,
    start_of,
    store_vector,
)

COLUMNS = 8
"""Columns of a block; the number of columns of a table is a multiple of it."""


class _Block:
    """Eight columns of indexed rows of a table."""

    def __init__(self, context: Any, builder: Any, signature: Any, arguments: Any) -> None:
        pointers = [
            context.make_array(kind)(context, builder, value).data
            for kind, value in zip(signature.args[:4], arguments[:4], strict=True)
        ]
        self.builder, self.kind = builder, context.get_data_type(signature.args[0].dtype)
        self.table, self.numbers, self.values, self.vector = pointers
        self.begin, self.end, self.step, self.column, self.at = arguments[4:]

    def row(self, m: Any) -> Any:
        """Offset in the table of the row with the ``m``-th index."""
        number = self.builder.load(self.builder.gep(self.numbers, [m]))
        row = self.builder.sext(number, self.begin.type)
        return self.builder.add(self.builder.mul(row, self.step), self.column)

    def weighed(self, vector: Any, m: Any, valued: bool) -> Any:
        """Multiply a vector by the ``m``-th value, if values are given."""
        if not valued:
            return vector
        value = spread(self.builder, self.values, m, self.kind, COLUMNS)
        return self.builder.fmul(vector, value, flags=("contract",))

    def load(self, pointer: Any, at: Any) -> Any:
        """Load eight numbers."""
        return load_vector(self.builder, pointer, at, self.kind, COLUMNS)


def _gather(valued: bool) -> Any:
    def gather(typing_context, table, numbers, values, out, begin, end, step, column, to):
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            block = _Block(context, builder, signature, arguments)
            total = cgutils.alloca_once_value(
                builder, start_of(ir.VectorType(block.kind, COLUMNS), SUM)
            )
            builder.store(block.load(block.vector, block.at), total)
            with cgutils.for_range(builder, block.end, start=block.begin) as loop:
                row = block.weighed(block.load(block.table, block.row(loop.index)), loop.index,
                                    valued)  # fmt: skip
                builder.store(builder.fadd(builder.load(total), row, flags=("contract",)), total)
            store_vector(builder, builder.load(total), block.vector, block.at, block.kind, COLUMNS)
            return context.get_dummy_value()

        return types.void(table, numbers, values, out, begin, end, step, column, to), generate

    return intrinsic(gather)


gather_names, gather_values = _gather(False), _gather(True)
"""``out[to:to + 8] += sum_m values[m] * table[numbers[m] * step + column:...]`` over ``m`` from
``begin`` to ``end``; the other version has no values."""


def _scatter(valued: bool) -> Any:
    def scatter(typing_context, table, numbers, values, vector, begin, end, step, column, at):
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            block = _Block(context, builder, signature, arguments)
            added = block.load(block.vector, block.at)
            with cgutils.for_range(builder, block.end, start=block.begin) as loop:
                row = block.row(loop.index)
                more = block.weighed(added, loop.index, valued)
                total = builder.fadd(block.load(block.table, row), more, flags=("contract",))
                store_vector(builder, total, block.table, row, block.kind, COLUMNS)
            return context.get_dummy_value()

        return types.void(table, numbers, values, vector, begin, end, step, column, at), generate

    return intrinsic(scatter)


scatter_names, scatter_values = _scatter(False), _scatter(True)
"""``table[numbers[m] * step + column:... + 8] += values[m] * vector[at:at + 8]`` for all ``m``."""
