"""Compile an elimination order into a straight-line program of one instruction.

The instruction is ``out[..] += x[..] * y[..] * z[..]`` over a loop nest. Eliminating a variable
multiplies its small tables pairwise, then sums the variable out of the product of the last two or
three without ever writing that product down; the downward pass is the same instruction run
backwards, once for each table whose belief is wanted (reverse-mode differentiation of ``log Z``).

A *buffer* is a table over some free variables, axes sorted so that the variable eliminated first
is innermost. A buffer is *wide* when it depends on the row: then it holds a tile of rows side by
side. Other buffers are computed once for all rows.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit

from pgnn.inference.kernels.ordering import Bools, Floats, Ints

MULTIPLY, MESSAGE, ADJOINT, MARGINAL = 0, 1, 2, 3
ONE = 0
"""Buffer 0, at address 0, is the constant one."""
HEADER = 12
"""Numbers in an encoded instruction before its loops; each loop takes ``LOOP`` more."""
LOOP = 5
_PAIRWISE_UP_TO = 12


class Structure(NamedTuple):
    """What a plan is made from: state counts, and the scopes of the factors that count.

    Attributes:
        card: ``(V,)`` state counts.
        scope_ptr, scope_var: Factor scopes, axes in table order.
        used: ``(F,)`` factors that count.
        rowwise: ``(F,)`` factors whose whole table differs from row to row.
        free: ``(V,)`` variables to eliminate; the states of the others select slices.
        unary: ``(V,)`` free variables with a likelihood of their own in each row.
        wanted: ``(V,)`` variables whose marginal is wanted.
        belief: ``(F,)`` factors whose adjoint (belief divided by table) is wanted.
        maximize: ``(V,)`` variables to maximise over; the others are summed out.
    """

    card: Ints
    scope_ptr: Ints
    scope_var: Ints
    used: Bools
    rowwise: Bools
    free: Bools
    unary: Bools
    wanted: Bools
    belief: Bools
    maximize: Bools


class Buffers(NamedTuple):
    """Tables of a program.

    Attributes:
        count: ``(1,)`` how many there are.
        ptr, var: Scopes, latest eliminated variable first.
        size: Entries.
        wide: Whether the rows differ.
        need: Whether the adjoint is wanted.
        adjoint: Buffer of the adjoint, or -1.
        start: Address in memory.
    """

    count: Ints
    ptr: Ints
    var: Ints
    size: Ints
    wide: Bools
    need: Bools
    adjoint: Ints
    start: Ints


class Steps(NamedTuple):
    """Instructions before they are encoded: operand buffers and the bucket they belong to."""

    count: Ints
    kind: Ints
    bucket: Ints
    out: Ints
    x: Ints
    y: Ints
    z: Ints


class Program(NamedTuple):
    """A compiled plan, addresses and strides final for one tile width.

    Attributes:
        static, up, down: Encoded instructions: once, and for each tile upward and downward.
        static_load, load: Encoded copies of factor tables into buffers.
        constant: Encoded look-ups of factors that are wholly observed.
        unary: ``(U, 3)`` variable, address, states of each row-wise likelihood.
        marginal: ``(M, 3)`` variable, address, states of each wanted marginal.
        root: ``(R, 2)`` address and width of the messages whose product is the evidence.
        belief: Encoded read-outs of the beliefs of factors.
        sizes: Numbers of memory in all, of the static part, the deepest loop nest.
        work: Multiply-adds done once, and for each row.
    """

    static: Ints
    up: Ints
    down: Ints
    static_load: Ints
    load: Ints
    constant: Ints
    unary: Ints
    marginal: Ints
    root: Ints
    belief: Ints
    sizes: Ints
    work: Floats


class Buckets(NamedTuple):
    """Which tables were multiplied when each variable was eliminated (for decoding).

    Attributes:
        order: ``(N,)`` variables, first eliminated first.
        ptr, buf: Input buffers of each bucket.
    """

    order: Ints
    ptr: Ints
    buf: Ints


class Decoder(NamedTuple):
    """What it takes to walk back from the roots and choose states.

    Attributes:
        order: ``(N,)`` variables, first eliminated first.
        ptr: ``(N + 1,)`` inputs of each bucket.
        start, wide: Address of each input, and whether it differs from row to row.
        scope_ptr, scope_var: Its scope, the eliminated variable last.
    """

    order: Ints
    ptr: Ints
    start: Ints
    wide: Bools
    scope_ptr: Ints
    scope_var: Ints


@njit(cache=True, nogil=True)
def _merge(a: Ints, b: Ints, position: Ints, out: Ints) -> int:
    """Merge two scopes, sorted by descending position; return the length of the union."""
    i, j, k = 0, 0, 0
    while i < a.shape[0] or j < b.shape[0]:
        if j == b.shape[0] or (i < a.shape[0] and position[a[i]] > position[b[j]]):
            out[k] = a[i]
            i += 1
        elif i == a.shape[0] or position[b[j]] > position[a[i]]:
            out[k] = b[j]
            j += 1
        else:
            out[k] = a[i]
            i += 1
            j += 1
        k += 1
    return k


@njit(cache=True, nogil=True)
def _scope(buffers: Buffers, b: int) -> Ints:
    return buffers.var[buffers.ptr[b] : buffers.ptr[b + 1]]


@njit(cache=True, nogil=True)
def _join_size(buffers: Buffers, a: int, b: int, card: Ints, position: Ints, work: Ints) -> float:
    """Entries of the product of two buffers."""
    size = 1.0
    for k in range(_merge(_scope(buffers, a), _scope(buffers, b), position, work)):
        size *= card[work[k]]
    return size


@njit(cache=True, nogil=True)
def _add_buffer(buffers: Buffers, scope: Ints, card: Ints, wide: bool, need: bool) -> int:
    b = buffers.count[0]
    buffers.count[0] += 1
    start = buffers.ptr[b]
    size = 1
    for k in range(scope.shape[0]):
        buffers.var[start + k] = scope[k]
        size *= card[scope[k]]
    buffers.ptr[b + 1] = start + scope.shape[0]
    buffers.size[b], buffers.wide[b], buffers.need[b], buffers.adjoint[b] = size, wide, need, -1
    return b


@njit(cache=True, nogil=True)
def _add_step(steps: Steps, kind: int, bucket: int, out: int, x: int, y: int, z: int) -> None:
    k = steps.count[0]
    steps.count[0] += 1
    steps.kind[k], steps.bucket[k], steps.out[k] = kind, bucket, out
    steps.x[k], steps.y[k], steps.z[k] = x, y, z


@njit(cache=True, nogil=True)
def _stride(v: int, scope: Ints, card: Ints) -> int:
    """Stride of ``v`` in a C-ordered table over ``scope``; 0 where it has no such axis."""
    stride = 1
    for k in range(scope.shape[0] - 1, -1, -1):
        if scope[k] == v:
            return stride
        stride *= card[scope[k]]
    return 0


@njit(cache=True, nogil=True)
def _free_scope(structure: Structure, f: int, position: Ints, out: Ints) -> int:
    """The free variables of a factor, latest eliminated first."""
    kept = 0
    for i in range(structure.scope_ptr[f], structure.scope_ptr[f + 1]):
        v = structure.scope_var[i]
        if structure.free[v]:
            at = kept
            while at > 0 and position[out[at - 1]] < position[v]:
                out[at] = out[at - 1]
                at -= 1
            out[at] = v
            kept += 1
    return kept


@njit(cache=True, nogil=True)
def _place_inputs(
    structure: Structure,
    order: Ints,
    position: Ints,
    buffers: Buffers,
    factor_buf: Ints,
    unary_buf: Ints,
    first: Ints,
    following: Ints,
) -> None:
    """Make the buffers of factors and likelihoods and put each into its bucket's list."""
    scope = np.empty(position.shape[0], np.int64)
    for f in range(structure.used.shape[0]):
        if not structure.used[f]:
            continue
        kept = _free_scope(structure, f, position, scope)
        if kept == 0:
            continue
        sliced = kept < structure.scope_ptr[f + 1] - structure.scope_ptr[f]
        wide = sliced or structure.rowwise[f]
        b = _add_buffer(buffers, scope[:kept], structure.card, wide, structure.belief[f])
        factor_buf[f] = b
        bucket = position[scope[kept - 1]]
        following[b] = first[bucket]
        first[bucket] = b
    for k in range(order.shape[0]):
        if structure.unary[order[k]]:
            b = _add_buffer(buffers, order[k : k + 1], structure.card, True, False)
            unary_buf[k] = b
            following[b] = first[k]
            first[k] = b


