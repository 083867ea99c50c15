r"""Forward and backward messages of many rows along transitions that are listed.

As in :mod:`tile_messages` the vectors run over the rows of a tile, but a step takes time for the
transitions that there are, not for all pairs of states. Everything is in float64. States of a
label lie side by side and share its scores.

Forward messages are not normalised but sum to what a normalised one before them becomes, and
backward messages are scaled so that a product of both is a probability:

.. math:: a_t(j) = g_t(j) \sum_i a_{t-1}(i) w_{ij}, \qquad
    b_{t-1}(i) = \sum_j w_{ij} g_t(j) b_t(j), \qquad
    g_t = e^{f_t - \max f_t} / \textstyle\sum_i a_{t-1}(i)
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from numpy.typing import NDArray

from pgnn.inference.chains.kernels.arrays import Floats
from pgnn.inference.chains.kernels.edge_products import count_edges, meet_label, push_sums
from pgnn.inference.chains.kernels.row_messages import FILTER, SMOOTH
from pgnn.inference.chains.kernels.tile_messages import count_rows, load, note, unload
from pgnn.inference.chains.kernels.tile_steps import INVERSE, LANES, TOP, TOTAL, gain
from pgnn.inference.chains.kernels.vector_registers import WIDTH
from pgnn.inference.kernels.compiled import inner_numeric, numeric

Ints = NDArray[Any]

COUNTED = 8
"""Steps whose transitions are counted together."""

EDGE_LANES = LANES + WIDTH
"""Numbers of a row kept by a tile."""

_LOST = LANES
_TINY = 1e-295
"""More than a step can lose of a message, by numbers too small to be held."""

_HARMLESS = 1e-17
"""Share of a message that may be lost."""


class EdgePotentials(NamedTuple):
    """A chain along listed transitions: float64, and int64 where they are numbers of something.

    Potentials are numbers whose largest one is 1; in kernels of logs they are logs.
    """

    initial: Floats
    """``(K,)`` of first labels."""
    first: Ints
    """``(K,)`` state after a first label, -1 where there is none."""
    spans: Ints
    """``(K + 1,)`` where the states of each label begin."""
    may_end: Floats
    """``(S,)`` one where a row may end, else zero (or ``-inf``, of logs zero)."""
    incoming: Ints
    """``(S + 1,)`` where the transitions into each state begin."""
    sources: Ints
    """``(E,)`` where they come from, in ascending order for each state."""
    into: Floats
    """``(E,)`` their potentials."""
    outgoing: Ints
    """``(S + 1,)`` where the transitions out of each state begin."""
    targets: Ints
    """``(E,)`` where they lead to."""
    out_of: Floats
    """``(E,)`` their potentials."""
    log_field: Floats
    """``(1, N, K)`` scores of the labels at each step, row after row."""
    starts: Ints
    """``(B,)`` first step of each row."""
    lengths: Ints
    """``(B,)``."""


class EdgeSums(NamedTuple):
    """What a forward or a forward-backward pass finds."""

    log_z: Floats
    """``(B,)``, less the scales of the potentials."""
    trust: Floats
    """``(B,)`` small where numbers that were lost might matter."""
    labels: Floats
    """``(1, N, K)`` marginals or filtered probabilities; ``(1, 0, K)`` if nobody asks."""
    increments: Floats
    """``(N,)`` log p(x_t | x_<t); ``(0,)`` if nobody asks."""
    counts: Floats
    """``(E,)`` sums of products of messages on either side of the outgoing transitions, without
    their own potentials; ``(0,)`` if nobody asks."""


@inner_numeric
def begin_tile(potentials, rows, places, lanes, logs):
    """Find where the rows of a tile stand; places beyond them are those of the first row."""
    K = potentials.log_field.shape[2]
    for w in range(WIDTH):
        places[w] = potentials.starts[rows[w if w < len(rows) else 0]] * K
        lanes[INVERSE + w] = 1.0
        lanes[_LOST + w] = _TINY
        logs[w], logs[WIDTH + w], logs[2 * WIDTH + w] = 0.0, 1.0, 1.0


@inner_numeric
def running(potentials, rows, places, num, t):
    """Return how many rows of a tile are under way; those that are not are read no more."""
    while potentials.lengths[rows[num - 1]] <= t:
        num -= 1
        places[num] = places[0]
    return num


@inner_numeric
def _push(potentials, x, x_at, out, to, factors, factor_at, sums):
    """Send messages along transitions, label after label."""
    for k in range(potentials.log_field.shape[2]):
        push_sums(
            potentials.incoming, potentials.sources, potentials.into, x, out, factors, sums,
            potentials.spans[k], potentials.spans[k + 1], x_at, to, factor_at + k * WIDTH,
            k * WIDTH,
        )  # fmt: skip


@inner_numeric
def _begin(potentials, alpha, gains, sums):
    """The first message."""
    for k in range(len(potentials.may_end) * WIDTH):
        alpha[k] = 0.0
    for k in range(len(potentials.first)):
        state = potentials.first[k]
        for w in range(WIDTH):
            value = potentials.initial[k] * gains[k * WIDTH + w] if state >= 0 else 0.0
            sums[k * WIDTH + w] = value
            if state >= 0:
                alpha[state * WIDTH + w] = value


@inner_numeric
def forward(potentials, sums, mode, spread, rows, places, alpha, gains, room, lanes, logs, stop):
    """Fill ``alpha`` with forward messages and ``gains`` with what they were multiplied by.

    ``room`` is of ``2 * K * WIDTH``: sums over the states of each label, and fields of a step.
    """
    K, S = potentials.log_field.shape[2], len(potentials.may_end)
    num, size, fields = len(rows), S * WIDTH, K * WIDTH
    for t in range(potentials.lengths[rows[0]]):
        if stop[0]:
            return
        num = running(potentials, rows, places, num, t)
        load(potentials.log_field, places, num, t, room, fields, lanes)
        kept = mode == SMOOTH
        to, before = (t if kept else t % 2) * size, (t - 1 if kept else (t - 1) % 2) * size
        at = t * K * WIDTH if kept else 0
        gain(gains, room, lanes, at, fields, K)
        if t == 0:
            _begin(potentials, alpha, gains, room)
        else:
            _push(potentials, alpha, before, alpha, to, gains, at, room)
        _total(room, spread, S, K, lanes)
        w = num - 1
        while w >= 0 and potentials.lengths[rows[w]] == t + 1:
            _close(potentials, alpha, to, w, room, lanes)
            w -= 1
        for w in range(num):
            total = lanes[TOTAL + w]
            if not kept and not lanes[_LOST + w] <= _HARMLESS * total:
                logs[2 * WIDTH + w] = 0.0
            if mode == FILTER:
                step = math.log(total) if total > 0.0 else -math.inf
                sums.increments[potentials.starts[rows[w]] + t] = step + lanes[TOP + w]
        if mode == FILTER:
            unload(room, 0, lanes, places, num, t, sums.labels)
        note(logs, lanes, num, 0.0)
    for w in range(len(rows)):
        product = logs[WIDTH + w]
        sums.log_z[rows[w]] = logs[w] + math.log(product) if product > 0.0 else -math.inf
        sums.trust[rows[w]] = logs[2 * WIDTH + w]


@inner_numeric
def _total(labels, spread, S, K, lanes):
    """Sum a message over the labels, and bound what was lost of it on the way."""
    for w in range(WIDTH):
        lost = lanes[_LOST + w] * spread + S * _TINY
        lanes[_LOST + w] = lost * lanes[INVERSE + w] + S * _TINY
        lanes[TOTAL + w] = 0.0
    for k in range(K):
        for w in range(WIDTH):
            lanes[TOTAL + w] += labels[k * WIDTH + w]
    for w in range(WIDTH):
        total = lanes[TOTAL + w]
        lanes[INVERSE + w] = 1.0 / total if total > 0.0 else 0.0


@inner_numeric
def _close(potentials, alpha, at, w, labels, lanes):
    """Leave of a row's last message only states in which it may end."""
    total = 0.0
    for k in range(len(potentials.first)):
        part = 0.0
        for i in range(potentials.spans[k], potentials.spans[k + 1]):
            part += alpha[at + i * WIDTH + w] * potentials.may_end[i]
        labels[k * WIDTH + w] = part
        total += part
    lanes[TOTAL + w] = total
    lanes[INVERSE + w] = 1.0 / total if total > 0.0 else 0.0


