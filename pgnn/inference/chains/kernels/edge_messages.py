r"""Forward and backward messages of sparse chains, for many rows at once.

As in :mod:`tile_messages`, vectors run over the rows of a tile, but the cost of a step is
proportional to the number of transitions, not of pairs of states. All numbers are float64. The
states of a label are contiguous and share its scores.

Forward messages are computed from normalised ones but are not normalised themselves, and backward
messages are scaled so that the product of both is a probability:

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
"""Number of steps whose transitions are counted together."""

EDGE_LANES = LANES + WIDTH
"""Numbers per row in the scratch array of a tile."""

_LOST = LANES
_TINY = 1e-295
"""Bound on the loss of a message to underflow in one step."""

_HARMLESS = 1e-17
"""Largest harmless share of a message that is lost to underflow."""


class EdgePotentials(NamedTuple):
    """A sparse chain; potentials are float64, indices int64.

    Potentials are divided by the largest one; in log-space kernels they are logs.
    """

    initial: Floats
    """``(K,)`` potentials of first labels."""
    first: Ints
    """``(K,)`` state after a first label, -1 if the label may not be the first."""
    spans: Ints
    """``(K + 1,)`` offsets of the states of each label."""
    may_end: Floats
    """``(S,)`` one for states in which a row may end, else zero; logs in log-space kernels."""
    incoming: Ints
    """``(S + 1,)`` offsets of the transitions into each state."""
    sources: Ints
    """``(E,)`` sources of the incoming transitions, ascending for each state."""
    into: Floats
    """``(E,)`` potentials of these transitions."""
    outgoing: Ints
    """``(S + 1,)`` offsets of the transitions out of each state."""
    targets: Ints
    """``(E,)`` targets of the outgoing transitions."""
    out_of: Floats
    """``(E,)`` potentials of these transitions."""
    log_field: Floats
    """``(1, N, K)`` scores of the labels at each step, row after row."""
    starts: Ints
    """``(B,)`` index of the first step of each row."""
    lengths: Ints
    """``(B,)`` lengths of the rows."""


class EdgeSums(NamedTuple):
    """Results of a forward or a forward-backward pass."""

    log_z: Floats
    """``(B,)`` log Z, without the scales of the potentials."""
    trust: Floats
    """``(B,)`` trust, small in rows that may be affected by underflow."""
    labels: Floats
    """``(1, N, K)`` marginals or filtered probabilities; ``(1, 0, K)`` if not requested."""
    increments: Floats
    """``(N,)`` log p(x_t | x_<t); ``(0,)`` if not requested."""
    counts: Floats
    """``(E,)`` sums of products of the messages on both sides of the outgoing transitions, without
    the potentials of these; ``(0,)`` if not requested."""


@inner_numeric
def begin_tile(potentials, rows, places, lanes, logs):
    """Fill the offsets of the rows of a tile; padding lanes repeat the first row."""
    K = potentials.log_field.shape[2]
    for w in range(WIDTH):
        places[w] = potentials.starts[rows[w if w < len(rows) else 0]] * K
        lanes[INVERSE + w] = 1.0
        lanes[_LOST + w] = _TINY
        logs[w], logs[WIDTH + w], logs[2 * WIDTH + w] = 0.0, 1.0, 1.0


@inner_numeric
def running(potentials, rows, places, num, t):
    """Return the number of rows of a tile that have not ended; redirect the others."""
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
    """Fill ``alpha`` with forward messages and ``gains`` with their factors.

    ``room`` is a scratch array of ``2 * K * WIDTH``: sums over states of labels, and fields.
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
    """Sum a message over the labels, and bound its loss to underflow."""
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
    """Remove states in which a row may not end from its last message."""
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
    """Multiply forward by backward messages, and add to marginals and counts."""
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
    """Sum over all paths of rows of a sparse chain.

    Args:
        mode: FORWARD, FILTER or SMOOTH.
        spread: Largest sum of the potentials of the transitions out of a state.
        tiles: ``(n, WIDTH)`` rows in descending order of their lengths, padded with -1; the first
            row of a tile exists and is not empty.
        weights: ``(B,)`` weights of the rows in ``sums.counts``.
        alpha: Scratch array of ``S * WIDTH`` numbers for ``T`` steps, or two if mode is not SMOOTH.
        gains: Scratch array of ``K * WIDTH`` for ``T`` steps, or one if mode is not SMOOTH.
        ahead: Scratch array of ``S * WIDTH``, if mode is SMOOTH.
        behind: Scratch array of ``COUNTED * S * WIDTH``, if mode is SMOOTH.
        room: Scratch array of ``2 * K * WIDTH``.
        lanes: Scratch array of ``EDGE_LANES``.
        logs: Scratch array of ``3 * WIDTH``.
        places: Scratch array of ``WIDTH`` int64.
        stop: Checked at every step.
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