@njit(cache=True, nogil=True)
def _closest_pair(
    buffers: Buffers, items: Ints, count: int, card: Ints, position: Ints, work: Ints
) -> tuple[int, int, float]:
    """The two tables whose product is smallest; among many, simply the two smallest tables."""
    left, right, least = 0, 1, np.inf
    if count <= _PAIRWISE_UP_TO:
        for i in range(1, count):
            for j in range(i):
                size = _join_size(buffers, items[i], items[j], card, position, work)
                if not (buffers.wide[items[i]] or buffers.wide[items[j]]):
                    size *= 1e-3  # computed once for all rows
                if size < least:
                    left, right, least = j, i, size
        return left, right, least
    for i in range(count):
        if buffers.size[items[i]] < buffers.size[items[left]]:
            left = i
    right = 1 if left == 0 else 0
    for i in range(count):
        if i != left and buffers.size[items[i]] < buffers.size[items[right]]:
            right = i
    return min(left, right), max(left, right), 0.0


@njit(cache=True, nogil=True)
def _bucket_size(
    buffers: Buffers, items: Ints, count: int, card: Ints, position: Ints
) -> tuple[float, Ints]:
    """Entries and scope of the product of all tables of a bucket."""
    union = _scope(buffers, items[0]).copy()
    for i in range(1, count):
        more = _scope(buffers, items[i])
        out = np.empty(union.shape[0] + more.shape[0], np.int64)
        union = out[: _merge(union, more, position, out)]
    size = 1.0
    for k in range(union.shape[0]):
        size *= card[union[k]]
    return size, union


