"""Products of the messages of a tile with sparse transitions, in vector registers.

The transitions into (or out of) each state are contiguous; vectors run over the rows of a tile.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from pgnn.inference.chains.kernels.vector_registers import (
    MAX,
    SUM,
    WIDTH,
    include,
    load_vector,
    size_of,
    spread,
    start_of,
    store_vector,
    total_of,
)


class _Lists:
    """Data pointers of arrays, and the loops over lists of transitions."""

    def __init__(self, context: Any, builder: Any, signature: Any, arguments: Any) -> None:
        self.builder = builder
        self.arrays = [
            context.make_array(kind)(context, builder, value).data
            for kind, value in zip(signature.args, arguments, strict=True)
            if isinstance(kind, types.Array)
        ]
        self.numbers = arguments[len(self.arrays) :]
        self.kind = context.get_data_type(types.float64)
        self.index = ir.IntType(64)

    def place(self, at: Any, state: Any) -> Any:
        """Index of the numbers of a state."""
        return self.builder.add(at, self.builder.mul(state, self.index(WIDTH)))

    def read(self, pointer: Any, at: Any, lanes: int = WIDTH) -> Any:
        """Load a vector of an array."""
        return load_vector(self.builder, pointer, at, self.kind, lanes)

    def write(self, value: Any, pointer: Any, at: Any) -> None:
        """Store a vector into an array."""
        store_vector(self.builder, value, pointer, at, self.kind, WIDTH)

    def entry(self, pointer: Any, at: Any) -> Any:
        """Load one number of an array."""
        return self.builder.load(self.builder.gep(pointer, [at]))

    def after(self, firsts: Any, state: Any) -> tuple[Any, Any]:
        """Range of the transitions of a state."""
        end = self.builder.add(state, self.index(1))
        return self.entry(firsts, state), self.entry(firsts, end)


def _products(maximum: bool) -> Any:
    def push(typing_context, firsts, others, weights, x, out, factors, totals,
             begin, end, x_at, to, factor_at, total_at):  # fmt: skip
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            lists = _Lists(context, builder, signature, arguments)
            firsts, others, weights, x, out, factors, totals = lists.arrays
            begin, end, x_at, to, factor_at, total_at = lists.numbers
            start = start_of(ir.VectorType(lists.kind, WIDTH), maximum)
            factor = lists.read(factors, factor_at)
            total = cgutils.alloca_once_value(builder, start)
            message = cgutils.alloca_once_value(builder, start)
            with cgutils.for_range(builder, end, start=begin) as states:
                builder.store(start, message)
                first, last = lists.after(firsts, states.index)
                with cgutils.for_range(builder, last, start=first) as edges:
                    other = lists.entry(others, edges.index)
                    value = lists.read(x, lists.place(x_at, other))
                    weight = spread(builder, weights, edges.index, lists.kind, WIDTH)
                    more = include(builder, builder.load(message), value, weight, maximum)
                    builder.store(more, message)
                combined = builder.fadd if maximum else builder.fmul
                result = combined(builder.load(message), factor)
                lists.write(result, out, lists.place(to, states.index))
                old = builder.load(total)
                if maximum:
                    larger = builder.fcmp_ordered(">", result, old)
                    builder.store(builder.select(larger, result, old), total)
                else:
                    builder.store(builder.fadd(result, old), total)
            lists.write(builder.load(total), totals, total_at)
            return context.get_dummy_value()

        return types.void(firsts, others, weights, x, out, factors, totals,
                          begin, end, x_at, to, factor_at, total_at), generate  # fmt: skip

    return intrinsic(push)


push_sums, push_tops = _products(SUM), _products(MAX)
"""``out[j] = factor * sum_m weights[m] * x[others[m]]`` for the states ``begin`` to ``end``, over
the transitions ``m`` of each; ``totals`` becomes the sum of these.

The max-product version adds in place of multiplying, and takes the maximum in place of adding.
"""


def _meet(typing_context, alpha, ahead, out, factors, marginals, totals,
          begin, end, alpha_at, out_at, factor_at, marginal_at):  # fmt: skip
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        lists = _Lists(context, builder, signature, arguments)
        alpha, ahead, out, factors, marginals, totals = lists.arrays
        begin, end, alpha_at, out_at, factor_at, marginal_at = lists.numbers
        factor, none = lists.read(factors, factor_at), lists.index(0)
        zero = start_of(ir.VectorType(lists.kind, WIDTH), SUM)
        marginal = cgutils.alloca_once_value(builder, zero)
        total = cgutils.alloca_once_value(builder, lists.read(totals, none))
        with cgutils.for_range(builder, end, start=begin) as states:
            message = lists.read(ahead, lists.place(none, states.index))
            value = lists.read(alpha, lists.place(alpha_at, states.index))
            share = include(builder, builder.load(marginal), value, message, SUM)
            builder.store(share, marginal)
            builder.store(builder.fadd(builder.load(total), message), total)
            result = builder.fmul(message, factor)
            lists.write(result, out, lists.place(out_at, states.index))
        lists.write(builder.load(marginal), marginals, marginal_at)
        lists.write(builder.load(total), totals, none)
        return context.get_dummy_value()

    return types.void(alpha, ahead, out, factors, marginals, totals,
                      begin, end, alpha_at, out_at, factor_at, marginal_at), generate  # fmt: skip


meet_label: Any = intrinsic(_meet)
"""``marginals`` becomes the sum of ``alpha * ahead`` over the states ``begin`` to ``end``, to
``totals`` that of ``ahead`` is added, and ``out`` becomes ``ahead * factor``."""


def _count(typing_context, firsts, others, x, y, counts, begin, end, x_at, y_at, back, num):
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        lists = _Lists(context, builder, signature, arguments)
        firsts, others, x, y, counts = lists.arrays
        begin, end, x_at, y_at, back, num = lists.numbers
        lanes = 64 // size_of(lists.kind)
        pieces = range(0, WIDTH, lanes)
        zero = start_of(ir.VectorType(lists.kind, lanes), SUM)
        totals = [cgutils.alloca_once_value(builder, zero) for _ in pieces]
        with cgutils.for_range(builder, end, start=begin) as states:
            first, last = lists.after(firsts, states.index)
            source = lists.place(x_at, states.index)
            with cgutils.for_range(builder, last, start=first) as edges:
                target = lists.place(y_at, lists.entry(others, edges.index))
                for total in totals:
                    builder.store(zero, total)
                with cgutils.for_range(builder, num) as steps:
                    moved = builder.mul(steps.index, back)
                    for total, piece in zip(totals, pieces, strict=True):
                        at = builder.add(moved, lists.index(piece))
                        left = lists.read(x, builder.add(source, at), lanes)
                        right = lists.read(y, builder.add(target, at), lanes)
                        more = include(builder, builder.load(total), left, right, SUM)
                        builder.store(more, total)
                vector = builder.load(totals[0])
                for total in totals[1:]:
                    vector = builder.fadd(vector, builder.load(total))
                pointer = builder.gep(counts, [edges.index])
                builder.store(
                    builder.fadd(builder.load(pointer), total_of(builder, vector)), pointer
                )
        return context.get_dummy_value()

    return types.void(
        firsts, others, x, y, counts, begin, end, x_at, y_at, back, num
    ), generate  # fmt: skip


count_edges: Any = intrinsic(_count)
"""Add ``sum_n x[n, i] * y[n, j]`` of all rows to the count of each transition ``i -> j`` of the
states ``begin`` to ``end``; steps ``n`` are ``back`` numbers apart."""
