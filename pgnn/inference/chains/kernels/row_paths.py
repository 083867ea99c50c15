"""Best paths, k best paths and exact draws, one row after another."""

from __future__ import annotations

import math

import numpy as np

from pgnn.inference.chains.kernels.argmax import argmax_4, argmax_16, largest
from pgnn.inference.chains.kernels.arrays import exp_below, share_of
from pgnn.inference.chains.kernels.back_pointers import max_origins_of_few
from pgnn.inference.chains.kernels.row_steps import row_observe
from pgnn.inference.chains.kernels.vector_registers import (
    row_max_4,
    row_max_8,
    row_max_32,
)
from pgnn.inference.kernels.compiled import inner_numeric, numeric

GOLDEN = np.uint64(0x9E3779B97F4A7C15)


@inner_numeric
def mix(x):
    """Finaliser of SplitMix64 (Steele, Lea & Flood 2014)."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


@inner_numeric
def _reach(x, at, matrix, r, s, out, to):
    """Max-plus product of a row vector and a matrix."""
    K, P = matrix.shape[2], matrix.shape[3]
    first = (r * matrix.shape[1] + s) * K * P
    j = 0
    while j + 32 <= P:
        row_max_32(matrix, x, out, first + j, P, at, 1, to + j, K)
        j += 32
    while j + 8 <= P:
        row_max_8(matrix, x, out, first + j, P, at, 1, to + j, K)
        j += 8
    if j < P:
        row_max_4(matrix, x, out, first + j, P, at, 1, to + j, K)


@inner_numeric
def score_of(potentials, b, states, row):
    """Log weight of a path."""
    r = share_of(potentials.transition.shape[0], b)
    total, observed = 0.0, 0.0
    for t in range(potentials.lengths[b]):
        k = states[row, t]
        observed += potentials.log_field[b, t, k]
        if t == 0:
            total += potentials.initial[share_of(potentials.initial.shape[0], b), k]
        else:
            s = share_of(potentials.transition.shape[1], t - 1)
            total += potentials.transition[r, s, states[row, t - 1], k]
    return total + observed


@numeric
def best_rows(potentials, rows, states, scores, reach, origins, stop):
    """Find the best path of the given rows; ties go to the smallest last state, and so on.

    Args:
        potentials: Log potentials.
        rows: Indices of the rows, none of which is empty.
        states: ``(B, T)`` output; rows without a path are left unchanged.
        scores: ``(B,)`` float64 output.
        reach: Scratch array of ``T * P`` potentials.
        origins: Scratch array of ``T * P`` bytes if ``P`` is ``FEW`` and all steps share their
            transitions; otherwise empty.
        stop: Checked every 16 steps.
    """
    P = potentials.transition.shape[3]
    for b in rows:
        if len(origins):
            possible = _forward_of_few(potentials, b, reach, origins, stop)
        else:
            possible = _forward(potentials, b, reach, stop)
        if not possible:
            scores[b] = -math.inf
        elif len(origins):
            after = potentials.lengths[b] - 1
            states[b, after] = k = _top_of(reach, 0, P)
            for t in range(after, 0, -1):
                k = int(origins[t * P + k])
                states[b, t - 1] = k
            scores[b] = score_of(potentials, b, states, b)
        else:
            _walk_back(potentials, b, potentials.lengths[b], reach, states)
            scores[b] = score_of(potentials, b, states, b)


@inner_numeric
def _begin(potentials, b, reach):
    """Message of the first step, padded with ``-inf``."""
    K, P = potentials.transition.shape[2], potentials.transition.shape[3]
    real = potentials.log_field.dtype.type
    start = share_of(potentials.initial.shape[0], b)
    for j in range(P):
        reach[j] = real(-math.inf)
    for j in range(K):
        reach[j] = potentials.initial[start, j] + potentials.log_field[b, 0, j]


@inner_numeric
def _forward(potentials, b, reach, stop):
    """Fill max-product messages up to a constant per step; return whether there is a path."""
    K, P = potentials.transition.shape[2], potentials.transition.shape[3]
    real = potentials.log_field.dtype.type
    r, steps = share_of(potentials.transition.shape[0], b), potentials.lengths[b]
    _begin(potentials, b, reach)
    top = largest(reach, 0, P)
    for t in range(1, steps):
        if top == -math.inf:
            break
        to = t * P
        s = share_of(potentials.transition.shape[1], t - 1)
        _reach(reach, to - P, potentials.transition, r, s, reach, to)
        field = (b * potentials.log_field.shape[1] + t) * K
        row_observe(reach, potentials.log_field, to, field, K, top)
        top = real(0.0)
        if t % 16 == 15 or t == steps - 1:  # rescale to preserve precision
            top = largest(reach, to, P)
            if stop[0]:
                return False
    return top > -math.inf


@inner_numeric
def _forward_of_few(potentials, b, reach, origins, stop):
    """The same with the message in one register, storing back pointers."""
    K, P = potentials.transition.shape[2], potentials.transition.shape[3]
    r, steps = share_of(potentials.transition.shape[0], b), potentials.lengths[b]
    _begin(potentials, b, reach)
    top, t = largest(reach, 0, P), 1
    while t < steps and top > -math.inf:
        if stop[0]:
            return False
        for j in range(K):
            reach[j] -= top
        field, num = (b * potentials.log_field.shape[1] + t) * K, min(16, steps - t)
        max_origins_of_few(
            potentials.transition,
            potentials.log_field,
            reach,
            origins,
            r * K * P,
            field,
            t * P,
            K,
            num,
        )
        top = largest(reach, 0, P)
        t += num
    return top > -math.inf


@inner_numeric
def _top_of(values, at, num):
    """Index of the first of the largest potentials."""
    best = 0
    for k in range(1, num):
        if values[at + k] > values[at + best]:
            best = k
    return best


@inner_numeric
def _walk_back(potentials, b, steps, reach, states):
    K, P = potentials.turned.shape[2], potentials.turned.shape[3]
    r = share_of(potentials.turned.shape[0], b)
    best = _top_of(reach, (steps - 1) * P, K)
    states[b, steps - 1] = best
    for t in range(steps - 2, -1, -1):
        s = share_of(potentials.turned.shape[1], t)
        row = ((r * potentials.turned.shape[1] + s) * K + best) * P
        if P % 16 == 0:
            best = argmax_16(reach, potentials.turned, reach, t * P, row, P)
        else:
            best = argmax_4(reach, potentials.turned, reach, t * P, row, P)
        states[b, t] = best


@numeric
def best_k_rows(potentials, k, rows, states, scores, reach, origins, stop):
    """Find the ``k`` best paths of the given rows, best first.

    Args:
        potentials: Log potentials.
        k: Number of paths.
        rows: Indices of the rows, none of which is empty.
        states: ``(B, k, T)`` output; absent paths are left unchanged.
        scores: ``(B * k,)`` float64 output.
        reach: Scratch array of ``2 * K * k`` float64.
        origins: Scratch array of ``T * K * k`` int64: previous state times ``k`` plus its rank.
        stop: Checked for each state of each step.
    """
    K = potentials.log_field.shape[2]
    for b in rows:
        r = share_of(potentials.transition.shape[0], b)
        steps, old, new = potentials.lengths[b], 0, K * k
        start = share_of(potentials.initial.shape[0], b)
        for j in range(K):
            for m in range(k):
                reach[new + j * k + m] = -math.inf
            reach[new + j * k] = potentials.initial[start, j] + potentials.log_field[b, 0, j]
        for t in range(1, steps):
            old, new = new, old
            s = share_of(potentials.turned.shape[1], t - 1)
            for j in range(K):
                if stop[0]:
                    return
                at, origin_at = new + j * k, (t * K + j) * k
                for m in range(k):
                    reach[at + m] = -math.inf
                for i in range(K):
                    step = potentials.turned[r, s, j, i] + potentials.log_field[b, t, j]
                    merge(reach, origins, at, origin_at, k, reach, old + i * k, step, i * k)
        for m in range(k):
            scores[b * k + m] = -math.inf
        for j in range(K):
            merge(scores, origins, b * k, 0, k, reach, new + j * k, 0.0, j * k)
        for m in range(k):
            if stop[0]:
                return
            if scores[b * k + m] > -math.inf:
                at = origins[m]
                for t in range(steps - 1, -1, -1):
                    states[b, m, t] = at // k
                    at = origins[t * K * k + at]


@inner_numeric
def merge(values, origins, at, origin_at, k, source, source_at, step, first):
    """Merge two descending lists into the ``k`` largest; ties keep the entries of the first list.

    Args:
        values: First list, starting at ``at``; changed.
        origins: Back pointers of its entries, starting at ``origin_at``; changed.
        k: Length of both lists.
        source: Second list, starting at ``source_at``, to which ``step`` is added.
        first: Back pointer of its first entry; those of the next entries increase by one.
    """
    new = 0
    while new < k and source[source_at + new] + step > values[at + k - 1 - new]:
        new += 1
    old, place = k - new, k - 1
    while new > 0:
        value = source[source_at + new - 1] + step
        if old > 0 and value > values[at + old - 1]:
            old -= 1
            values[at + place] = values[at + old]
            origins[origin_at + place] = origins[origin_at + old]
        else:
            new -= 1
            values[at + place] = value
            origins[origin_at + place] = first + new
        place -= 1


@numeric
def draw_rows(potentials, log_alpha, rows, seed, states, weights, stop):
    """Draw paths of the given rows by backward sampling, given filtered probabilities.

    Args:
        potentials: Log potentials.
        log_alpha: ``(B, T, K)`` logs of p(z_t | x_1..t).
        rows: Indices of the rows, none of which is empty or impossible.
        seed: uint64; the draws of a row depend only on it and on the index of the row.
        states: ``(n, B, T)`` output.
        weights: Scratch array of ``K`` float64.
        stop: Checked at every step.
    """
    K = log_alpha.shape[2]
    for b in rows:
        r = share_of(potentials.turned.shape[0], b)
        stream = mix(seed + np.uint64(b) * GOLDEN)
        for n in range(states.shape[0]):
            best = 0
            for t in range(potentials.lengths[b] - 1, -1, -1):
                if stop[0]:
                    return
                s = share_of(potentials.turned.shape[1], t)
                top = -math.inf
                for k in range(K):
                    weights[k] = log_alpha[b, t, k]
                    if t < potentials.lengths[b] - 1:
                        weights[k] += potentials.turned[r, s, best, k]
                    top = max(top, weights[k])
                total = 0.0
                for k in range(K):
                    weights[k] = exp_below(weights[k] - top)
                    total += weights[k]
                stream += GOLDEN
                goal = float(mix(stream) >> np.uint64(11)) / 9007199254740992.0 * total
                best = 0
                for k in range(K):
                    if weights[k] > 0.0:
                        best = k
                        goal -= weights[k]
                        if goal < 0.0:
                            break
                states[n, b, t] = best