@njit(cache=True, nogil=True)
def _multiply_down(
    buffers: Buffers,
    steps: Steps,
    bucket: int,
    items: Ints,
    count: int,
    whole: float,
    card: Ints,
    position: Ints,
) -> int:
    """Multiply pairs until at most three tables are left, and on while that is cheap."""
    work = np.empty(position.shape[0], np.int64)
    while count > 2:
        left, right, size = _closest_pair(buffers, items, count, card, position, work)
        if count == 3 and size * 4.0 > whole:
            break
        x, y = items[left], items[right]
        rank = _merge(_scope(buffers, x), _scope(buffers, y), position, work)
        wide = buffers.wide[x] or buffers.wide[y]
        need = buffers.need[x] or buffers.need[y]
        out = _add_buffer(buffers, work[:rank], card, wide, need)
        _add_step(steps, MULTIPLY, bucket, out, x, y, ONE)
        items[left] = out
        items[right] = items[count - 1]
        count -= 1
    return count


@njit(cache=True, nogil=True)
def _upward(
    structure: Structure,
    order: Ints,
    position: Ints,
    buffers: Buffers,
    steps: Steps,
    first: Ints,
    following: Ints,
    buckets: Buckets,
    source: Ints,
) -> None:
    """Eliminate one variable after the other.

    ``source`` receives, for each wanted variable, the buffer whose adjoint gives its marginal
    (the smallest whose adjoint is computed anyway), or -1 for "directly from the message".
    """
    card = structure.card
    items = np.empty(following.shape[0], np.int64)
    for k in range(order.shape[0]):
        v = order[k]
        count = 0
        b = first[k]
        while b >= 0:
            items[count] = b
            buckets.buf[buckets.ptr[k] + count] = b
            count += 1
            b = following[b]
        buckets.ptr[k + 1] = buckets.ptr[k] + count
        source[v] = -1
        for i in range(count):
            b = items[i]
            if buffers.need[b] and (source[v] < 0 or buffers.size[b] < buffers.size[source[v]]):
                source[v] = b
        if count == 0:  # no factor mentions the variable: a table of ones
            items[0] = _add_buffer(buffers, order[k : k + 1], card, False, False)
            _add_step(steps, MULTIPLY, k, items[0], ONE, ONE, ONE)
            count = 1
        whole, union = _bucket_size(buffers, items, count, card, position)
        count = _multiply_down(buffers, steps, k, items, count, whole, card, position)
        if structure.wanted[v] and source[v] < 0 and count == 3:
            source[v] = items[0]
            for i in range(1, 3):
                if buffers.size[items[i]] < buffers.size[source[v]]:
                    source[v] = items[i]
            buffers.need[source[v]] = True
        x, y, z = items[0], items[1] if count > 1 else ONE, items[2] if count > 2 else ONE
        wide = buffers.wide[x] or buffers.wide[y] or buffers.wide[z]
        need = buffers.need[x] or buffers.need[y] or buffers.need[z] or structure.wanted[v]
        rank = union.shape[0] - 1
        out = _add_buffer(buffers, union[:rank], card, wide, need)
        _add_step(steps, MESSAGE, k, out, x, y, z)
        if rank == 0:
            buffers.adjoint[out] = ONE
        else:
            bucket = position[union[rank - 1]]
            following[out] = first[bucket]
            first[bucket] = out