@inner_numeric
def _ended(potentials, alpha, at, w):
    """Sum over the states in which a row may end."""
    total = 0.0
    for i in range(len(potentials.may_end)):
        total += alpha[at + i * WIDTH + w] * potentials.may_end[i]
    return total


@inner_numeric
def _backward(
    potentials, sums, weights, rows, places, alpha, gains, ahead, behind, room, lanes, logs, stop
):
    """Multiply forward messages by backward messages, into marginals and counts."""
    K, S = potentials.log_field.shape[2], len(potentials.may_end)
    num, size, counting = 0, S * WIDTH, len(sums.counts) > 0
    for i in range(size):
        ahead[i] = 0.0
    for w in range(WIDTH):
        lanes[INVERSE + w] = 1.0
        logs[2 * WIDTH + w] = 1.0
    for t in range(potentials.lengths[rows[0]] - 1, -1, -1):
        if stop[0]:
            return
        while num < len(rows) and potentials.lengths[rows[num]] > t:
            total = _ended(potentials, alpha, t * size, num)
            inverse = 1.0 / total if total > 0.0 else 0.0
            for i in range(S):
                ahead[i * WIDTH + num] = potentials.may_end[i] * inverse
            num += 1
        slot = t % COUNTED
        for w in range(WIDTH):
            lanes[TOTAL + w] = 0.0
        for k in range(K):
            meet_label(
                alpha, ahead, behind, gains, room, lanes, potentials.spans[k],
                potentials.spans[k + 1], t * size, slot * size, (t * K + k) * WIDTH, k * WIDTH,
            )  # fmt: skip
        for w in range(num):
            total = lanes[TOTAL + w]
            logs[2 * WIDTH + w] = min(logs[2 * WIDTH + w], 1.0 / total if total > 0.0 else 0.0)
        unload(room, 0, lanes, places, num, t, sums.labels)
        if t > 0:
            push_sums(
                potentials.outgoing, potentials.targets, potentials.out_of, behind, ahead, lanes,
                room, 0, S, slot * size, 0, INVERSE, 0,
            )  # fmt: skip
        if counting and t > 0:
            for w in range(num):
                weight = weights[rows[w]]
                if weight != 1.0:
                    for i in range(S):
                        behind[slot * size + i * WIDTH + w] *= weight
            if slot == 0 or t == 1:
                steps = min(potentials.lengths[rows[0]] - t, COUNTED - slot)
                count_edges(
                    potentials.outgoing, potentials.targets, alpha, behind, sums.counts, 0, S,
                    (t - 1) * size, slot * size, size, steps,
                )  # fmt: skip
    for w in range(len(rows)):
        sums.trust[rows[w]] = logs[2 * WIDTH + w]


