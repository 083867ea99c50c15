"""The two innermost loops of an instruction whose last one runs over consecutive numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from pgnn.inference.exact.kernels.vector_code import DOUBLE, INDEX, Output, VectorCode

_WIDEST = 8
"""Numbers that a pass of a long loop works on at once."""
_SHORT = range(3, 7)
"""Lengths of the last loop for which there is code without a loop: numbers of states, mostly."""


@dataclass(frozen=True)
class _Loops:
    """Code for one kind of two loops, such as ``out += x * y * z``.

    Args:
        code: Writes it.
        operands: Two or three.
        moving: How many of them, the first ones, advance with the last loop.
        kept: Whether the output advances with it, too; otherwise it is summed over.
    """

    code: VectorCode
    operands: int
    moving: int
    kept: bool

    def run(self, outer: Any, places: Any, steps: Any, length: Any) -> None:
        """Write the loops.

        Args:
            outer: How often the last loop is run.
            places: Where the output and the operands begin.
            steps: How far they advance from run to run of the last loop.
            length: Of the last loop; a Python number if it is known.
        """
        builder = self.code.builder
        with cgutils.for_range(builder, outer, intp=INDEX) as loop:
            out, *starts = [
                builder.add(at, builder.mul(loop.index, step))
                for at, step in zip(places, steps, strict=True)
            ]
            moving = starts[: self.moving]
            still = [self.code.load(at, 1) for at in starts[self.moving : self.operands]]
            if self.kept:
                self._along(out, moving, still, length)
            else:
                total = self._reduced(moving, still, length)
                self.code.store(self.code.join(self.code.load(out, 1), total), out, 1)

    def _along(self, out: Any, moving: list[Any], still: list[Any], length: Any) -> None:
        """Every number of the output gets its product."""

        def piece(at: Any, width: int) -> None:
            to = self.code.builder.add(out, at)
            before = None if self.code.output is Output.FRESH else self.code.load(to, width)
            self.code.store(self._products(before, moving, still, at, width), to, width)

        self._pieces(length, piece)

    def _reduced(self, moving: list[Any], still: list[Any], length: Any) -> Any:
        """The sum, or the largest, of all products.

        A long loop has as many partial results as its passes are wide, which are joined in halves
        before the numbers that are left over come in.
        """
        builder, held = self.code.builder, {}
        width = _WIDEST
        while width:
            kind = ir.VectorType(DOUBLE, width) if width > 1 else DOUBLE
            held[width] = cgutils.alloca_once(builder, kind)
            builder.store(self.code.spread(ir.Constant(DOUBLE, 0.0), width), held[width])
            width //= 2

        def piece(at: Any, width: int) -> None:
            before = builder.load(held[width])
            builder.store(self._products(before, moving, still, at, width), held[width])

        def narrow(width: int) -> None:
            both, half = builder.load(held[width]), width // 2
            first, second = (self.code.lanes(both, range(k, k + half)) for k in (0, half))
            builder.store(self.code.join(first, second), held[half])

        self._pieces(length, piece, narrow)
        return builder.load(held[1])

    def _pieces(self, length: Any, piece: Any, narrow: Any = None) -> None:
        """Cut the last loop into vectors; after those of a width comes ``narrow`` of it."""
        builder = self.code.builder
        if isinstance(length, int):
            done, width = 0, _WIDEST
            while width:
                while length - done >= width:
                    piece(ir.Constant(INDEX, done), width)
                    done += width
                if narrow and width > 1 and done:
                    narrow(width)
                width //= 2
            return
        whole = builder.and_(length, ir.Constant(INDEX, -_WIDEST))
        zero, step = ir.Constant(INDEX, 0), ir.Constant(INDEX, _WIDEST)
        with cgutils.for_range_slice(builder, zero, whole, step, INDEX) as (at, _):
            piece(at, _WIDEST)
        width = _WIDEST
        while width > 1:
            if narrow:
                narrow(width)
            width //= 2
            bit = builder.and_(length, ir.Constant(INDEX, width))
            with builder.if_then(builder.icmp_signed("!=", bit, zero)):
                longer = builder.and_(length, ir.Constant(INDEX, -2 * width))
                piece(longer, width)

    def _products(self, old: Any, moving: list[Any], still: list[Any], at: Any, width: int) -> Any:
        """What was there before, if that counts, and the products from ``at`` on."""
        values = [self.code.load(self.code.builder.add(x, at), width) for x in moving]
        return self.code.combine(old, values + [self.code.spread(x, width) for x in still])


def _by_length(loops: _Loops, places: Any, steps: Any, outer: Any, length: Any) -> None:
    """Write loops for the short lengths, and one for the others."""
    builder, count = loops.code.builder, loops.operands + 1
    places, steps = places[:count], steps[:count]
    if loops.operands == 3 or loops.code.output is Output.MAXIMUM:
        loops.run(outer, places, steps, length)
        return
    after = builder.append_basic_block("after")
    longer = builder.append_basic_block("longer")
    cases = builder.switch(length, longer)
    for short in _SHORT:
        block = builder.append_basic_block(f"length.{short}")
        cases.add_case(ir.Constant(length.type, short), block)
        builder.position_at_end(block)
        loops.run(outer, places, steps, short)
        builder.branch(after)
    builder.position_at_end(longer)
    loops.run(outer, places, steps, length)
    builder.branch(after)
    builder.position_at_end(after)


def _type_unit_stride(
    typing, memory, moving, ternary, output, kept, m, n, o, to, x, tx, y, ty, z, tz
):  # fmt: skip
    """Two loops, by the number of operands, how many of them move, and what becomes of products."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        base = context.make_array(signature.args[0])(context, builder, args[0]).data
        moving, ternary, output, kept, outer, length = args[1:7]

        def choose(flag: Any, values: list[Any], write: Any) -> None:
            """Choose among the values that a flag may have; the last one needs no test."""
            if len(values) == 1:
                write(values[0])
                return
            first, *others = values
            number = first.value if isinstance(first, Output) else int(first)
            is_first = builder.icmp_signed("==", flag, ir.Constant(flag.type, number))
            with builder.if_else(is_first) as (this, rest):
                with this:
                    write(first)
                with rest:
                    choose(flag, others, write)

        def of(operands: int, move: int, keep: bool, kind: Output) -> None:
            loops = _Loops(VectorCode(builder, base, kind), operands, move, keep)
            _by_length(loops, args[7::2], args[8::2], outer, length)

        def for_operands(three: bool) -> None:
            operands = 3 if three else 2
            moves = list(range(1, operands + 1))

            def for_kept(keep: bool) -> None:
                # each kind takes long to compile: there are those that questions need
                kinds = [Output.SUM] if three else [Output.MAXIMUM, Output.SUM]
                if keep and not three:
                    kinds.append(Output.FRESH)
                choose(
                    output,
                    kinds,
                    lambda kind: choose(moving, moves, lambda k: of(operands, k, keep, kind)),
                )

            choose(kept, [True, False], for_kept)

        choose(ternary, [True, False], for_operands)
        return context.get_dummy_value()

    return types.void(memory, *[types.int64] * 14), generate


along_units: Any = intrinsic(_type_unit_stride)
"""Run two loops, ``m`` times the last one of ``n`` consecutive numbers.

``moving`` operands, the first ones, advance by one number with the last loop, the others stand
still; ``kept`` says whether the output advances, too. Products are added to what is there
(``output`` 0) or, of two operands, compared with it (1), or written (2, only if the output
advances). ``to``, ``tx``, ``ty`` and ``tz`` are the strides of the loop around it.
"""


def _by_python(memory, moving, ternary, output, kept, m, n, o, to, x, tx, y, ty, z, tz):
    """The same loops, one number after another."""
    places = [(x, tx), (y, ty), (z, tz)][: 3 if ternary else 2]
    for i in range(m):
        for k in range(n):
            value = 1.0
            for j, (at, step) in enumerate(places):
                value *= memory[at + i * step + (k if j < moving else 0)]
            out = o + i * to + (k if kept else 0)
            before = memory[out]
            memory[out] = [before + value, max(before, value), value][output]


along_units.by_python = _by_python