@njit(cache=True, nogil=True)
def _adjoints(structure: Structure, buffers: Buffers, steps: Steps, up: int) -> None:
    """The adjoint of each wanted operand of one upward step: the output's times the others."""
    x, y, z = steps.x[up], steps.y[up], steps.z[up]
    above = buffers.adjoint[steps.out[up]]
    for turn in range(3):
        a = x if turn == 0 else (y if turn == 1 else z)
        if buffers.need[a]:
            b, c = (y, z) if turn == 0 else ((x, z) if turn == 1 else (x, y))
            out = _add_buffer(buffers, _scope(buffers, a), structure.card, True, False)
            buffers.adjoint[a] = out
            _add_step(steps, ADJOINT, steps.bucket[up], out, above, b, c)


@njit(cache=True, nogil=True)
def _downward(
    structure: Structure,
    order: Ints,
    buffers: Buffers,
    steps: Steps,
    source: Ints,
    marginal_buf: Ints,
) -> None:
    """Reverse the upward steps: the adjoint of an operand is the output's times the others."""
    for up in range(steps.count[0] - 1, -1, -1):
        k = steps.bucket[up]
        v = order[k]
        if steps.kind[up] == MESSAGE and structure.wanted[v]:
            marginal_buf[v] = _add_buffer(buffers, order[k : k + 1], structure.card, True, False)
            if source[v] < 0:
                above = buffers.adjoint[steps.out[up]]
                _add_step(steps, MARGINAL, k, marginal_buf[v], above, steps.x[up], steps.y[up])
        if buffers.need[steps.out[up]]:
            _adjoints(structure, buffers, steps, up)
        # every adjoint of the bucket is there once its first upward step has been reversed
        if (up == 0 or steps.bucket[up - 1] != k) and structure.wanted[v] and source[v] >= 0:
            s = source[v]
            _add_step(steps, MARGINAL, k, marginal_buf[v], buffers.adjoint[s], s, ONE)


@njit(cache=True, nogil=True)
def _addresses(buffers: Buffers, width: int) -> tuple[int, int]:
    """Lay out memory: the constant one, static buffers, then wide ones; aligned to tiles."""
    at = 1
    for b in range(1, buffers.count[0]):
        if not buffers.wide[b]:
            buffers.start[b] = at
            at += buffers.size[b]
    static = (at + 7) // 8 * 8
    at = static
    for b in range(1, buffers.count[0]):
        if buffers.wide[b]:
            buffers.start[b] = at
            at += buffers.size[b] * width
    return static, at


