"""Forward and backward messages, one row after another; vectors run over states."""

from __future__ import annotations

import math

from pgnn.inference.chains.kernels.arrays import exp_below, harmless, share_of
from pgnn.inference.chains.kernels.row_steps import (
    begin_step,
    row_audit,
    row_emit,
    row_meet,
    row_multiply,
    row_scale,
)
from pgnn.inference.chains.kernels.vector_registers import (
    row_add_4,
    row_add_8,
    row_add_32,
    row_sum_4,
    row_sum_8,
    row_sum_32,
)
from pgnn.inference.kernels.compiled import inner_numeric, numeric

FORWARD = 0
"""Compute log Z alone."""

FILTER = 1
"""Also compute p(z_t | x_1..t) and log p(x_t | x_<t)."""

SMOOTH = 2
"""Also compute p(z_t | x_1..T), and pairs of states."""

STEPS = 128
"""Number of steps whose emissions are computed at once."""

PAIRS = 32
"""Number of steps whose pairs are counted together."""


@inner_numeric
def _emissions(field, b, begin, end, emission, tops, P):
    """Exponentiate the field of some steps, divided by the largest of each, whose log is stored."""
    K = field.shape[2]
    for t in range(end - begin):
        at = (b * field.shape[1] + begin + t) * K
        tops[t] = begin_step(field, emission, at, t * P, K, P)
    for k in range((end - begin) * P):
        emission[k] = exp_below(emission[k])


@inner_numeric
def _advance(x, at, matrix, r, s, out, to):
    """Product of a row vector and a matrix."""
    K, P = matrix.shape[2], matrix.shape[3]
    first = (r * matrix.shape[1] + s) * K * P
    j = 0
    while j + 32 <= P:
        row_sum_32(matrix, x, out, first + j, P, at, 1, to + j, K)
        j += 32
    while j + 8 <= P:
        row_sum_8(matrix, x, out, first + j, P, at, 1, to + j, K)
        j += 8
    if j < P:
        row_sum_4(matrix, x, out, first + j, P, at, 1, to + j, K)


@inner_numeric
def _forward(potentials, sums, mode, dense, b, steps, emission, tops, alpha, base, ahead, stop):
    """Fill ``alpha`` with forward messages, each computed from the normalised one before it."""
    K, P = potentials.transition.shape[2], potentials.transition.shape[3]
    real = potentials.log_field.dtype.type
    r = share_of(potentials.transition.shape[0], b)
    start = share_of(potentials.initial.shape[0], b)
    log_z, part = 0.0, potentials.initial_scale[start]
    product, inverse, trust = 1.0, real(1.0), 1.0
    to = base
    for t in range(steps):
        before = to
        to = base + (t if mode == SMOOTH else t % 2) * P
        if t % STEPS == 0:
            if stop[0]:
                return False
            _emissions(potentials.log_field, b, t, min(t + STEPS, steps), emission, tops, P)
        slot = t % STEPS
        scale = potentials.initial_scale[start]
        if t == 0:
            for j in range(P):
                alpha[to + j] = potentials.initial[start, j] if j < K else real(0.0)
        else:
            s = share_of(potentials.transition.shape[1], t - 1)
            _advance(alpha, before, potentials.transition, r, s, alpha, to)
            scale = potentials.transition_scale[r, s]
            part += scale
        total = row_emit(alpha, emission, to, slot * P, P, inverse)
        if not total > 0.0:
            sums.log_z[b] = -math.inf
            sums.trust[b] = 0.0
            return False
        trust = min(trust, float(total))
        if mode != SMOOTH and not dense:
            lost = _audit(potentials, r, t, emission, slot * P, ahead, inverse)
            if not lost < harmless(potentials.log_field.itemsize) * total:
                trust = 0.0
        inverse = real(1.0) / total
        part += tops[slot]
        product *= total
        if product < 1e-50 or product > 1e50:
            part += math.log(product)
            product = 1.0
        if t % 64 == 0:  # partial sums of few numbers, for precision
            log_z += part
            part = 0.0
        if mode == FILTER:
            first = (b * sums.states.shape[1] + t) * K
            row_scale(alpha, sums.states, to, first, K, inverse)
            sums.increments[b, t] = math.log(total) + tops[slot] + scale
    sums.log_z[b] = log_z + (part + math.log(product))
    sums.trust[b] = trust
    return True


@inner_numeric
def _audit(potentials, r, t, emission, at, ahead, inverse):
    """Bound the loss of the message to underflow, at this step and before."""
    P = potentials.transition.shape[3]
    before, to = ((t - 1) % 2) * P, (t % 2) * P
    if t == 0:
        for j in range(P):
            ahead[j] = 0.0
    else:
        s = share_of(potentials.transition.shape[1], t - 1)
        _advance(ahead, before, potentials.transition, r, s, ahead, to)
    return row_audit(ahead, emission, to, at, P, inverse)


