"""Forward and backward messages of many rows at once; vectors run over the rows of a tile.

Messages of a step have the layout ``(K, WIDTH)``. The rows of a tile are sorted by descending
length, so that the rows that have not ended are always the first ones.
"""

from __future__ import annotations

import math

from pgnn.inference.chains.kernels.arrays import harmless, share_of
from pgnn.inference.chains.kernels.row_messages import FILTER, SMOOTH
from pgnn.inference.chains.kernels.tile_steps import (
    INVERSE,
    LOSSES,
    TOP,
    TOTAL,
    audit,
    emit,
    find_top,
    meet,
    multiply,
    scale,
)
from pgnn.inference.chains.kernels.transposes import (
    bring_1,
    bring_2,
    bring_4,
    write_1,
    write_2,
    write_4,
)
from pgnn.inference.chains.kernels.vector_registers import (
    WIDTH,
    tile_outer_1,
    tile_outer_4,
    tile_sum_1,
    tile_sum_4,
)
from pgnn.inference.kernels.compiled import inner_numeric, numeric

_STEPS = 8  # number of steps whose pairs are counted together


@inner_numeric
def count_rows(tiles, tile):
    """Number of rows of a tile, which may be fewer than ``WIDTH``."""
    num = 0
    while num < WIDTH and tiles[tile, num] >= 0:
        num += 1
    return num


@inner_numeric
def locate(field, rows, offsets):
    """Fill ``(WIDTH,)`` int64 offsets of the rows of a tile; padding lanes repeat the first row."""
    size = field.shape[1] * field.shape[2]
    for w in range(WIDTH):
        offsets[w] = rows[w if w < len(rows) else 0] * size


@inner_numeric
def load(field, offsets, num, t, out, to, lanes):
    """Load the fields of a step into a tile, minus the largest of each row, stored in ``lanes``."""
    K = field.shape[2]
    real = field.dtype.type
    bring(field, offsets, t * K, out, to)
    if num < WIDTH:
        for k in range(K):
            for w in range(num, WIDTH):
                out[to + k * WIDTH + w] = real(-math.inf)
    find_top(out, out, lanes, to, to, K)


@inner_numeric
def bring(field, offsets, at, out, to):
    """Load a step of all rows into a tile."""
    K = field.shape[2]
    k = 0
    while k + 4 <= K:
        bring_4(field, out, offsets, at + k, to + k * WIDTH)
        k += 4
    if k + 2 <= K:
        bring_2(field, out, offsets, at + k, to + k * WIDTH)
        k += 2
    if k < K:
        bring_1(field, out, offsets, at + k, to + k * WIDTH)


@inner_numeric
def _multiply(matrix, s, x, at, out, to):
    """Multiply messages by a matrix."""
    K, P = matrix.shape[2], matrix.shape[3]
    first = s * K * P
    for j in range(0, K - 3, 4):
        tile_sum_4(matrix, x, out, first + j, P, at, to + j * WIDTH, K)
    for j in range(K - K % 4, K):
        tile_sum_1(matrix, x, out, first + j, P, at, to + j * WIDTH, K)