@njit(cache=True, nogil=True)
def _add_loop(code: Ints, at: int, rank: int, n: int, s: tuple[int, int, int, int]) -> int:
    """Append a loop to a nest, fused with the one around it where all strides allow."""
    if n == 1:
        return rank
    last = at + HEADER + LOOP * (rank - 1)
    if (
        rank > 0
        and code[last + 1] == s[0] * n
        and code[last + 2] == s[1] * n
        and code[last + 3] == s[2] * n
        and code[last + 4] == s[3] * n
    ):
        n *= code[last]
        rank -= 1
        last -= LOOP
    code[last + LOOP] = n
    for i in range(4):
        code[last + LOOP + 1 + i] = s[i]
    return rank + 1


@njit(cache=True, nogil=True)
def _encode(
    steps: Steps, op: int, buffers: Buffers, card: Ints, position: Ints, width: int, maximize: bool,
    code: Ints, at: int, work: Ints,
) -> tuple[int, float]:  # fmt: skip
    """Write one instruction at ``code[at:]``; return where the next one goes, and its cost.

    In tiles of rows the summed axes come innermost, so that sums stay in registers; for single
    rows the axes keep their order, so that the inner loop runs over consecutive numbers.
    """
    out = steps.out[op]
    a, b, c = steps.x[op], steps.y[op], steps.z[op]
    # wide operands first, constants last: the kernel knows only those combinations
    for _ in range(2):
        if (buffers.wide[b] and not buffers.wide[a]) or (a == ONE and b != ONE):
            a, b = b, a
        if (buffers.wide[c] and not buffers.wide[b]) or (b == ONE and c != ONE):
            b, c = c, b
    wide = buffers.wide[out]
    lane = width if wide else 1
    x_lane = lane if buffers.wide[a] else 1
    y_lane = lane if buffers.wide[b] else 1
    z_lane = lane if buffers.wide[c] else 1
    half = work.shape[0] // 2
    rank = _merge(_scope(buffers, a), _scope(buffers, b), position, work[:half])
    union = work[:rank].copy()
    rank = _merge(union, _scope(buffers, c), position, work[half:])
    union = work[half : half + rank].copy()
    rank = _merge(union, _scope(buffers, out), position, work[:half])
    union = work[:rank]
    depth, cost = 0, 1.0
    for summed in range(2):
        for k in range(rank):
            v = union[k]
            into = _stride(v, _scope(buffers, out), card) * lane
            if width > 1 and (into == 0) != (summed == 1):
                continue
            if width == 1 and summed == 1:
                continue
            strides = (
                into,
                _stride(v, _scope(buffers, a), card) * x_lane,
                _stride(v, _scope(buffers, b), card) * y_lane,
                _stride(v, _scope(buffers, c), card) * z_lane,
            )
            depth = _add_loop(code, at, depth, card[v], strides)
            cost *= card[v]
    if depth == 0:
        body = at + HEADER
        code[body] = 1
        code[body + 1 : body + LOOP] = 0
        depth = 1
    num_wide = int(buffers.wide[a]) + int(buffers.wide[b]) + int(buffers.wide[c])
    end = at + HEADER + LOOP * depth
    code[at], code[at + 1] = end, steps.kind[op]
    code[at + 2], code[at + 3] = buffers.start[out], buffers.size[out]
    code[at + 4], code[at + 5], code[at + 6] = buffers.start[a], buffers.start[b], buffers.start[c]
    code[at + 7] = num_wide
    code[at + 8] = 2 if c == ONE else 3
    code[at + 9] = depth
    code[at + 10] = int(steps.kind[op] == MESSAGE and maximize)
    code[at + 11] = out
    return end, cost


@njit(cache=True, nogil=True)
def _encode_load(
    structure: Structure, f: int, b: int, buffers: Buffers, card: Ints, width: int, code: Ints, at: int
) -> int:
    """Write the copy of factor ``f`` into buffer ``b`` (-1: it is wholly observed)."""
    scope = structure.scope_var[structure.scope_ptr[f] : structure.scope_ptr[f + 1]]
    k = at + 7
    given = 0
    for i in range(scope.shape[0]):
        if not structure.free[scope[i]]:
            code[k], code[k + 1] = scope[i], _stride(scope[i], scope, card)
            k += 2
            given += 1
    loops = 0
    if b >= 0:
        for v in _scope(buffers, b):
            code[k], code[k + 1] = card[v], _stride(v, scope, card)
            k += 2
            loops += 1
    code[at], code[at + 1] = k, f
    code[at + 2] = buffers.start[b] if b >= 0 else 0
    code[at + 3] = width if b >= 0 and buffers.wide[b] else 1
    code[at + 4], code[at + 5] = given, loops
    code[at + 6] = buffers.size[b] if b >= 0 else 1
    return k


