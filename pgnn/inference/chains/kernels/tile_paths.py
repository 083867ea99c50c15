"""Best paths of many rows at once; vectors run over the rows of a tile."""

from __future__ import annotations

import math

from pgnn.inference.chains.kernels.arrays import share_of
from pgnn.inference.chains.kernels.back_pointers import follow, tile_max_origin_1, tile_max_origin_4
from pgnn.inference.chains.kernels.tile_messages import count_rows, load, locate
from pgnn.inference.chains.kernels.tile_steps import lower, observe
from pgnn.inference.chains.kernels.vector_registers import WIDTH, tile_max_1, tile_max_4
from pgnn.inference.kernels.compiled import inner_numeric, numeric

MAX_STATES_WITH_ORIGINS = 32
"""Largest number of states for which back pointers are stored; beyond, they are recomputed."""


@inner_numeric
def _reach(matrix, s, x, at, out, to, origins, origin_at):
    """Max-plus product of messages and a matrix, with back pointers."""
    K, P = matrix.shape[2], matrix.shape[3]
    first = s * K * P
    if len(origins):
        for j in range(0, K - 3, 4):
            origin = origin_at + j * WIDTH
            tile_max_origin_4(matrix, x, out, origins, first + j, P, at, to + j * WIDTH, origin, K)
        for j in range(K - K % 4, K):
            origin = origin_at + j * WIDTH
            tile_max_origin_1(matrix, x, out, origins, first + j, P, at, to + j * WIDTH, origin, K)
    else:
        for j in range(0, K - 3, 4):
            tile_max_4(matrix, x, out, first + j, P, at, to + j * WIDTH, K)
        for j in range(K - K % 4, K):
            tile_max_1(matrix, x, out, first + j, P, at, to + j * WIDTH, K)


@inner_numeric
def _forward(potentials, rows, offsets, reach, origins, fields, lanes, best, stop):
    """Fill ``reach`` with max-product messages, up to a constant per step.

    ``best`` becomes the last state of the best path of each row. Returns whether there is one.
    """
    K = potentials.log_field.shape[2]
    real = potentials.log_field.dtype.type
    size, num = K * WIDTH, len(rows)
    for t in range(potentials.lengths[rows[0]]):
        if stop[0]:
            return False
        to = _room(origins, t) * size
        load(potentials.log_field, offsets, num, t, fields, 0, lanes)
        if t == 0:
            for k in range(size):
                reach[k] = real(-math.inf)
            for w in range(num):
                start = share_of(potentials.initial.shape[0], rows[w])
                for k in range(K):
                    reach[k * WIDTH + w] = potentials.initial[start, k]
        else:
            s = share_of(potentials.transition.shape[1], t - 1)
            before = _room(origins, t - 1) * size
            _reach(potentials.transition, s, reach, before, reach, to, origins, t * size)
        observe(reach, fields, lanes, to, 0, K)
        if t % 16 == 15:  # rescale to preserve precision
            lower(reach, reach, lanes, to, to, K)
        while num and potentials.lengths[rows[num - 1]] == t + 1:
            num -= 1
            best[num] = 0
            for k in range(1, K):
                if reach[to + k * WIDTH + num] > reach[to + best[num] * WIDTH + num]:
                    best[num] = k
    return True


@inner_numeric
def _room(origins, t):
    """Offset of a step in ``reach``, which holds two steps if back pointers are stored."""
    return t % 2 if len(origins) else t


@inner_numeric
def _walk_back(potentials, rows, reach, path, best):
    """Trace the best paths back; ties go to the smallest state."""
    K = potentials.turned.shape[2]
    num = 0
    for t in range(potentials.lengths[rows[0]] - 1, -1, -1):
        at = t * K * WIDTH
        s = share_of(potentials.turned.shape[1], t)
        for w in range(num):
            after, result = best[w], 0
            top = reach[at + w] + potentials.turned[0, s, after, 0]
            for k in range(1, K):
                value = reach[at + k * WIDTH + w] + potentials.turned[0, s, after, k]
                result = k if value > top else result
                top = value if value > top else top
            best[w] = result
        while num < len(rows) and potentials.lengths[rows[num]] > t:
            num += 1
        for w in range(num):
            path[t * WIDTH + w] = best[w]


@inner_numeric
def _follow_back(potentials, rows, origins, path, best):
    """Follow the stored back pointers."""
    K, num = potentials.turned.shape[2], 0
    steps = potentials.lengths[rows[0]]
    for t in range(steps - 1, -1, -1):
        if t + 1 < steps:
            follow(origins, path, (t + 1) * K * WIDTH, (t + 1) * WIDTH, t * WIDTH, K)
        while num < len(rows) and potentials.lengths[rows[num]] == t + 1:
            path[t * WIDTH + num] = best[num]
            num += 1


@inner_numeric
def _write(potentials, b, w, path, states):
    """Write the path of a row; return its log weight."""
    shared = potentials.transition.shape[1]
    k = int(path[w])
    total = potentials.initial[share_of(potentials.initial.shape[0], b), k] + 0.0
    observed = potentials.log_field[b, 0, k] + 0.0
    states[b, 0] = k
    for t in range(1, potentials.lengths[b]):
        before = k
        k = int(path[t * WIDTH + w])
        states[b, t] = k
        observed += potentials.log_field[b, t, k]
        total += potentials.transition[0, share_of(shared, t - 1), before, k]
    return total + observed


@numeric
def best_tiles(
    potentials, tiles, states, scores, reach, origins, path, fields, lanes, best, offsets, stop
):
    """Find the best path of rows that share their transitions, see ``best_rows``.

    Args:
        potentials: Log potentials.
        tiles: See ``sum_tiles``.
        states: ``(B, T)`` output; -1 in rows without a path.
        scores: ``(B,)`` float64 output.
        reach: Scratch array of ``T * K * WIDTH`` numbers, or two steps if origins are stored.
        origins: Scratch array of ``T * K * WIDTH`` bytes, or empty.
        path: Scratch array of ``T * WIDTH`` bytes.
        fields: Scratch array of ``K * WIDTH``.
        lanes: Scratch array of ``LANES``.
        best: Scratch array of ``WIDTH`` int64.
        offsets: Scratch array of ``WIDTH`` int64.
        stop: Checked at every step.
    """
    for tile in range(tiles.shape[0]):
        rows = tiles[tile, : count_rows(tiles, tile)]
        locate(potentials.log_field, rows, offsets)
        if not _forward(potentials, rows, offsets, reach, origins, fields, lanes, best, stop):
            return
        if len(origins):
            _follow_back(potentials, rows, origins, path, best)
        else:
            _walk_back(potentials, rows, reach, path, best)
        for w in range(len(rows)):
            b = rows[w]
            scores[b] = _write(potentials, b, w, path, states)
            if scores[b] == -math.inf:
                for t in range(potentials.lengths[b]):
                    states[b, t] = -1
