"""Encode steps as numbers that the executor walks through."""

from __future__ import annotations

from typing import Any

import numpy as np

from pgnn.inference.exact.kernels.elimination import merge
from pgnn.inference.exact.kernels.program import (
    HEADER,
    LOOP,
    MESSAGE,
    ONE,
    OPEN,
    ROOT,
    SHORT,
    Buckets,
    Buffers,
    Steps,
    Structure,
    scope_of,
)
from pgnn.inference.kernels.compiled import Bools, Floats, Ints, inner


@inner
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


@inner
def _run_along(code: Ints, at: int, depth: int) -> bool:
    """Make the longest loop over consecutive numbers the innermost one, if it is long enough.

    Then the operands that advance with it come first, the ones that stand still last. For single
    rows; the loop is run eight numbers at a time.
    """
    best, longest = -1, SHORT - 1
    for d in range(depth):
        k = at + HEADER + LOOP * d
        unit = True
        for i in range(1, LOOP):
            unit = unit and 0 <= code[k + i] <= 1
        # adding eight partial sums costs, too
        if unit and code[k] >= (SHORT if code[k + 1] == 1 else 2 * SHORT) and code[k] > longest:
            best, longest = d, code[k]
    if best < 0:
        return False
    for d in range(best, depth - 1):
        for i in range(LOOP):
            k = at + HEADER + LOOP * d + i
            code[k], code[k + LOOP] = code[k + LOOP], code[k]
    inner = at + HEADER + LOOP * (depth - 1)
    for i, j in ((0, 1), (1, 2), (0, 1)):
        if code[inner + 2 + i] < code[inner + 2 + j]:
            code[at + 4 + i], code[at + 4 + j] = code[at + 4 + j], code[at + 4 + i]
            for d in range(depth):
                k = at + HEADER + LOOP * d + 2
                code[k + i], code[k + j] = code[k + j], code[k + i]
    code[at + 7] = code[inner + 2] + code[inner + 3] + code[inner + 4]
    return True


@inner
def _spread(buffers: Buffers, b: int, lane: int, card: Ints, strides: Ints) -> None:
    """Write a buffer's strides, in numbers, at the places of its variables."""
    stride = lane
    for i in range(buffers.ptr[b + 1] - 1, buffers.ptr[b] - 1, -1):
        strides[buffers.var[i]] = stride
        stride *= card[buffers.var[i]]


