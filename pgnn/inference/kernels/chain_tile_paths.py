"""Best paths of many rows at once; vectors run over the rows of a tile."""

from __future__ import annotations

import math

from pgnn.inference.kernels.chain_numbers import share_of
from pgnn.inference.kernels.chain_paths import score_of
from pgnn.inference.kernels.chain_tiles import TOP, load
from pgnn.inference.kernels.chain_vectors import WIDTH, tile_max_1, tile_max_4
from pgnn.inference.kernels.propagation_algebra import inner_numeric, numeric


@inner_numeric
def _reach(matrix, s, x, at, out, to):
    """Largest sums of a message and a column of a matrix."""
    K, P = matrix.shape[2], matrix.shape[3]
    first = s * K * P
    for j in range(0, K - 3, 4):
        tile_max_4(matrix, x, out, first + j, P, at, to + j * WIDTH, K)
    for j in range(K - K % 4, K):
        tile_max_1(matrix, x, out, first + j, P, at, to + j * WIDTH, K)


@inner_numeric
def _forward(numbers, rows, steps, reach, fields, lanes):
    """Fill ``reach`` with the logs of the best ways to each state, less some constant a step."""
    K = numbers.log_field.shape[2]
    real = numbers.log_field.dtype.type
    size, num = K * WIDTH, len(rows)
    for t in range(steps):
        to = t * size
        while numbers.lengths[rows[num - 1]] <= t:
            num -= 1
        load(numbers.log_field, rows, num, t, fields, 0, lanes)
        if t == 0:
            for k in range(size):
                reach[k] = real(-math.inf)
            for w in range(num):
                start = share_of(numbers.initial.shape[0], rows[w])
                for k in range(K):
                    reach[k * WIDTH + w] = numbers.initial[start, k]
        else:
            s = share_of(numbers.transition.shape[1], t - 1)
            _reach(numbers.transition, s, reach, to - size, reach, to)
        for k in range(0, size, WIDTH):
            for w in range(WIDTH):
                reach[to + k + w] += fields[k + w] - lanes[TOP + w]
        if t % 16 == 15:
            _lower(reach, to, size, lanes)


@inner_numeric
def _lower(reach, to, size, lanes):
    """Subtract the largest number of each row, so that digits are kept."""
    real = reach.dtype.type
    for w in range(WIDTH):
        lanes[w] = reach[to + w]
    for k in range(WIDTH, size, WIDTH):
        for w in range(WIDTH):
            lanes[w] = max(lanes[w], reach[to + k + w])
    for w in range(WIDTH):
        if lanes[w] == -math.inf:
            lanes[w] = real(0.0)
    for k in range(0, size, WIDTH):
        for w in range(WIDTH):
            reach[to + k + w] -= lanes[w]


@inner_numeric
def _walk_back(numbers, rows, steps, reach, states, best):
    """Follow the best ways back; of equal ones that of the smallest state."""
    K = numbers.turned.shape[2]
    num = 0
    for t in range(steps - 1, -1, -1):
        at = t * K * WIDTH
        s = share_of(numbers.turned.shape[1], t)
        for w in range(num):
            after, found = best[w], 0
            top = reach[at + w] + numbers.turned[0, s, after, 0]
            for k in range(1, K):
                value = reach[at + k * WIDTH + w] + numbers.turned[0, s, after, k]
                found = k if value > top else found
                top = value if value > top else top
            best[w] = found
        while num < len(rows) and numbers.lengths[rows[num]] > t:
            best[num] = 0
            for k in range(1, K):
                if reach[at + k * WIDTH + num] > reach[at + best[num] * WIDTH + num]:
                    best[num] = k
            num += 1
        for w in range(num):
            states[rows[w], t] = best[w]


@numeric
def best_tiles(numbers, tiles, states, scores, reach, fields, lanes, best):
    """Find the best path of rows that share their transitions, as ``best_rows`` does.

    Args:
        numbers: Logs.
        tiles: As of ``sum_tiles``.
        states: ``(B, T)`` to be filled; -1 in rows without a path.
        scores: ``(B,)`` float64.
        reach: Room for ``T * K * WIDTH`` numbers.
        fields: For ``K * WIDTH``.
        lanes: For ``LANES``.
        best: For ``WIDTH`` int64.
    """
    for tile in range(tiles.shape[0]):
        num = 0
        while num < WIDTH and tiles[tile, num] >= 0:
            num += 1
        rows = tiles[tile, :num]
        steps = numbers.lengths[rows[0]]
        _forward(numbers, rows, steps, reach, fields, lanes)
        _walk_back(numbers, rows, steps, reach, states, best)
        for b in rows:
            scores[b] = score_of(numbers, b, states, b)
            if scores[b] == -math.inf:
                for t in range(numbers.lengths[b]):
                    states[b, t] = -1
