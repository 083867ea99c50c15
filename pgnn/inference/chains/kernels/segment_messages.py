"""Messages of segment chains in log space, over a state and the remaining steps of its segment."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from numpy.typing import NDArray

from pgnn.inference.chains.kernels.arrays import log_sum_of
from pgnn.inference.kernels.compiled import inner_numeric, numeric

Floats = NDArray[Any]


class SegmentPotentials(NamedTuple):
    """Log potentials in float64; ``turned`` is the transposed transition."""

    initial: Floats
    transition: Floats
    turned: Floats
    duration: Floats
    field: Floats
    lengths: Floats


class SegmentSums(NamedTuple):
    """Outputs in float64: ``(B,)``, ``(B, T, K)``, ``(K,)``, ``(K, K)``, ``(K, D)``."""

    log_z: Floats
    marginals: Floats
    initial: Floats
    transitions: Floats
    durations: Floats


@inner_numeric
def _add(x, y):
    """Log of the sum of two exponentials."""
    if x < y:
        x, y = y, x
    if y == -math.inf:
        return x
    return x + math.log1p(math.exp(y - x))


@inner_numeric
def _forward(potentials, b, steps, alpha, room, stop):
    """Fill ``alpha``, ``(T, K, D)``, with logs of messages."""
    K, D = potentials.duration.shape
    for t in range(steps):
        if stop[0]:
            return
        to = t * K * D
        for k in range(K):
            if t == 0:
                entered = potentials.initial[k]
            else:
                for i in range(K):
                    room[i] = alpha[to - K * D + i * D] + potentials.turned[k, i]
                entered = log_sum_of(room, 0, K)
            for r in range(D):
                value = entered + potentials.duration[k, r]
                if t > 0 and r + 1 < D:
                    value = _add(value, alpha[to - K * D + k * D + r + 1])
                alpha[to + k * D + r] = value + potentials.field[b, t, k]


@inner_numeric
def _backward(potentials, sums, weight, b, steps, alpha, ahead, room, log_z, censored, stop):
    """Add sums of products of messages; ``ahead`` holds the backward messages."""
    K, D = potentials.duration.shape
    size = K * D
    for k in range(K):
        for r in range(D):
            ahead[k * D + r] = 0.0 if censored or r == 0 else -math.inf
    for t in range(steps - 1, -1, -1):
        if stop[0]:
            return
        at = t * size
        for k in range(K):
            total = 0.0
            for r in range(D):
                total += math.exp(min(alpha[at + k * D + r] + ahead[k * D + r] - log_z, 0.0))
            sums.marginals[b, t, k] = total
        for k in range(K):  # a segment of state k begins
            for r in range(D):
                room[K + r] = potentials.duration[k, r] + ahead[k * D + r]
            begins = potentials.field[b, t, k]
            if t == 0:
                entered = potentials.initial[k]
            else:
                for i in range(K):
                    room[i] = alpha[at - size + i * D] + potentials.turned[k, i]
                entered = log_sum_of(room, 0, K)
            for r in range(D):
                value = entered + begins + room[K + r] - log_z
                share = weight * math.exp(min(value, 0.0))
                sums.durations[k, r] += share
                if t == 0:
                    sums.initial[k] += share
            onward = begins + log_sum_of(room, K, D)
            ahead[size + k] = onward
            if t > 0:
                for i in range(K):
                    value = room[i] + onward - log_z
                    sums.transitions[i, k] += weight * math.exp(min(value, 0.0))
        if t > 0:
            for k in range(K):
                for r in range(D - 1, 0, -1):
                    ahead[k * D + r] = ahead[k * D + r - 1] + potentials.field[b, t, k]
                for j in range(K):
                    room[j] = potentials.transition[k, j] + ahead[size + j]
                ahead[k * D] = log_sum_of(room, 0, K)


@numeric
def sum_segments(potentials, sums, rows, weights, censored, alpha, ahead, room, stop):
    """Sum over all segmentations of the given rows.

    Args:
        rows: Indices of the rows, none of which is empty.
        weights: ``(B,)`` weights of the rows in the sums; if empty, only log Z is computed.
        censored: Whether the last segment may outlast its row.
        alpha: Scratch array of ``T * K * D`` potentials.
        ahead: Scratch array of ``K * D + K``.
        room: Scratch array of ``K + max(K, D)``.
        stop: Checked at every step.
    """
    K, D = potentials.duration.shape
    for b in rows:
        steps = potentials.lengths[b]
        _forward(potentials, b, steps, alpha, room, stop)
        last = (steps - 1) * K * D
        if censored:
            log_z = log_sum_of(alpha, last, K * D)
        else:
            for k in range(K):
                room[k] = alpha[last + k * D]
            log_z = log_sum_of(room, 0, K)
        sums.log_z[b] = log_z
        if len(weights) and log_z > -math.inf:
            _backward(
                potentials, sums, weights[b], b, steps, alpha, ahead, room, log_z, censored, stop
            )
        elif len(weights):
            for t in range(steps):
                for k in range(K):
                    sums.marginals[b, t, k] = math.nan
