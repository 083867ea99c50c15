"""The one instruction: ``out[..] += x[..] * y[..] * z[..]`` for a tile of rows at once."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from pgnn.inference.exact.kernels.program import HEADER, LOOP
from pgnn.inference.exact.kernels.unit_stride import along_units
from pgnn.inference.exact.kernels.vector_code import INDEX, Output, VectorCode
from pgnn.inference.kernels.compiled import entry


def _emit_loop(
    builder: Any, base: Any, args: Any, width: int, num_wide: int, maximum: bool
) -> None:
    """Write the innermost loop as vector code.

    LLVM cannot vectorise it, since the operands share one array and might overlap. The first
    ``num_wide`` operands hold a value for every lane, the others one value for all lanes.
    """
    out, out_step, num = args[0], args[1], args[2]
    starts, strides = list(args[3::2]), list(args[4::2])
    code = VectorCode(builder, base, Output.MAXIMUM if maximum else Output.SUM)
    zero, one = ir.Constant(INDEX, 0), ir.Constant(INDEX, 1)

    def value_of(at: Any, is_wide: bool) -> Any:
        """A number for every lane, or one for all."""
        return code.load(at, width) if is_wide else code.spread(code.load(at, 1), width)

    def run(reduce: bool) -> None:
        before = builder.block
        body = builder.append_basic_block("body")
        after = builder.append_basic_block("after")
        initial = code.load(out, width) if reduce else None
        builder.branch(body)
        builder.position_at_end(body)
        count, at_out = builder.phi(INDEX), builder.phi(INDEX)
        places = [builder.phi(INDEX) for _ in starts]
        total = builder.phi(initial.type) if initial is not None else None
        old = code.load(at_out, width) if total is None else total
        new = code.combine(old, [value_of(at, k < num_wide) for k, at in enumerate(places)])
        if not reduce:
            code.store(new, at_out, width)
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
            code.store(new, out, width)

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


@entry
def contract(memory, code, at, lanes, counters, stop):
    """Run the encoded instruction at ``code[at]``; its output is overwritten.

    The rest is left undone once ``stop[0]`` is set.
    """
    o, x, y, z = code[at + 2], code[at + 4], code[at + 5], code[at + 6]
    num_wide, ternary, rank = code[at + 7], code[at + 8] - 2, code[at + 9]
    maximum, along = code[at + 10], code[at + 11]
    passes = 1
    for d in range(rank):
        passes *= code[at + HEADER + LOOP * d]
    single = len(lanes) == 1 and along == 1 and not (ternary and maximum)
    # where every number of the output has one product, it need not be cleared
    fresh = (
        single
        and not ternary
        and passes == code[at + 3]
        and code[at + HEADER + LOOP * (rank - 1) + 1] == 1
    )
    if not fresh:
        for i in range(o, o + code[at + 3] * len(lanes)):
            memory[i] = 0.0
    output = 2 if fresh else maximum
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
        if single:
            along_units(memory, num_wide, ternary, output, so, m, n, o, to, x, tx, y, ty, z, tz)
        else:
            for _ in range(m):
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
    """Write each lane's largest entry of a buffer to ``memory[top:]``, where a tile has room."""
    width = len(lanes)
    for w in range(width):
        memory[top + w] = 0.0
    if width == 1:
        along_units(memory, 1, 0, 1, 0, 1, size, top, 0, start, 0, 0, 0, 0, 0)
    else:
        _innermost(memory, lanes, 1, 0, 1, top, 0, size, start, width, 0, 0, 0, 0)
