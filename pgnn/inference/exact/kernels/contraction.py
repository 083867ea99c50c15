"""The one instruction: ``out[..] += x[..] * y[..] * z[..]`` for a tile of rows at once."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from pgnn.inference.exact.kernels.program import HEADER, LOOP, SHORT
from pgnn.inference.kernels.compiled import entry, lean


class _VectorCode:
    """Writes operations on the numbers of all lanes.

    Args:
        builder: Of LLVM.
        base: Where the memory begins.
        width: How many lanes.
    """

    def __init__(self, builder: Any, base: Any, width: int) -> None:
        self.builder, self.base, self.width = builder, base, width
        self.vector = ir.VectorType(ir.DoubleType(), width)

    def load(self, at: Any, wide: bool = True) -> Any:
        """A number for every lane, or one for all."""
        builder, base = self.builder, self.base
        if wide:
            value = builder.load(self._pointer(at))
            value.align = 8
            return value
        lane = ir.Constant(ir.IntType(32), 0)
        undefined = ir.Constant(self.vector, ir.Undefined)
        first = builder.insert_element(undefined, builder.load(builder.gep(base, [at])), lane)
        spread = ir.Constant(ir.VectorType(ir.IntType(32), self.width), [0] * self.width)
        return builder.shuffle_vector(first, undefined, spread)

    def store(self, value: Any, at: Any) -> None:
        """Write the numbers of all lanes."""
        self.builder.store(value, self._pointer(at)).align = 8

    def combine(self, old: Any, values: list[Any], maximum: bool) -> Any:
        """A number and the product of others, added up, or the larger one."""
        builder = self.builder
        head = values[0] if len(values) == 2 else builder.fmul(values[0], values[1])
        if maximum:
            product = builder.fmul(head, values[-1])
            return builder.select(builder.fcmp_ordered(">", product, old), product, old)
        kind = ir.FunctionType(self.vector, [self.vector] * 3)
        name = f"llvm.fmuladd.v{self.width}f64"
        fma = cgutils.get_or_insert_function(builder.module, kind, name)
        return builder.call(fma, [head, values[-1], old])

    def _pointer(self, at: Any) -> Any:
        place = self.builder.gep(self.base, [at])
        return self.builder.bitcast(place, self.vector.as_pointer())


def _emit_loop(
    builder: Any, base: Any, args: Any, width: int, num_wide: int, maximum: bool
) -> None:
    """Write the innermost loop as vector code.

    LLVM cannot vectorise it, since the operands share one array and might overlap. The first
    ``num_wide`` operands hold a value for every lane, the others one value for all lanes.
    """
    out, out_step, num = args[0], args[1], args[2]
    starts, strides = list(args[3::2]), list(args[4::2])
    index, code = ir.IntType(64), _VectorCode(builder, base, width)
    zero, one = ir.Constant(index, 0), ir.Constant(index, 1)

    def run(reduce: bool) -> None:
        before = builder.block
        body = builder.append_basic_block("body")
        after = builder.append_basic_block("after")
        initial = code.load(out) if reduce else None
        builder.branch(body)
        builder.position_at_end(body)
        count, at_out = builder.phi(index), builder.phi(index)
        places = [builder.phi(index) for _ in starts]
        total = builder.phi(code.vector) if reduce else None
        old = total if reduce else code.load(at_out)
        values = [code.load(at, k < num_wide) for k, at in enumerate(places)]
        new = code.combine(old, values, maximum)
        if not reduce:
            code.store(new, at_out)
        moves = [(count, zero, one), (at_out, out, out_step)]
        for phi, start, step in [*moves, *zip(places, starts, strides, strict=True)]:
            phi.add_incoming(start, before)
            phi.add_incoming(builder.add(phi, step), body)
        if total is not None:
            total.add_incoming(initial, before)
            total.add_incoming(new, body)
        more = builder.icmp_signed("<", builder.add(count, one), num)
        builder.cbranch(more, body, after)
        builder.position_at_end(after)
        if reduce:
            code.store(new, out)

    with builder.if_else(builder.icmp_signed("==", out_step, zero)) as (summed, kept):
        with summed:
            run(reduce=True)
        with kept:
            run(reduce=False)


def _type_innermost(
    typing, memory, lanes, num_wide, ternary, maximum, out, out_step, num, x, x_step, y, y_step,
    z, z_step,
):  # fmt: skip
    """The innermost loop, by the number of operands and the number of wide operands.

    The number of lanes is the length of the tuple ``lanes``; with a single lane all operands count
    as wide.
    """

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        base = context.make_array(signature.args[0])(context, builder, args[0]).data
        wide, three, most = args[2:5]
        zero = ir.Constant(wide.type, 0)

        def choose(operands: int, largest: bool) -> None:
            numbers = args[5 : 8 + 2 * operands]

            def emit(least: int) -> None:
                """Select the loop among those with at least this many wide operands."""
                if lanes.count == 1 or least == operands:
                    _emit_loop(builder, base, numbers, lanes.count, operands, largest)
                    return
                is_width = builder.icmp_signed("==", wide, ir.Constant(wide.type, least))
                with builder.if_else(is_width) as (yes, no):
                    with yes:
                        _emit_loop(builder, base, numbers, lanes.count, least, largest)
                    with no:
                        emit(least + 1)

            emit(0)

        with builder.if_else(builder.icmp_signed("!=", three, zero)) as (ternary, binary):
            for branch, operands in ((ternary, 3), (binary, 2)):
                with (
                    branch,
                    builder.if_else(builder.icmp_signed("!=", most, zero)) as (maxima, sums),
                ):
                    with maxima:
                        choose(operands, True)
                    with sums:
                        choose(operands, False)
        return context.get_dummy_value()

    return types.void(memory, lanes, *[types.int64] * 12), generate


_innermost: Any = intrinsic(_type_innermost)


def _by_python(
    memory, lanes, num_wide, ternary, maximum, out, out_step, num, x, x_step, y, y_step, z, z_step
):
    """The loop in plain Python, one value at a time."""
    places = [(x, x_step), (y, y_step), (z, z_step)][: 3 if ternary else 2]
    for k in range(num):
        for lane in range(len(lanes)):
            value = 1.0
            for i, (at, step) in enumerate(places):
                value *= memory[at + k * step + (lane if i < num_wide else 0)]
            to = out + k * out_step + lane
            memory[to] = max(memory[to], value) if maximum else memory[to] + value


_innermost.by_python = _by_python

_EIGHT = (0,) * SHORT


@lean
def _along(memory, num_wide, ternary, maximum, o, so, n, x, sx, y, sy, z, sz, top):
    """The innermost loop of a single row over contiguous values, eight at a time."""
    e = n // SHORT
    if so == 1:
        _innermost(memory, _EIGHT, num_wide, ternary, maximum, o, SHORT, e, x, SHORT * sx, y,
               SHORT * sy, z, SHORT * sz)  # fmt: skip
    else:
        for i in range(top, top + SHORT):
            memory[i] = 0.0
        _innermost(memory, _EIGHT, num_wide, ternary, maximum, top, 0, e, x, SHORT * sx, y,
               SHORT * sy, z, SHORT * sz)  # fmt: skip
        total = memory[o]
        for i in range(top, top + SHORT):
            total = max(total, memory[i]) if maximum else total + memory[i]
        memory[o] = total
    e *= SHORT
    for k in range(e, n):
        value = memory[x + k * sx] * memory[y + k * sy]
        if ternary:
            value *= memory[z + k * sz]
        i = o + k * so
        memory[i] = max(memory[i], value) if maximum else memory[i] + value


@entry
def contract(memory, code, at, lanes, counters, top, stop):
    """Execute the encoded instruction at ``code[at]``; its output is overwritten.

    ``top`` is the address of a tile of scratch. Execution ends once ``stop[0]`` is set.
    """
    o, x, y, z = code[at + 2], code[at + 4], code[at + 5], code[at + 6]
    num_wide, ternary, rank = code[at + 7], code[at + 8] - 2, code[at + 9]
    maximum, along = code[at + 10], code[at + 11]
    for i in range(o, o + code[at + 3] * len(lanes)):
        memory[i] = 0.0
    k = at + HEADER + LOOP * (rank - 1)
    n, so, sx, sy, sz = code[k], code[k + 1], code[k + 2], code[k + 3], code[k + 4]
    m, to, tx, ty, tz = 1, 0, 0, 0, 0
    if rank > 1:
        k -= LOOP
        m, to, tx, ty, tz = code[k], code[k + 1], code[k + 2], code[k + 3], code[k + 4]
    for d in range(rank - 2):
        counters[d] = 0
    while True:
        p, q, r, s = o, x, y, z
        for _ in range(m):
            if len(lanes) == 1 and along:
                _along(memory, num_wide, ternary, maximum, p, so, n, q, sx, r, sy, s, sz, top)
            else:
                _innermost(memory, lanes, num_wide, ternary, maximum, p, so, n, q, sx, r, sy, s, sz)
            p += to
            q += tx
            r += ty
            s += tz
        d = rank - 3
        while d >= 0:
            k = at + HEADER + LOOP * d
            counters[d] += 1
            o += code[k + 1]
            x += code[k + 2]
            y += code[k + 3]
            z += code[k + 4]
            if counters[d] < code[k]:
                break
            o -= code[k + 1] * code[k]
            x -= code[k + 2] * code[k]
            y -= code[k + 3] * code[k]
            z -= code[k + 4] * code[k]
            counters[d] = 0
            d -= 1
        if d < 0 or stop[0] != 0:
            return


@entry
def largest(memory, start, size, lanes, top):
    """Write the largest entry of each lane of a buffer to ``memory[top:]``."""
    width, eighths = len(lanes), 0
    if width == 1 and size >= 2 * SHORT:  # a single row, eight values at a time
        eighths = size // SHORT
        for i in range(top, top + SHORT):
            memory[i] = 0.0
        _innermost(memory, _EIGHT, 1, 0, 1, top, 0, eighths, start, SHORT, 0, 0, 0, 0)
        for i in range(top + 1, top + SHORT):
            memory[top] = max(memory[top], memory[i])
    else:
        for w in range(width):
            memory[top + w] = 0.0
    done = eighths * SHORT
    if done < size:
        _innermost(memory, lanes, 1, 0, 1, top, 0, size - done, start + done, width, 0, 0, 0, 0)