@inner_numeric
def _forward(
    potentials, sums, mode, dense, rows, offsets, emission, alpha, ahead, lanes, logs, stop
):
    """Fill ``alpha`` with forward messages, each computed from the normalised one before it."""
    K = potentials.log_field.shape[2]
    real, limit = potentials.log_field.dtype.type, harmless(potentials.log_field.itemsize)
    size, num, steps = K * WIDTH, len(rows), potentials.lengths[rows[0]]
    for w in range(WIDTH):
        lanes[INVERSE + w] = real(1.0)
        logs[w], logs[WIDTH + w], logs[2 * WIDTH + w] = 0.0, 1.0, 1.0
    for w in range(len(rows)):
        logs[w] = potentials.initial_scale[share_of(potentials.initial.shape[0], rows[w])]
    for t in range(steps):
        if stop[0]:
            return
        to, shift = t * size, 0.0
        while potentials.lengths[rows[num - 1]] <= t:
            num -= 1
        load(potentials.log_field, offsets, num, t, emission, to, lanes)
        if t == 0:
            for k in range(K):
                for w in range(WIDTH):
                    alpha[k * WIDTH + w] = real(0.0)
                for w in range(num):
                    start = share_of(potentials.initial.shape[0], rows[w])
                    alpha[k * WIDTH + w] = potentials.initial[start, k]
        else:
            s = share_of(potentials.transition.shape[1], t - 1)
            _multiply(potentials.transition, s, alpha, to - size, alpha, to)
            shift = potentials.transition_scale[0, s]
        emit(alpha, emission, lanes, to, to, K)
        if mode != SMOOTH and not dense:
            _audit(potentials, t, emission, to, ahead, lanes)
            for w in range(num):
                if not lanes[LOSSES + w] < limit:
                    logs[2 * WIDTH + w] = 0.0
        if mode == FILTER:
            for w in range(num):
                step = math.log(lanes[w]) if lanes[w] > 0.0 else -math.inf
                first = potentials.initial_scale[share_of(potentials.initial.shape[0], rows[w])]
                sums.increments[rows[w], t] = step + lanes[TOP + w] + (first if t == 0 else shift)
            unload(alpha, to, lanes, offsets, num, t, sums.states)
        note(logs, lanes, num, shift)
    for w in range(len(rows)):
        product = logs[WIDTH + w]
        sums.log_z[rows[w]] = logs[w] + math.log(product) if product > 0.0 else -math.inf
        sums.trust[rows[w]] = logs[2 * WIDTH + w]


@inner_numeric
def _audit(potentials, t, emission, at, ahead, lanes):
    """Bound the loss of the message to underflow, at this step and before."""
    K = potentials.log_field.shape[2]
    size = K * WIDTH
    before, to = ((t - 1) % 2) * size, (t % 2) * size
    if t == 0:
        for k in range(size):
            ahead[k] = 0.0
    else:
        s = share_of(potentials.transition.shape[1], t - 1)
        _multiply(potentials.transition, s, ahead, before, ahead, to)
    audit(ahead, emission, lanes, to, at, K)


@inner_numeric
def note(logs, lanes, num, shift):
    """Multiply totals into ``logs``; take logs when the product becomes small or large."""
    far = False
    for w in range(num):
        total = float(lanes[TOTAL + w])
        logs[w] += float(lanes[TOP + w]) + shift
        logs[WIDTH + w] *= total
        logs[2 * WIDTH + w] = min(logs[2 * WIDTH + w], total)
        far |= logs[WIDTH + w] < 1e-50 or logs[WIDTH + w] > 1e50
    if far:
        for w in range(num):
            if logs[WIDTH + w] > 0.0:
                logs[w] += math.log(logs[WIDTH + w])
                logs[WIDTH + w] = 1.0