@njit(cache=True, nogil=True)
def _encode_steps(
    structure: Structure, order: Ints, position: Ints, buffers: Buffers, steps: Steps, num_up: int,
    width: int, rank: int,
) -> tuple[Ints, Ints, Ints, Floats]:  # fmt: skip
    """Encode the instructions, each in its group; also return their multiply-adds."""
    each = HEADER + LOOP * (rank + 1)
    count = steps.count[0]
    work = np.empty(2 * position.shape[0] + 2, np.int64)
    static = np.empty(num_up * each, np.int64)
    up = np.empty(num_up * each, np.int64)
    down = np.empty((count - num_up) * each, np.int64)
    at_static, at_up, at_down = 0, 0, 0
    total = np.zeros(2)
    for op in range(count):
        most = structure.maximize[order[steps.bucket[op]]]
        if op >= num_up:
            at_down, cost = _encode(
                steps, op, buffers, structure.card, position, width, most, down, at_down, work
            )
            total[1] += cost
        elif buffers.wide[steps.out[op]]:
            at_up, cost = _encode(
                steps, op, buffers, structure.card, position, width, most, up, at_up, work
            )
            total[1] += cost
        else:
            at_static, cost = _encode(
                steps, op, buffers, structure.card, position, width, most, static, at_static, work
            )
            total[0] += cost
    return static[:at_static].copy(), up[:at_up].copy(), down[:at_down].copy(), total


@njit(cache=True, nogil=True)
def _encode_loads(
    structure: Structure, buffers: Buffers, factor_buf: Ints, width: int
) -> tuple[Ints, Ints, Ints, Ints]:
    """Encode loads that are the same for all rows, those that aren't, constants, read-outs."""
    card = structure.card
    room = 7 * structure.used.shape[0] + 2 * structure.scope_var.shape[0]
    static, load = np.empty(room, np.int64), np.empty(room, np.int64)
    constant, belief = np.empty(room, np.int64), np.empty(room, np.int64)
    at_static, at_load, at_constant, at_belief = 0, 0, 0, 0
    for f in range(structure.used.shape[0]):
        if not structure.used[f]:
            continue
        b = factor_buf[f]
        if b < 0:
            at_constant = _encode_load(structure, f, b, buffers, card, width, constant, at_constant)
        elif buffers.wide[b]:
            at_load = _encode_load(structure, f, b, buffers, card, width, load, at_load)
        else:
            at_static = _encode_load(structure, f, b, buffers, card, width, static, at_static)
        if structure.belief[f]:
            start = at_belief
            at_belief = _encode_load(structure, f, b, buffers, card, width, belief, start)
            belief[start + 6] = buffers.start[buffers.adjoint[b]] if b >= 0 else 0
    return (
        static[:at_static].copy(),
        load[:at_load].copy(),
        constant[:at_constant].copy(),
        belief[:at_belief].copy(),
    )


@njit(cache=True, nogil=True)
def _decoder(buckets: Buckets, buffers: Buffers) -> Decoder:
    """Collect what decoding needs."""
    count = buckets.ptr[buckets.order.shape[0]]
    start, wide = np.empty(count, np.int64), np.empty(count, np.bool_)
    ptr = np.zeros(count + 1, np.int64)
    for i in range(count):
        b = buckets.buf[i]
        start[i], wide[i] = buffers.start[b], buffers.wide[b]
        ptr[i + 1] = ptr[i] + buffers.ptr[b + 1] - buffers.ptr[b]
    scope = np.empty(ptr[count], np.int64)
    for i in range(count):
        scope[ptr[i] : ptr[i + 1]] = _scope(buffers, buckets.buf[i])
    return Decoder(buckets.order, buckets.ptr, start, wide, ptr, scope)


