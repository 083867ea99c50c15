"""Choose states from the roots back to the leaves: the best ones, or exact posterior draws."""

from __future__ import annotations

import numpy as np

from pgnn.inference.exact.kernels.execution import is_lost, prepare, upward
from pgnn.inference.kernels.compiled import entry, inner
from pgnn.inference.kernels.random_numbers import next_uniform

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


@inner
def _weights(decoder, k, card, memory, lane, width, states, out):
    """Product of bucket ``k``'s tables as a function of its variable, the rest being chosen."""
    v = decoder.order[k]
    num = card[v]
    for s in range(num):
        out[s] = 1.0
    for i in range(decoder.ptr[k], decoder.ptr[k + 1]):
        at, step = 0, 1
        for j in range(decoder.scope_ptr[i] + 1, decoder.scope_ptr[i + 1]):
            u = decoder.scope_var[j]
            at = at * card[u] + states[u]
            step *= card[u]
        if decoder.wide[i]:
            at = decoder.start[i] + at * width + lane
            step *= width
        else:
            at += decoder.start[i]
        for s in range(num):
            out[s] *= memory[at + s * step]
        top = 0.0
        for s in range(num):
            top = max(top, out[s])
        if 0.0 < top < 1e-100:
            for s in range(num):
                out[s] /= top


@inner
def _choose(weights, num, draw, state):
    """The first largest weight, or one drawn in proportion."""
    if not draw:
        best = 0
        for s in range(1, num):
            if weights[s] > weights[best]:
                best = s
        return best
    total = 0.0
    for s in range(num):
        total += weights[s]
    u = next_uniform(state) * total
    last = 0
    for s in range(num):
        if weights[s] > 0.0:
            last = s
            u -= weights[s]
            if u < 0.0:
                return s
    return last


@entry
def decode(
    program, decoder, card, maximize, tables, todo, memory, lanes, draws, seed, states, log_z
):
    """Fill ``states[row, d, :]`` with the best states, or with ``draws`` exact samples.

    Args:
        maximize: ``(V,)`` variables to decode by their largest weight; with ``draws > 0`` every
            variable is drawn instead.
        seed: Of the draws; each row and draw has a stream of its own.
        states: ``(B, max(draws, 1), V)``, observed states filled in already.
        log_z: ``(B,)`` written: the log of the sum or maximum; ``-inf`` also where a number that
            was flushed to zero may count.
    """
    width = len(lanes)
    counters = np.zeros(program.sizes[2], np.int64)
    rows = np.zeros(width, np.int64)
    tile_z, deep = np.zeros(width), np.zeros(width)
    weights = np.zeros(card.max())
    state = np.zeros(1, np.uint64)
    log_scale, least = prepare(program, tables, memory, lanes[:1])
    for first in range(0, todo.shape[0], width):
        count = min(width, todo.shape[0] - first)
        for w in range(width):
            rows[w] = todo[first + min(w, count - 1)]
        upward(program, tables, rows, memory, lanes, tile_z, deep, counters)
        for w in range(count):
            row = rows[w]
            lost = is_lost(tables, row, least + deep[w])
            log_z[row] = -np.inf if lost else tile_z[w] + log_scale
            for d in range(states.shape[1]):
                state[0] = (
                    np.uint64(seed) * _GOLDEN + np.uint64(row) * np.uint64(1000003) + np.uint64(d)
                )
                next_uniform(state)
                state[0] ^= np.uint64(row * states.shape[1] + d) << np.uint64(20)
                for k in range(decoder.order.shape[0] - 1, -1, -1):
                    v = decoder.order[k]
                    if draws == 0 and not maximize[v]:
                        continue
                    _weights(decoder, k, card, memory, w, width, states[row, d], weights)
                    states[row, d, v] = _choose(weights, card[v], draws > 0, state)