@inner_numeric
def _backward(potentials, sums, weight, b, steps, emission, tops, alpha, base, ahead, stop):
    """Multiply forward by backward messages, and add to marginals and sums of pairs."""
    K, P = potentials.turned.shape[2], potentials.turned.shape[3]
    real = potentials.log_field.dtype.type
    r = share_of(potentials.turned.shape[0], b)
    pair_row = share_of(sums.pairs.shape[0], b)
    together = 1 if sums.pairs.shape[1] > 1 else PAIRS
    left, right = P, P + PAIRS * P  # offsets of buffered messages of pairs
    counting = sums.pairs.shape[2] > 0 and weight != 0.0
    trust, waiting = 1.0, 0
    for j in range(P):
        ahead[j] = real(1.0) if j < K else real(0.0)
    for t in range(steps - 1, -1, -1):
        at, slot = base + t * P, t % STEPS
        if t == steps - 1 or slot == STEPS - 1:
            if stop[0]:
                return
            _emissions(potentials.log_field, b, t - slot, t + 1, emission, tops, P)
        total, size = row_meet(ahead, alpha, 0, at, P)
        trust = min(trust, float(total))
        inverse = real(1.0) / total if total > 0.0 else real(0.0)
        if counting and t + 1 < steps:
            factor = inverse * real(weight)
            row_scale(alpha, ahead, at, left + waiting * P, P, factor)
            waiting += 1
            if waiting == together or t == 0:
                s = share_of(sums.pairs.shape[1], t)
                _count(sums.pairs, pair_row, s, ahead, left, ahead, right, waiting)
                waiting = 0
        first = (b * sums.states.shape[1] + t) * K
        row_multiply(ahead, alpha, sums.states, 0, at, first, K, inverse)
        if t > 0:
            inverse = real(1.0) / size if size > 0.0 else real(0.0)
            back = slot * P
            row_multiply(emission, ahead, emission, back, 0, back, P, inverse)
            if counting:
                row_scale(emission, ahead, back, right + waiting * P, P, real(1.0))
            s = share_of(potentials.turned.shape[1], t - 1)
            _advance(emission, slot * P, potentials.turned, r, s, ahead, 0)
    sums.trust[b] = trust


@inner_numeric
def _count(pairs, r, s, left, left_at, right, right_at, num):
    """Add outer products of forward messages and of backward messages at the next step."""
    K, P = pairs.shape[2], pairs.shape[3]
    for i in range(K):
        to, j = ((r * pairs.shape[1] + s) * K + i) * P, 0
        while j + 32 <= P:
            row_add_32(right, left, pairs, right_at + j, P, left_at + i, P, to + j, num)
            j += 32
        while j + 8 <= P:
            row_add_8(right, left, pairs, right_at + j, P, left_at + i, P, to + j, num)
            j += 8
        if j < P:
            row_add_4(right, left, pairs, right_at + j, P, left_at + i, P, to + j, num)


@numeric
def sum_rows(potentials, sums, mode, dense, rows, weights, emission, tops, alpha, ahead, stop):
    """Sum over all paths of the given rows.

    Args:
        mode: FORWARD, FILTER or SMOOTH.
        dense: Whether underflow is harmless because every transition is possible. Otherwise, and if
            mode is not SMOOTH, the loss is bounded.
        rows: Indices of the rows, none of which is empty.
        weights: ``(B,)`` weights of the rows in ``sums.pairs``.
        emission: Scratch array of ``STEPS * P`` potentials.
        tops: Scratch array of ``STEPS`` float64.
        alpha: Scratch array of two steps of ``P`` potentials, or ``T`` if mode is SMOOTH; must be
            the flat ``sums.states`` if mode is SMOOTH and K is P.
        ahead: Scratch array of ``(1 + 2 * PAIRS) * P``.
        stop: Checked every ``STEPS`` steps.
    """
    P = potentials.transition.shape[3]
    in_place = mode == SMOOTH and potentials.log_field.shape[2] == P
    for b in rows:
        steps = potentials.lengths[b]
        base = b * potentials.log_field.shape[1] * P if in_place else 0
        possible = _forward(
            potentials, sums, mode, dense, b, steps, emission, tops, alpha, base, ahead, stop
        )
        if possible and mode == SMOOTH:
            _backward(
                potentials, sums, weights[b], b, steps, emission, tops, alpha, base, ahead, stop
            )