@njit(cache=True, nogil=True)
def _rows_of(buf_of: Ints, key: Ints, buffers: Buffers, card: Ints) -> Ints:
    """``(n, 3)`` variable, address and states of the buffers in ``buf_of`` that exist."""
    out = np.empty((buf_of.shape[0], 3), np.int64)
    n = 0
    for i in range(buf_of.shape[0]):
        if buf_of[i] >= 0:
            out[n, 0], out[n, 1], out[n, 2] = key[i], buffers.start[buf_of[i]], card[key[i]]
            n += 1
    return out[:n].copy()


@njit(cache=True, nogil=True)
def assemble(
    structure: Structure, order: Ints, rank: int, width: int
) -> tuple[Program, Decoder]:
    """Turn an elimination order into a program.

    Args:
        structure: What to eliminate, and what is wanted.
        order: ``(N,)`` the free variables in elimination order.
        rank: Variables of the largest clique.
        width: Rows in a tile.

    Returns:
        The program, and what is needed to decode after its upward pass.

    Cost:
        O(number of instructions times rank): tens of microseconds for small networks.
    """
    num_vars, num_factors, num_free = structure.card.shape[0], structure.used.shape[0], order.shape[0]
    position = np.full(num_vars, -1, np.int64)
    for k in range(num_free):
        position[order[k]] = k
    most = 6 * (num_factors + 2 * num_free) + num_free + 2
    buffers = Buffers(
        np.zeros(1, np.int64), np.zeros(most + 1, np.int64), np.empty(most * rank + 1, np.int64),
        np.zeros(most, np.int64), np.zeros(most, np.bool_), np.zeros(most, np.bool_),
        np.full(most, -1, np.int64), np.zeros(most, np.int64),
    )  # fmt: skip
    steps = Steps(
        np.zeros(1, np.int64), np.empty(most, np.int64), np.empty(most, np.int64),
        np.empty(most, np.int64), np.empty(most, np.int64), np.empty(most, np.int64),
        np.empty(most, np.int64),
    )  # fmt: skip
    inputs = num_factors + 2 * num_free + 1
    buckets = Buckets(order, np.zeros(num_free + 1, np.int64), np.empty(inputs, np.int64))
    first = np.full(num_free, -1, np.int64)
    following = np.full(most, -1, np.int64)
    factor_buf = np.full(num_factors, -1, np.int64)
    unary_buf = np.full(num_free, -1, np.int64)
    marginal_buf = np.full(num_vars, -1, np.int64)
    source = np.full(num_vars, -1, np.int64)
    _add_buffer(buffers, order[:0], structure.card, False, False)  # the constant one
    _place_inputs(structure, order, position, buffers, factor_buf, unary_buf, first, following)
    _upward(structure, order, position, buffers, steps, first, following, buckets, source)
    num_up = steps.count[0]
    _downward(structure, order, buffers, steps, source, marginal_buf)
    static_size, size = _addresses(buffers, width)
    static, up, down, work = _encode_steps(
        structure, order, position, buffers, steps, num_up, width, rank
    )
    static_load, load, constant, belief = _encode_loads(structure, buffers, factor_buf, width)
    roots = np.empty((num_free, 2), np.int64)
    num_roots = 0
    for op in range(num_up):
        out = steps.out[op]
        if steps.kind[op] == MESSAGE and buffers.ptr[out] == buffers.ptr[out + 1]:
            roots[num_roots, 0] = buffers.start[out]
            roots[num_roots, 1] = width if buffers.wide[out] else 1
            num_roots += 1
    program = Program(
        static, up, down, static_load, load, constant,
        _rows_of(unary_buf, order, buffers, structure.card),
        _rows_of(marginal_buf, np.arange(num_vars), buffers, structure.card),
        roots[:num_roots].copy(), belief,
        np.array([size, static_size, rank + 1]),
        work,
    )  # fmt: skip
    return program, _decoder(buckets, buffers)