@inner
def _encode(
    steps: Steps, op: int, buffers: Buffers, card: Ints, position: Ints, width: int, maximize: bool,
    goes_on: bool, code: Ints, at: int, work: Ints,
) -> tuple[int, float]:  # fmt: skip
    """Write one instruction at ``code[at:]``; return where the next one goes, and its cost.

    In tiles of rows the summed axes come innermost, so that sums stay in registers; for single
    rows the axes keep their order, so that the inner loop runs over consecutive numbers. ``work``
    is ``(6, V)``: four rows of zeros for strides, two for scopes.
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
    rank = merge(scope_of(buffers, a), scope_of(buffers, b), position, work[4])
    rank = merge(work[4, :rank], scope_of(buffers, c), position, work[5])
    rank = merge(work[5, :rank], scope_of(buffers, out), position, work[4])
    _spread(buffers, out, lane, card, work[0])
    _spread(buffers, a, x_lane, card, work[1])
    _spread(buffers, b, y_lane, card, work[2])
    _spread(buffers, c, z_lane, card, work[3])
    depth, cost = 0, 1.0
    for summed in range(2 if width > 1 else 1):
        for k in range(rank):
            v = work[4, k]
            if width == 1 or (work[0, v] == 0) == (summed == 1):
                strides = (work[0, v], work[1, v], work[2, v], work[3, v])
                depth = _add_loop(code, at, depth, card[v], strides)
                cost *= card[v]
    for k in range(rank):
        for i in range(4):
            work[i, work[4, k]] = 0
    if depth == 0:
        body = at + HEADER
        code[body] = 1
        code[body + 1 : body + LOOP] = 0
        depth = 1
    num_wide = int(buffers.wide[a]) + int(buffers.wide[b]) + int(buffers.wide[c])
    end = at + HEADER + LOOP * depth
    ends = steps.kind[op] == MESSAGE and buffers.ptr[out] == buffers.ptr[out + 1]
    code[at], code[at + 1] = end, ROOT if ends else (OPEN if goes_on else steps.kind[op])
    code[at + 2], code[at + 3] = buffers.start[out], buffers.size[out]
    code[at + 4], code[at + 5], code[at + 6] = buffers.start[a], buffers.start[b], buffers.start[c]
    code[at + 7] = num_wide
    code[at + 8] = 2 if c == ONE else 3
    code[at + 9] = depth
    code[at + 10] = int(steps.kind[op] == MESSAGE and maximize)
    code[at + 11] = int(width == 1 and _run_along(code, at, depth))
    return end, cost


@inner
def _going_on(buffers: Buffers, steps: Steps, num_up: int) -> Bools:
    """Which upward steps are in components whose last message differs by row.

    The steps of a component follow each other, its last message at the end.
    """
    found = np.zeros(num_up, np.bool_)
    wide = False
    for op in range(num_up - 1, -1, -1):
        out = steps.out[op]
        if steps.kind[op] == MESSAGE and buffers.ptr[out] == buffers.ptr[out + 1]:
            wide = buffers.wide[out]
        found[op] = wide
    return found


@inner
def encode_steps(
    structure: Structure, order: Ints, position: Ints, buffers: Buffers, steps: Steps, num_up: int,
    width: int, rank: int,
) -> tuple[Ints, Ints, Ints, Floats]:  # fmt: skip
    """Encode the instructions, each in its group; also return their multiply-adds."""
    each = HEADER + LOOP * (rank + 1)
    count = steps.count[0]
    work = np.zeros((6, position.shape[0] + 1), np.int64)
    static = np.empty(num_up * each, np.int64)
    up = np.empty(num_up * each, np.int64)
    down = np.empty((count - num_up) * each, np.int64)
    at_static, at_up, at_down = np.int64(0), np.int64(0), np.int64(0)
    total = np.zeros(2)
    goes_on = _going_on(buffers, steps, num_up)
    for op in range(count):
        most = structure.maximize[order[steps.bucket[op]]]
        if op >= num_up:
            at_down, cost = _encode(
                steps,
                op,
                buffers,
                structure.card,
                position,
                width,
                most,
                False,
                down,
                at_down,
                work,
            )
            total[1] += cost
        elif buffers.wide[steps.out[op]]:
            at_up, cost = _encode(
                steps,
                op,
                buffers,
                structure.card,
                position,
                width,
                most,
                False,
                up,
                at_up,
                work,
            )
            total[1] += cost
        else:
            at_static, cost = _encode(
                steps,
                op,
                buffers,
                structure.card,
                position,
                width,
                most,
                goes_on[op],
                static,
                at_static,
                work,
            )
            total[0] += cost
    return static[:at_static].copy(), up[:at_up].copy(), down[:at_down].copy(), total


@inner
def make_decoder(buckets: Buckets, buffers: Buffers) -> tuple[Any, ...]:
    """The fields of the :class:`Decoder`."""
    count = buckets.ptr[buckets.order.shape[0]]
    start, wide = np.empty(count, np.int64), np.empty(count, np.bool_)
    ptr = np.zeros(count + 1, np.int64)
    for i in range(count):
        b = buckets.buf[i]
        start[i], wide[i] = buffers.start[b], buffers.wide[b]
        ptr[i + 1] = ptr[i] + buffers.ptr[b + 1] - buffers.ptr[b]
    scope = np.empty(ptr[count], np.int64)
    for i in range(count):
        scope[ptr[i] : ptr[i + 1]] = scope_of(buffers, buckets.buf[i])
    return buckets.order, buckets.ptr, start, wide, ptr, scope


@inner
def rows_of(buf_of: Ints, key: Ints, buffers: Buffers, card: Ints) -> Ints:
    """``(n, 3)`` variable, address and states of the buffers in ``buf_of`` that exist."""
    out = np.empty((buf_of.shape[0], 3), np.int64)
    n = 0
    for i in range(buf_of.shape[0]):
        if buf_of[i] >= 0:
            out[n, 0], out[n, 1], out[n, 2] = key[i], buffers.start[buf_of[i]], card[key[i]]
            n += 1
    return out[:n].copy()
