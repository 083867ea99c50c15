"""Sums over the alignments of label sequences, one row after another.

The states of a row with ``u`` labels are ``u + 1`` blanks and ``u`` labels. A message holds the
blanks first and then the labels, so that a step consists of a few sums over neighbours, which the
compiler vectorises.
"""

from __future__ import annotations

import math

from pgnn.inference.chains.kernels.arrays import exp_below
from pgnn.inference.kernels.compiled import inner_numeric, numeric


@inner_numeric
def _emit(log_probs, labels, b, t, u, emission, at):
    """Fill the emissions of ``u`` labels and of the blank, divided by the largest of them."""
    blank = log_probs[b, t, 0]
    top = blank
    for i in range(u):
        x = log_probs[b, t, labels[b, i]]
        emission[at + i] = x
        top = max(top, x)
    if top == -math.inf:
        top = 0.0
    emission[at + u] = blank
    for i in range(u + 1):
        emission[at + i] = exp_below(emission[at + i] - top)
    return top


@inner_numeric
def _begin(alpha, emission, steps, u):
    """Fill the message of the first step: the first blank or the first label."""
    for i in range(2 * u + 1):
        alpha[i] = 0.0
    if u < steps:
        alpha[0] = emission[u]
    if 0 < u <= steps:
        alpha[u + 1] = emission[0]


@inner_numeric
def _advance(alpha, to, emission, at, skips, t, steps, u):
    """Fill the message of a step from the one before, for states that can reach the end."""
    before, size = to - (2 * u + 1), 2 * u + 1
    for i in range(size):
        alpha[to + i] = 0.0
    first, last = u - (steps - t), min(u, t + 1)
    for i in range(max(1, first), last):
        label = before + u + 1 + i
        way = alpha[label] + alpha[before + i] + skips[i] * alpha[label - 1]
        alpha[to + u + 1 + i] = way * emission[at + i]
    if first <= 0 and u > 0:
        alpha[to + u + 1] = (alpha[before + u + 1] + alpha[before]) * emission[at]
    for i in range(max(1, first + 1), last + 1):
        alpha[to + i] = (alpha[before + i] + alpha[before + u + i]) * emission[at + u]
    if first < 0:
        alpha[to] = alpha[before] * emission[at + u]


@inner_numeric
def _retreat(ahead, size, emission, at, skips, u):
    """Replace the backward message of a step by that of the step before, scaled to sum to one."""
    for i in range(u):
        ahead[size + u + 1 + i] = ahead[u + 1 + i] * emission[at + i]
    for i in range(u + 1):
        ahead[size + i] = ahead[i] * emission[at + u]
    for i in range(u):
        ahead[i] = ahead[size + i] + ahead[size + u + 1 + i]
        ahead[u + 1 + i] = ahead[size + u + 1 + i] + ahead[size + i + 1]
    ahead[u] = ahead[size + u]
    for i in range(u - 1):
        ahead[u + 1 + i] += skips[i + 1] * ahead[size + u + 2 + i]
    total = 0.0
    for i in range(size):
        total += ahead[i]
    if total > 0.0:
        for i in range(size):
            ahead[i] /= total


@inner_numeric
def _forward(log_probs, labels, b, end, u, alpha, emission, skips, stop):
    """Fill the normalised messages of a row; return the log sum, ``-inf`` if impossible."""
    size, total = 2 * u + 1, 0.0
    for t in range(end):
        if stop[0]:
            return -math.inf
        total += _emit(log_probs, labels, b, t, u, emission, t * (u + 1))
        if t == 0:
            _begin(alpha, emission, end, u)
        else:
            _advance(alpha, t * size, emission, t * (u + 1), skips, t, end, u)
        mass = 0.0
        for i in range(size):
            mass += alpha[t * size + i]
        if not mass > 0.0:
            return -math.inf
        for i in range(size):
            alpha[t * size + i] /= mass
        total += math.log(mass)
    return total


@inner_numeric
def _backward(labels, b, end, u, occupancy, alpha, emission, skips, ahead, stop):
    """Add the posterior of symbols in a row; return the smallest overlap of both messages."""
    size, least = 2 * u + 1, 1.0
    for i in range(size):
        ahead[i] = 0.0
    ahead[u] = 1.0
    if u > 0:
        ahead[2 * u] = 1.0
    for t in range(end - 1, -1, -1):
        if stop[0]:
            return least
        met = 0.0
        for i in range(size):
            met += alpha[t * size + i] * ahead[i]
        least = min(least, met)
        if not met > 0.0:
            return least
        if occupancy.shape[2]:
            for i in range(u + 1):
                occupancy[b, t, 0] += alpha[t * size + i] * ahead[i] / met
            for i in range(u):
                share = alpha[t * size + u + 1 + i] * ahead[u + 1 + i] / met
                occupancy[b, t, labels[b, i]] += share
        if t > 0:
            _retreat(ahead, size, emission, t * (u + 1), skips, u)
    return least


@numeric
def align_rows(
    log_probs, labels, steps, sizes, rows, log_z, trust, occupancy, alpha, emission, skips, ahead,
    stop,
):  # fmt: skip
    """Sum over all alignments of the given rows.

    Args:
        log_probs: ``(B, T, K)`` log probabilities of symbols, the blank first.
        labels: ``(B, U)`` symbols of the labels.
        steps: ``(B,)`` number of steps of each row.
        sizes: ``(B,)`` number of labels of each row.
        rows: Indices of the rows, none of which is empty.
        log_z: ``(B,)`` output.
        trust: ``(B,)`` output; tiny in rows that may be affected by underflow.
        occupancy: ``(B, T, K)`` output, to which posteriors of symbols are added; may be empty.
        alpha: Scratch array of ``T (2 U + 1)`` numbers.
        emission: Scratch array of ``T (U + 1)``.
        skips: Scratch array of ``U``.
        ahead: Scratch array of ``2 (2 U + 1)``.
        stop: Checked at every step.
    """
    for b in rows:
        u, end = sizes[b], steps[b]
        for i in range(1, u):
            skips[i] = 1.0 if labels[b, i] != labels[b, i - 1] else 0.0
        log_z[b] = _forward(log_probs, labels, b, end, u, alpha, emission, skips, stop)
        trust[b] = 0.0
        if log_z[b] > -math.inf:
            trust[b] = _backward(labels, b, end, u, occupancy, alpha, emission, skips, ahead, stop)
        if stop[0]:
            return
