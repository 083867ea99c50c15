"""Vector instructions over one array of numbers, which LLVM cannot find by itself."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from typing import Any

from llvmlite import ir
from numba.core import cgutils

DOUBLE, INDEX, LANE = ir.DoubleType(), ir.IntType(64), ir.IntType(32)


class Output(Enum):
    """What becomes of a product: added to the output, compared with it, or written to it."""

    SUM = 0
    MAXIMUM = 1
    FRESH = 2


class VectorCode:
    """Writes loads, stores and products of contiguous values.

    Args:
        builder: Of LLVM.
        base: Where the memory begins.
        output: What becomes of products.
    """

    def __init__(self, builder: Any, base: Any, output: Output) -> None:
        self.builder, self.base, self.output = builder, base, output

    def load(self, at: Any, width: int) -> Any:
        """Some values; a number if it is one."""
        value = self.builder.load(self._pointer(at, width))
        value.align = 8
        return value

    def store(self, value: Any, at: Any, width: int) -> None:
        """Write some values."""
        self.builder.store(value, self._pointer(at, width)).align = 8

    def spread(self, value: Any, width: int) -> Any:
        """The same number in every lane."""
        if width == 1:
            return value
        undefined = ir.Constant(ir.VectorType(DOUBLE, width), ir.Undefined)
        first = self.builder.insert_element(undefined, value, ir.Constant(LANE, 0))
        return self.lanes(first, [0] * width)

    def lanes(self, vector: Any, lanes: Sequence[int]) -> Any:
        """Some lanes of a vector; a number if it is one."""
        if len(lanes) == 1:
            return self.builder.extract_element(vector, ir.Constant(LANE, lanes[0]))
        mask = ir.Constant(ir.VectorType(LANE, len(lanes)), list(lanes))
        undefined = ir.Constant(vector.type, ir.Undefined)
        return self.builder.shuffle_vector(vector, undefined, mask)

    def combine(self, old: Any, values: Sequence[Any]) -> Any:
        """What was there before, and the product of two or three values."""
        head = values[0] if len(values) == 2 else self.builder.fmul(values[0], values[1])
        if self.output is Output.FRESH:
            return self.builder.fmul(head, values[-1])
        if self.output is Output.MAXIMUM:
            return self.join(old, self.builder.fmul(head, values[-1]))
        width = old.type.count if isinstance(old.type, ir.VectorType) else 1
        name = "llvm.fmuladd." + (f"v{width}f64" if width > 1 else "f64")
        kind = ir.FunctionType(old.type, [old.type] * 3)
        multiply_add = cgutils.get_or_insert_function(self.builder.module, kind, name)
        return self.builder.call(multiply_add, [head, values[-1], old])

    def join(self, first: Any, second: Any) -> Any:
        """The sum of two results, or the larger one."""
        if self.output is Output.SUM:
            return self.builder.fadd(first, second)
        larger = self.builder.fcmp_ordered(">", second, first)
        return self.builder.select(larger, second, first)

    def _pointer(self, at: Any, width: int) -> Any:
        pointer = self.builder.gep(self.base, [at])
        if width == 1:
            return pointer
        return self.builder.bitcast(pointer, ir.VectorType(DOUBLE, width).as_pointer())
