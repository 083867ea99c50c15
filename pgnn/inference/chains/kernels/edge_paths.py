"""Paths of sparse chains: best paths of many rows at once, k best paths, exact draws."""

from __future__ import annotations

import math

import numpy as np

from pgnn.inference.chains.kernels.edge_messages import begin_tile, forward, running
from pgnn.inference.chains.kernels.edge_products import push_tops
from pgnn.inference.chains.kernels.row_messages import SMOOTH
from pgnn.inference.chains.kernels.row_paths import GOLDEN, merge, mix
from pgnn.inference.chains.kernels.tile_messages import bring, count_rows
from pgnn.inference.chains.kernels.vector_registers import WIDTH
from pgnn.inference.kernels.compiled import inner_numeric, numeric


@inner_numeric
def _reach(potentials, rows, places, reach, fields, room, best, stop):
    """Fill ``reach`` with max-product messages, and ``best`` with the last states."""
    K, S = potentials.log_field.shape[2], len(potentials.may_end)
    size, num = S * WIDTH, len(rows)
    for t in range(potentials.lengths[rows[0]]):
        if stop[0]:
            return
        num = running(potentials, rows, places, num, t)
        bring(potentials.log_field, places, t * K, fields, 0)
        to = t * size
        if t == 0:
            for i in range(size):
                reach[i] = -math.inf
        for k in range(K):
            if t > 0:
                push_tops(
                    potentials.incoming, potentials.sources, potentials.into, reach, reach, fields,
                    room, potentials.spans[k], potentials.spans[k + 1], to - size, to, k * WIDTH, 0,
                )  # fmt: skip
            elif potentials.first[k] >= 0:
                for w in range(WIDTH):
                    value = potentials.initial[k] + fields[k * WIDTH + w]
                    reach[potentials.first[k] * WIDTH + w] = value
        w = num - 1
        while w >= 0 and potentials.lengths[rows[w]] == t + 1:
            best[w], top = -1, -math.inf
            for i in range(S):
                value = reach[to + i * WIDTH + w] + potentials.may_end[i]
                if value > top:
                    best[w], top = i, value
            w -= 1


@inner_numeric
def _walk_back(potentials, b, w, state, reach, labels, label_of):
    """Write the labels of the best path of a row; the smallest states among ties."""
    size, start = len(potentials.may_end) * WIDTH, potentials.starts[b]
    moved, observed = potentials.may_end[state] + 0.0, 0.0
    for t in range(potentials.lengths[b] - 1, -1, -1):
        label = label_of[state]
        labels[start + t] = label
        observed += potentials.log_field[0, start + t, label]
        if t == 0:
            break
        begin, end = potentials.incoming[state], potentials.incoming[state + 1]
        before, top = begin, -math.inf
        for m in range(begin, end):
            value = reach[(t - 1) * size + potentials.sources[m] * WIDTH + w] + potentials.into[m]
            if value > top:
                before, top = m, value
        moved += potentials.into[before]
        state = potentials.sources[before]
    return moved + potentials.initial[label_of[state]] + observed


@numeric
def best_edge_tiles(
    potentials, label_of, tiles, labels, scores, reach, fields, room, best, places, lanes, logs,
    stop,
):  # fmt: skip
    """Find the best labels of rows; ties go to the smallest last state, and so on.

    Args:
        potentials: Log potentials.
        label_of: ``(S,)`` label of each state.
        tiles: See ``sum_edge_tiles``.
        labels: ``(N,)`` output; rows without a path are left unchanged.
        scores: ``(B,)`` output.
        reach: Scratch array of ``T * S * WIDTH`` numbers.
        fields: Scratch array of ``K * WIDTH``.
        room: Scratch array of ``WIDTH``.
        best: Scratch array of ``WIDTH`` int64.
        places: Scratch array of ``WIDTH`` int64.
        lanes: Scratch array of ``EDGE_LANES``.
        logs: Scratch array of ``3 * WIDTH``.
        stop: Checked at every step.
    """
    for tile in range(tiles.shape[0]):
        rows = tiles[tile, : count_rows(tiles, tile)]
        begin_tile(potentials, rows, places, lanes, logs)
        _reach(potentials, rows, places, reach, fields, room, best, stop)
        if stop[0]:
            return
        for w in range(len(rows)):
            scores[rows[w]] = -math.inf
            if best[w] >= 0:
                b = rows[w]
                scores[b] = _walk_back(potentials, b, w, best[w], reach, labels, label_of)


