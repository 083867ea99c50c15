"""Forward and backward messages of one row after another; inner loops run over states."""

from __future__ import annotations

import math

from pgnn.inference.kernels.chain_numbers import exp_below, share_of
from pgnn.inference.kernels.propagation_algebra import inner_numeric, numeric

FORWARD = 0
"""log Z alone."""

FILTER = 1
"""Also p(z_t | x_1..t) and log p(x_t | x_<t)."""

SMOOTH = 2
"""Also p(z_t | x_1..T), and pairs of states."""


@inner_numeric
def _emissions(field, b, steps, emission, tops):
    """Exponentials of a row's field, each step divided by its largest one, whose log is kept."""
    K = field.shape[2]
    real = field.dtype.type
    for t in range(steps):
        top = real(-math.inf)
        for k in range(K):
            top = max(top, field[b, t, k])
        if top == -math.inf:
            top = real(0.0)
        tops[t] = top
        for k in range(K):
            emission[t * K + k] = field[b, t, k] - top
    for k in range(steps * K):
        emission[k] = exp_below(emission[k])


@inner_numeric
def _advance(x, at, matrix, r, s, out, to):
    """Product of a row vector and a matrix."""
    K = matrix.shape[2]
    x0 = x[at]
    for j in range(K):
        out[to + j] = x0 * matrix[r, s, 0, j]
    first = 1 + (K - 1) % 4
    for i in range(1, first):
        x0 = x[at + i]
        for j in range(K):
            out[to + j] += x0 * matrix[r, s, i, j]
    for i in range(first, K, 4):
        x0, x1, x2, x3 = x[at + i], x[at + i + 1], x[at + i + 2], x[at + i + 3]
        for j in range(K):
            out[to + j] += (
                x0 * matrix[r, s, i, j] + x1 * matrix[r, s, i + 1, j]
            ) + (x2 * matrix[r, s, i + 2, j] + x3 * matrix[r, s, i + 3, j])  # fmt: skip


@inner_numeric
def _forward(numbers, sums, mode, dense, b, steps, emission, tops, alpha):
    """Fill ``alpha`` with forward messages, each as it comes from the normalised one before."""
    K = numbers.log_field.shape[2]
    real = numbers.log_field.dtype.type
    r = share_of(numbers.transition.shape[0], b)
    start = share_of(numbers.initial.shape[0], b)
    log_z, part = 0.0, numbers.initial_scale[start]
    product, inverse, trust = 1.0, real(1.0), 1.0
    for t in range(steps):
        to = t * K
        if t == 0:
            for j in range(K):
                alpha[j] = numbers.initial[start, j]
        else:
            s = share_of(numbers.transition.shape[1], t - 1)
            _advance(alpha, to - K, numbers.transition, r, s, alpha, to)
            part += numbers.transition_scale[r, s]
        total, least = real(0.0), real(math.inf)
        for j in range(K):
            value = alpha[to + j] * (emission[to + j] * inverse)
            alpha[to + j] = value
            total += value
            least = min(least, value)
        if not total > 0.0:
            sums.log_z[b] = -math.inf
            sums.trust[b] = 0.0
            return False
        trust = min(trust, float(total) if dense else min(float(total), least / total))
        inverse = real(1.0) / total
        part += tops[t]
        if t % 64 == 0:  # sums of few numbers, which lose fewer digits
            log_z += part
            part = 0.0
        product *= total
        if product < 1e-100 or product > 1e100:
            part += math.log(product)
            product = 1.0
        if mode == FILTER:
            for j in range(K):
                sums.states[b, t, j] = alpha[to + j] * inverse
            step = math.log(total) + tops[t]
            if t == 0:
                step += numbers.initial_scale[start]
            else:
                step += numbers.transition_scale[r, share_of(numbers.transition.shape[1], t - 1)]
            sums.increments[b, t] = step
    sums.log_z[b] = log_z + (part + math.log(product))
    sums.trust[b] = trust
    return True


@inner_numeric
def _backward(numbers, sums, weight, b, steps, emission, alpha, ahead):
    """Multiply forward messages by backward messages, into marginals and sums of pairs."""
    K = numbers.log_field.shape[2]
    real = numbers.log_field.dtype.type
    r = share_of(numbers.transition.shape[0], b)
    trust, inverse = 1.0, real(1.0)
    for j in range(K):
        ahead[j] = real(1.0)
    for t in range(steps - 1, -1, -1):
        at = t * K
        total, size = real(0.0), real(0.0)
        for j in range(K):
            value = ahead[j] * alpha[at + j]
            size += ahead[j]
            sums.states[b, t, j] = value
            total += value
        trust = min(trust, float(total))
        inverse = real(1.0) / total if total > 0.0 else real(0.0)
        for j in range(K):
            sums.states[b, t, j] *= inverse
        if t + 1 < steps and sums.pairs.shape[2] and weight != 0.0:
            _count(sums.pairs, share_of(sums.pairs.shape[0], b),
                   share_of(sums.pairs.shape[1], t), alpha, at, ahead, K,
                   real(weight) * inverse)  # fmt: skip
        if t > 0:
            inverse = real(1.0) / size if size > 0.0 else real(0.0)
            for j in range(K):
                ahead[K + j] = emission[at + j] * (ahead[j] * inverse)
            s = share_of(numbers.turned.shape[1], t - 1)
            _advance(ahead, K, numbers.turned, r, s, ahead, 0)
    sums.trust[b] = trust


@inner_numeric
def _count(pairs, r, s, alpha, at, ahead, K, weight):
    """Add the outer product of a forward message and what comes back along the transition."""
    for i in range(K):
        x = alpha[at + i] * weight
        for j in range(K):
            pairs[r, s, i, j] += x * ahead[K + j]


@numeric
def sum_rows(numbers, sums, mode, dense, rows, weights, emission, tops, alpha, ahead):
    """Sum over all paths of some rows.

    Args:
        mode: FORWARD, FILTER or SMOOTH.
        dense: Whether tiny forward messages do no harm, as every transition is possible.
        rows: Which ones; none is empty.
        weights: ``(B,)`` what a row counts in ``sums.pairs``.
        emission: Room for ``T * K`` numbers.
        tops: For ``T`` float64.
        alpha: For ``T * K``.
        ahead: For ``2 * K``.
    """
    for b in rows:
        steps = numbers.lengths[b]
        _emissions(numbers.log_field, b, steps, emission, tops)
        possible = _forward(numbers, sums, mode, dense, b, steps, emission, tops, alpha)
        if possible and mode == SMOOTH:
            _backward(numbers, sums, weights[b], b, steps, emission, alpha, ahead)