@inner_numeric
def unload(values, at, lanes, offsets, num, t, out):
    """Store a step of a tile, multiplied by ``INVERSE``."""
    K = out.shape[2]
    block, w = 64 // out.itemsize, 0
    while w + block <= num:
        k = 0
        while k + 4 <= K:
            write_4(values, out, offsets, lanes, at + k * WIDTH, INVERSE, t * K + k, w)
            k += 4
        if k + 2 <= K:
            write_2(values, out, offsets, lanes, at + k * WIDTH, INVERSE, t * K + k, w)
            k += 2
        if k < K:
            write_1(values, out, offsets, lanes, at + k * WIDTH, INVERSE, t * K + k, w)
        w += block
    while w < num:
        place = offsets[w] // K + t
        for k in range(K):
            value = values[at + k * WIDTH + w] * lanes[INVERSE + w]
            out[place // out.shape[1], place % out.shape[1], k] = value
        w += 1


@inner_numeric
def _backward(potentials, sums, weights, rows, offsets, emission, alpha, ahead, lanes, logs, stop):
    """Multiply forward by backward messages, and add to marginals and sums of pairs."""
    K = potentials.log_field.shape[2]
    real = potentials.log_field.dtype.type
    size, num, waiting, steps = K * WIDTH, 0, 0, potentials.lengths[rows[0]]
    together = 1 if sums.pairs.shape[1] > 1 else _STEPS
    for k in range(size):
        ahead[k] = real(0.0)
    for w in range(WIDTH):
        logs[2 * WIDTH + w] = 1.0
    for t in range(steps - 1, -1, -1):
        if stop[0]:
            return
        at = t * size
        while num < len(rows) and potentials.lengths[rows[num]] > t:
            for k in range(K):
                ahead[k * WIDTH + num] = real(1.0)
            num += 1
        meet(alpha, ahead, lanes, at, 0, K)
        for w in range(num):
            logs[2 * WIDTH + w] = min(logs[2 * WIDTH + w], float(lanes[TOTAL + w]))
        unload(ahead, size, lanes, offsets, num, t, sums.states)
        if sums.pairs.shape[2] and t + 1 < steps:
            for w in range(num):
                lanes[INVERSE + w] *= real(weights[rows[w]])
            scale(alpha, alpha, lanes, at, at, K)
            waiting += 1
            if waiting == together or t == 0:
                s = share_of(sums.pairs.shape[1], t)
                _count(sums.pairs, s, alpha, at, emission, at + size, waiting)
                waiting = 0
        if t > 0:
            multiply(emission, ahead, lanes, at, 0, K)
            s = share_of(potentials.turned.shape[1], t - 1)
            _multiply(potentials.turned, s, emission, at, ahead, 0)
    for w in range(len(rows)):
        sums.trust[rows[w]] = logs[2 * WIDTH + w]


@inner_numeric
def _count(pairs, s, left, left_at, right, right_at, num):
    """Add outer products of forward messages and of backward messages at the next step."""
    K, P = pairs.shape[2], pairs.shape[3]
    first, back = s * K * P, K * WIDTH
    whole = K - K % 4
    for i in range(0, whole, 4):
        for j in range(0, whole, 4):
            tile_outer_4(left, right, pairs, left_at + i * WIDTH, right_at + j * WIDTH, back,
                         first + i * P + j, P, num)  # fmt: skip
    for i in range(K):
        for j in range(whole if i < whole else 0, K):
            tile_outer_1(left, right, pairs, left_at + i * WIDTH, right_at + j * WIDTH, back,
                         first + i * P + j, P, num)  # fmt: skip


@numeric
def sum_tiles(
    potentials,
    sums,
    mode,
    dense,
    tiles,
    weights,
    emission,
    alpha,
    ahead,
    lanes,
    logs,
    offsets,
    stop,
):
    """Sum over all paths of rows that share their transitions.

    Args:
        mode: FORWARD, FILTER or SMOOTH.
        dense: Whether underflow is harmless because every transition is possible. Otherwise, and if
            mode is not SMOOTH, the loss is bounded.
        tiles: ``(n, WIDTH)`` rows in descending order of their lengths, padded with -1; the first
            row of a tile exists and is not empty.
        weights: ``(B,)`` weights of the rows in ``sums.pairs``, whose first axis has size one.
        emission: Scratch array of ``T * K * WIDTH`` potentials.
        alpha: Scratch array of ``T * K * WIDTH``.
        ahead: Scratch array of ``2 * K * WIDTH``.
        lanes: Scratch array of ``LANES``.
        logs: Scratch array of ``LANES`` float64.
        offsets: Scratch array of ``WIDTH`` int64.
        stop: Checked at every step.
    """
    for tile in range(tiles.shape[0]):
        rows = tiles[tile, : count_rows(tiles, tile)]
        locate(potentials.log_field, rows, offsets)
        _forward(
            potentials, sums, mode, dense, rows, offsets, emission, alpha, ahead, lanes, logs, stop
        )
        if mode == SMOOTH:
            _backward(
                potentials, sums, weights, rows, offsets, emission, alpha, ahead, lanes, logs, stop
            )
