"""Messages of sparse chains in log space, for rows whose numbers underflow."""

from __future__ import annotations

import math

from pgnn.inference.chains.kernels.arrays import exp_below, log_sum_of
from pgnn.inference.chains.kernels.row_messages import SMOOTH
from pgnn.inference.kernels.compiled import inner_numeric, numeric


@inner_numeric
def _log_sum(firsts, others, weights, state, x, at):
    """Log of the sum over the listed transitions of a state."""
    top, total = -math.inf, 0.0
    for m in range(firsts[state], firsts[state + 1]):
        top = max(top, x[at + others[m]] + weights[m])
    if top == -math.inf:
        return top
    for m in range(firsts[state], firsts[state + 1]):
        total += exp_below(x[at + others[m]] + weights[m] - top)
    return top + math.log(total)


@inner_numeric
def _forward(potentials, sums, label_of, b, alpha, stop):
    """Fill ``alpha`` with logs of filtered probabilities; return whether the row is possible."""
    S, start, steps = len(potentials.may_end), potentials.starts[b], potentials.lengths[b]
    log_z = 0.0
    for t in range(steps):
        if stop[0]:
            return True
        to = t * S
        for j in range(S):
            label = label_of[j]
            if t > 0:
                value = _log_sum(
                    potentials.incoming, potentials.sources, potentials.into, j, alpha, to - S
                )
            else:
                value = potentials.initial[label] if potentials.first[label] == j else -math.inf
            last = potentials.may_end[j] if t == steps - 1 else 0.0
            alpha[to + j] = value + potentials.log_field[0, start + t, label] + last
        total = log_sum_of(alpha, to, S)
        if len(sums.increments):
            sums.increments[start + t] = total
        log_z += total
        if total > -math.inf:
            for j in range(S):
                alpha[to + j] -= total
                if sums.labels.shape[1]:
                    sums.labels[0, start + t, label_of[j]] += exp_below(alpha[to + j])
        if total == -math.inf:
            _fill_impossible(sums, start + t, start + steps)
            break
    sums.log_z[b] = log_z
    return log_z > -math.inf


@inner_numeric
def _fill_impossible(sums, begin, end):
    for n in range(begin, end):
        if len(sums.increments) and n > begin:
            sums.increments[n] = math.nan
        if sums.labels.shape[1]:
            for k in range(sums.labels.shape[2]):
                sums.labels[0, n, k] = math.nan


@inner_numeric
def _backward(potentials, sums, label_of, weight, b, alpha, ahead, behind, room, stop):
    S, start, steps = len(potentials.may_end), potentials.starts[b], potentials.lengths[b]
    for j in range(S):
        ahead[j] = potentials.may_end[j]
    for t in range(steps - 1, -1, -1):
        if stop[0]:
            return
        for j in range(S):
            room[j] = alpha[t * S + j] + ahead[j]
        total = log_sum_of(room, 0, S)
        for k in range(sums.labels.shape[2]):
            sums.labels[0, start + t, k] = 0.0
        for j in range(S):
            sums.labels[0, start + t, label_of[j]] += exp_below(room[j] - total)
        if t + 1 < steps and len(sums.counts) and weight != 0.0:
            for i in range(S):
                for m in range(potentials.outgoing[i], potentials.outgoing[i + 1]):
                    value = alpha[t * S + i] + potentials.out_of[m] + behind[potentials.targets[m]]
                    sums.counts[m] += weight * exp_below(min(value - total, 0.0))
        if t > 0:
            size = log_sum_of(ahead, 0, S)
            for j in range(S):
                field = potentials.log_field[0, start + t, label_of[j]]
                behind[j] = field + ahead[j] - size
            for i in range(S):
                ahead[i] = _log_sum(
                    potentials.outgoing, potentials.targets, potentials.out_of, i, behind, 0
                )


@numeric
def sum_edge_rows_of_logs(
    potentials, sums, mode, label_of, rows, weights, alpha, ahead, behind, room, stop
):
    """Sum over all paths of the given rows in log space, see ``sum_edge_tiles``.

    Args:
        potentials: Log potentials.
        sums: Outputs; ``counts`` include the factors of the potentials; ``labels`` must be zero.
        mode: FORWARD, FILTER or SMOOTH.
        label_of: ``(S,)`` label of each state.
        rows: Indices of the rows, none of which is empty.
        weights: ``(B,)`` weights of the rows in ``sums.counts``.
        alpha: Scratch array of ``T * S`` numbers.
        ahead: Scratch array of ``S``.
        behind: Scratch array of ``S``.
        room: Scratch array of ``S``.
        stop: Checked at every step.
    """
    for b in rows:
        possible = _forward(potentials, sums, label_of, b, alpha, stop)
        if possible and mode == SMOOTH:
            _backward(potentials, sums, label_of, weights[b], b, alpha, ahead, behind, room, stop)
        elif mode == SMOOTH:
            start = potentials.starts[b]
            _fill_impossible(sums, start, start + potentials.lengths[b])