@numeric
def sum_edge_tiles(
    potentials, sums, mode, spread, tiles, weights, alpha, gains, ahead, behind, room, lanes, logs,
    places, stop,
):  # fmt: skip
    """Sum over all paths of rows of a chain of listed transitions.

    Args:
        mode: FORWARD, FILTER or SMOOTH.
        spread: Largest sum of the potentials out of a state.
        tiles: ``(n, WIDTH)`` rows in descending order of their lengths, -1 for none; the first of
            a tile is there and is not empty.
        weights: ``(B,)`` what a row counts in ``sums.counts``.
        alpha: Room for ``S * WIDTH`` numbers for each of ``T`` steps, of two if mode is not SMOOTH.
        gains: For ``K * WIDTH`` for each of ``T`` steps, of one if mode is not SMOOTH.
        ahead: For ``S * WIDTH``, if mode is SMOOTH.
        behind: For ``COUNTED * S * WIDTH``, if mode is SMOOTH.
        room: For ``2 * K * WIDTH``.
        lanes: For ``EDGE_LANES``.
        logs: For ``3 * WIDTH``.
        places: For ``WIDTH`` int64.
        stop: Looked at at every step.
    """
    for tile in range(tiles.shape[0]):
        rows = tiles[tile, : count_rows(tiles, tile)]
        begin_tile(potentials, rows, places, lanes, logs)
        forward(potentials, sums, mode, spread, rows, places, alpha, gains, room, lanes, logs, stop)
        if mode == SMOOTH:
            begin_tile(potentials, rows, places, lanes, logs)
            _backward(
                potentials, sums, weights, rows, places, alpha, gains, ahead, behind, room, lanes,
                logs, stop,
            )  # fmt: skip
