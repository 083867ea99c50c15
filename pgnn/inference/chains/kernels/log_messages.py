"""Messages in log space, for rows whose numbers underflow."""

from __future__ import annotations

import math

from pgnn.inference.chains.kernels.arrays import exp_below, log_sum_of, share_of
from pgnn.inference.chains.kernels.row_messages import SMOOTH
from pgnn.inference.kernels.compiled import inner_numeric, numeric


@inner_numeric
def _advance(x, at, matrix, r, s, out, to, tops):
    """Product of a row vector and a matrix, in log space."""
    K = matrix.shape[2]
    for j in range(K):
        tops[j] = -math.inf
        out[to + j] = 0.0
    for i in range(K):
        for j in range(K):
            tops[j] = max(tops[j], x[at + i] + matrix[r, s, i, j])
    for j in range(K):
        if tops[j] == -math.inf:
            tops[j] = 0.0
    for i in range(K):
        if x[at + i] > -math.inf:
            for j in range(K):
                out[to + j] += exp_below(x[at + i] + matrix[r, s, i, j] - tops[j])
    for j in range(K):
        out[to + j] = tops[j] + (math.log(out[to + j]) if out[to + j] > 0.0 else -math.inf)


@inner_numeric
def _forward(potentials, sums, b, steps, alpha, room, stop):
    """Fill ``alpha`` with logs of filtered probabilities; return whether the row is possible."""
    K = potentials.log_field.shape[2]
    r = share_of(potentials.transition.shape[0], b)
    log_z = 0.0
    for t in range(steps):
        if stop[0]:
            return True
        to = t * K
        if t == 0:
            start = share_of(potentials.initial.shape[0], b)
            for j in range(K):
                alpha[j] = potentials.initial[start, j]
        else:
            s = share_of(potentials.transition.shape[1], t - 1)
            _advance(alpha, to - K, potentials.transition, r, s, alpha, to, room)
        for j in range(K):
            alpha[to + j] += potentials.log_field[b, t, j]
        total = log_sum_of(alpha, to, K)
        if sums.increments.shape[1]:
            sums.increments[b, t] = total
        log_z += total
        if total == -math.inf:
            sums.log_z[b] = total
            _fill_impossible(sums, b, t, steps)
            return False
        for j in range(K):
            alpha[to + j] -= total
            if sums.states.shape[2]:
                sums.states[b, t, j] = alpha[to + j]
    sums.log_z[b] = log_z
    return True


@inner_numeric
def _fill_impossible(sums, b, first, steps):
    for t in range(first, steps):
        if sums.increments.shape[1] and t > first:
            sums.increments[b, t] = math.nan
        for j in range(sums.states.shape[2]):
            sums.states[b, t, j] = math.nan


@inner_numeric
def _backward(potentials, sums, weight, b, steps, alpha, ahead, room, stop):
    K = potentials.log_field.shape[2]
    r = share_of(potentials.transition.shape[0], b)
    for j in range(K):
        ahead[j] = 0.0
    for t in range(steps - 1, -1, -1):
        if stop[0]:
            return
        at = t * K
        for j in range(K):
            room[j] = alpha[at + j] + ahead[j]
        total = log_sum_of(room, 0, K)
        for j in range(K):
            sums.states[b, t, j] = room[j] - total
        if t + 1 < steps and sums.pairs.shape[2] and weight != 0.0:
            s = share_of(potentials.transition.shape[1], t)
            row, step = share_of(sums.pairs.shape[0], b), share_of(sums.pairs.shape[1], t)
            for i in range(K):
                for j in range(K):
                    value = alpha[at + i] + potentials.transition[r, s, i, j] + ahead[K + j]
                    sums.pairs[row, step, i, j] += weight * exp_below(min(value - total, 0.0))
        if t > 0:
            size = log_sum_of(ahead, 0, K)
            for j in range(K):
                ahead[K + j] = potentials.log_field[b, t, j] + ahead[j] - size
            s = share_of(potentials.turned.shape[1], t - 1)
            _advance(ahead, K, potentials.turned, r, s, ahead, 0, room)


@numeric
def sum_rows_of_logs(potentials, sums, mode, rows, weights, alpha, ahead, room, stop):
    """Sum over all paths of the given rows in log space and float64, see ``sum_rows``.

    Args:
        potentials: Log potentials; the scales are not used.
        sums: Outputs; ``states`` are log probabilities, ``pairs`` sums of probabilities.
        mode: FORWARD, FILTER or SMOOTH.
        rows: Indices of the rows, none of which is empty.
        weights: ``(B,)`` weights of the rows in ``sums.pairs``.
        alpha: Scratch array of ``T * K`` potentials.
        ahead: Scratch array of ``2 * K``.
        room: Scratch array of ``K``.
        stop: Checked at every step.
    """
    for b in rows:
        steps = potentials.lengths[b]
        possible = _forward(potentials, sums, b, steps, alpha, room, stop)
        if possible and mode == SMOOTH:
            _backward(potentials, sums, weights[b], b, steps, alpha, ahead, room, stop)
        elif not possible and mode == SMOOTH:
            _fill_impossible(sums, b, 0, steps)
