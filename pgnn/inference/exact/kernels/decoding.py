"""Choose states from the roots to the leaves: the best ones, or exact posterior samples."""

from __future__ import annotations

import numpy as np

from pgnn.inference.exact.kernels.execution import is_lost, prepare, tile_of, upward
from pgnn.inference.exact.kernels.program import BUCKETS, DEPTH, RECORDS
from pgnn.inference.kernels.compiled import entry, lean
from pgnn.inference.kernels.random_numbers import next_uniform

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


@lean
def _weights(code, record, memory, lane, width, states, out):
    """Product of a bucket's tables as a function of its variable, given the chosen states."""
    num = code[record + 1]
    for s in range(num):
        out[s] = 1.0
    k = record + 4
    for _ in range(code[record + 3]):
        at, step = 0, 1
        for j in range(k + 3, k + 3 + 2 * code[k + 2], 2):
            at = at * code[j + 1] + states[code[j]]
            step *= code[j + 1]
        if code[k + 1]:
            at = code[k] + at * width + lane
            step *= width
        else:
            at += code[k]
        for s in range(num):
            out[s] *= memory[at + s * step]
        top = 0.0
        for s in range(num):
            top = max(top, out[s])
        if 0.0 < top < 1e-100:
            for s in range(num):
                out[s] /= top
        k += 3 + 2 * code[k + 2]


@lean
def _choose(weights, num, draw, state):
    """The first largest weight, or a state sampled in proportion to the weights."""
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
def decode(code, most, tables, todo, memory, lanes, draws, seed, states, log_z, stop):
    """Fill ``states[row, d, :]`` with the best states, or with ``draws`` exact samples.

    Variables to maximise over take the state of largest weight; with ``draws > 0`` every variable
    is sampled instead.

    Args:
        most: Largest state count.
        seed: Random seed; each row and sample has its own random stream.
        states: ``(B, max(draws, 1), V)``, observed states filled in already.
        log_z: ``(B,)`` output: the log of the sum or maximum; ``-inf`` also where an underflow may
            matter.
        stop: ``(1,)`` flag; once it is set, the kernel returns early.
    """
    width = len(lanes)
    counters, rows = np.zeros(code[DEPTH], np.int64), np.zeros(width, np.int64)
    tile_z, deep = np.zeros(width), np.zeros(width)
    weights = np.zeros(most)
    state = np.zeros(1, np.uint64)
    log_scale, least = prepare(code, tables, memory, lanes[:1], counters, stop)
    for first in range(0, todo.shape[0], width):
        count = tile_of(todo, first, rows)
        upward(code, tables, rows, memory, lanes, tile_z, deep, counters, stop)
        for w in range(count):
            row = rows[w]
            lost = is_lost(tables, row, least + deep[w])
            log_z[row] = -np.inf if lost else tile_z[w] + log_scale
            for d in range(states.shape[1]):
                if stop[0] != 0:
                    return
                state[0] = (
                    np.uint64(seed) * _GOLDEN + np.uint64(row) * np.uint64(1000003) + np.uint64(d)
                )
                next_uniform(state)
                state[0] ^= np.uint64(row * states.shape[1] + d) << np.uint64(20)
                for k in range(code[RECORDS] - 1, code[BUCKETS] - 1, -1):
                    record = code[k]
                    if draws == 0 and not code[record + 2]:
                        continue
                    _weights(code, record, memory, w, width, states[row, d], weights)
                    chosen = _choose(weights, code[record + 1], draws > 0, state)
                    states[row, d, code[record]] = chosen