@numeric
def best_k_edge_rows(potentials, k, label_of, rows, labels, scores, reach, origins, stop):
    """Find the ``k`` best label sequences of the given rows, best first.

    Args:
        potentials: Log potentials.
        k: Number of label sequences.
        label_of: ``(S,)`` label of each state.
        rows: Indices of the rows, none of which is empty.
        labels: ``(k, N)`` output; absent sequences are left unchanged.
        scores: ``(B * k,)`` output.
        reach: Scratch array of ``2 * S * k`` numbers.
        origins: Scratch array of ``T * S * k`` int64: previous state times ``k`` plus its rank.
        stop: Checked for each state of each step.
    """
    S = len(potentials.may_end)
    for b in rows:
        steps, start, old, new = potentials.lengths[b], potentials.starts[b], 0, S * k
        for m in range(S * k):
            reach[new + m] = -math.inf
        for label in range(len(potentials.first)):
            if potentials.first[label] >= 0:
                value = potentials.initial[label] + potentials.log_field[0, start, label]
                reach[new + potentials.first[label] * k] = value
        for t in range(1, steps):
            old, new = new, old
            for j in range(S):
                if stop[0]:
                    return
                at, origin_at = new + j * k, (t * S + j) * k
                field = potentials.log_field[0, start + t, label_of[j]]
                for m in range(k):
                    reach[at + m] = -math.inf
                for e in range(potentials.incoming[j], potentials.incoming[j + 1]):
                    i, step = potentials.sources[e], potentials.into[e] + field
                    merge(reach, origins, at, origin_at, k, reach, old + i * k, step, i * k)
        for m in range(k):
            scores[b * k + m] = -math.inf
        for j in range(S):
            last = potentials.may_end[j]
            merge(scores, origins, b * k, 0, k, reach, new + j * k, last, j * k)
        for m in range(k):
            if scores[b * k + m] > -math.inf:
                at = origins[m]
                for t in range(steps - 1, -1, -1):
                    labels[m, start + t] = label_of[at // k]
                    at = origins[t * S * k + at]


@inner_numeric
def _picked(values, begin, end, unit, total):
    """Index of the first number at which the running sum reaches a share of the total."""
    goal, chosen = unit * total, begin
    for m in range(begin, end):
        if values[m - begin] > 0.0:
            chosen = m
            goal -= values[m - begin]
            if goal < 0.0:
                break
    return chosen


@inner_numeric
def _draw(potentials, b, w, seed, label_of, alpha, values, labels, stop):
    """Draw paths of a row by backward sampling, given forward messages."""
    size, start = len(potentials.may_end) * WIDTH, potentials.starts[b]
    last = potentials.lengths[b] - 1
    stream = mix(seed + np.uint64(b) * GOLDEN)
    for n in range(labels.shape[0]):
        state = 0
        for t in range(last, -1, -1):
            if stop[0]:
                return
            begin, end = 0, len(potentials.may_end)
            if t < last:
                begin, end = potentials.incoming[state], potentials.incoming[state + 1]
            total = 0.0
            for m in range(begin, end):
                i = m if t == last else potentials.sources[m]
                weight = potentials.may_end[m] if t == last else potentials.into[m]
                values[m - begin] = alpha[t * size + i * WIDTH + w] * weight
                total += values[m - begin]
            stream += GOLDEN
            unit = float(mix(stream) >> np.uint64(11)) / 9007199254740992.0
            chosen = _picked(values, begin, end, unit, total)
            state = chosen if t == last else potentials.sources[chosen]
            labels[n, start + t] = label_of[state]


@numeric
def draw_edge_tiles(
    potentials, sums, spread, seed, label_of, tiles, labels, alpha, gains, values, room, lanes,
    logs, places, stop,
):  # fmt: skip
    """Draw labels of the possible rows.

    Args:
        potentials: Exponentiated potentials.
        sums: Outputs, allocated for SMOOTH; only ``log_z`` and ``trust`` are filled.
        spread: See ``sum_edge_tiles``.
        seed: uint64; the draws of a row depend only on it and on the index of the row.
        label_of: ``(S,)`` label of each state.
        tiles: See ``sum_edge_tiles``.
        labels: ``(n, N)`` output.
        alpha: Scratch array of ``T * S * WIDTH`` numbers.
        gains: Scratch array of ``T * K * WIDTH``.
        values: Scratch array of ``S``.
        room: Scratch array of ``2 * K * WIDTH``.
        lanes: Scratch array of ``EDGE_LANES``.
        logs: Scratch array of ``3 * WIDTH``.
        places: Scratch array of ``WIDTH`` int64.
        stop: Checked at every step.
    """
    for tile in range(tiles.shape[0]):
        rows = tiles[tile, : count_rows(tiles, tile)]
        begin_tile(potentials, rows, places, lanes, logs)
        forward(
            potentials, sums, SMOOTH, spread, rows, places, alpha, gains, room, lanes, logs, stop
        )
        for w in range(len(rows)):
            _draw(potentials, rows[w], w, seed, label_of, alpha, values, labels, stop)
