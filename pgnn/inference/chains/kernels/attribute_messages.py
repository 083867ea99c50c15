"""Likelihood of labels whose scores are sums of attribute weights, and its gradient, in one pass.

Sequences are processed one by one, so that scores, messages and marginals of a sequence stay in the
nearest cache, and nothing is stored for all steps.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from numpy.typing import NDArray

from pgnn.inference.chains.kernels.arrays import exp_below
from pgnn.inference.chains.kernels.row_gathers import (
    COLUMNS,
    gather_names,
    gather_values,
    scatter_names,
    scatter_values,
)
from pgnn.inference.chains.kernels.vector_registers import row_add_8, row_sum_8
from pgnn.inference.kernels.compiled import inner_numeric, numeric

Floats = NDArray[Any]
Ints = NDArray[Any]

LEAST = 1e-200
"""Smallest message at which underflow is still harmless."""
DENSE = 1e-60
"""If every transition is at least this share of the largest, underflow is always harmless."""


class AttributeSteps(NamedTuple):
    """Attributes and labels of the ``N`` steps of all sequences."""

    begins: Ints
    """``(B + 1,)`` int64: offsets of the sequences."""
    starts: Ints
    """``(N + 1,)`` int64: offsets of the attributes of the steps."""
    lone: Ints
    """``(N,)`` int64: offset of the attributes of a step that have a weight for one label only."""
    numbers: Ints
    """``(M,)`` int32: row in the table, or index among the lone weights, of each attribute."""
    values: Floats
    """``(M,)`` values of the attributes; ``(0,)`` if all are one."""
    labels: Ints
    """``(N,)`` int64 labels."""


class AttributeWeights(NamedTuple):
    """Scores of a chain, or derivatives with respect to them; ``K`` columns, padded to ``P``."""

    table: Floats
    """``(D, P)`` weights of attributes with several labels."""
    lone: Floats
    """``(S,)`` weights of attributes with one label."""
    lone_labels: Ints
    """``(S,)`` int64 labels of the lone weights."""
    first: Floats
    """``(P,)`` scores of the first label."""
    last: Floats
    """``(P,)`` scores of the last label."""
    moves: Floats
    """``(K, P)`` scores of transitions from row to column."""


@inner_numeric
def score_steps(steps, weights, first, num, out):
    """Fill ``out``, ``(num, P)``, with the scores of the steps of a sequence."""
    P = weights.table.shape[1]
    for t in range(num):
        at, n = t * P, first + t
        for k in range(P):
            out[t, k] = 0.0
        begin, end, stop = steps.starts[n], steps.lone[n], steps.starts[n + 1]
        for k in range(0, P, COLUMNS):
            if steps.values.shape[0]:
                gather_values(weights.table, steps.numbers, steps.values, out, begin, end, P, k,
                              at + k)  # fmt: skip
            else:
                gather_names(weights.table, steps.numbers, steps.values, out, begin, end, P, k,
                             at + k)  # fmt: skip
        for m in range(end, stop):
            s = steps.numbers[m]
            value = steps.values[m] if steps.values.shape[0] else 1.0
            out[t, weights.lone_labels[s]] += value * weights.lone[s]
    for k in range(P):
        out[0, k] += weights.first[k]
        out[num - 1, k] += weights.last[k]


@inner_numeric
def spread_steps(steps, gradient, first, num, upstream):
    """Backpropagate ``(num, P)`` derivatives of the scores of a sequence to the weights."""
    P = gradient.table.shape[1]
    for t in range(num):
        at, n = t * P, first + t
        begin, end, stop = steps.starts[n], steps.lone[n], steps.starts[n + 1]
        for k in range(0, P, COLUMNS):
            if steps.values.shape[0]:
                scatter_values(gradient.table, steps.numbers, steps.values, upstream, begin, end,
                               P, k, at + k)  # fmt: skip
            else:
                scatter_names(gradient.table, steps.numbers, steps.values, upstream, begin, end,
                              P, k, at + k)  # fmt: skip
        for m in range(end, stop):
            s = steps.numbers[m]
            value = steps.values[m] if steps.values.shape[0] else 1.0
            gradient.lone[s] += value * upstream[t, gradient.lone_labels[s]]
    for k in range(P):
        gradient.first[k] += upstream[0, k]
        gradient.last[k] += upstream[num - 1, k]


@inner_numeric
def _score(weights, labels, scores):
    """Return the score of labels."""
    total = 0.0
    for t in range(len(labels)):
        total += scores[t, labels[t]]
        if t:
            total += weights.moves[labels[t - 1], labels[t]]
    return total


@inner_numeric
def _exponentiate(scores, num, K):
    """Exponentiate scores, divided by the largest of each step; return the log of the divisors."""
    total = 0.0
    for t in range(num):
        top = -math.inf
        for k in range(K):
            top = max(top, scores[t, k])
        total += top
        if top == -math.inf:
            return total
        for k in range(scores.shape[1]):
            scores[t, k] = exp_below(scores[t, k] - top)
        for k in range(K, scores.shape[1]):
            scores[t, k] = 0.0
    return total


@inner_numeric
def _forward(emission, moves, reach, num, alpha, inverse):
    """Fill normalised messages and inverse normalisers; return log Z and a measure of underflow.

    The measure is the smallest ratio of a normaliser to its upper bound; if it is tiny, the result
    may be affected by underflow.
    """
    K, P = moves.shape
    logs, product, fall, least = 0.0, 1.0, 1.0, 1.0
    for t in range(num):
        most = 1.0
        if t == 0:
            for k in range(P):
                alpha[0, k] = emission[0, k]
        else:
            for k in range(0, P, COLUMNS):
                row_sum_8(moves, alpha, alpha, k, P, (t - 1) * P, 1, t * P + k, K)
            most = 0.0
            for k in range(P):
                alpha[t, k] *= emission[t, k]
                most = max(most, reach[k] * emission[t, k])
        total = 0.0
        for k in range(P):
            total += alpha[t, k]
        fall = min(1.0, fall) * (total / most if total > 0.0 else 0.0)
        least = min(least, fall)
        if not total > LEAST:
            return -math.inf, 0.0
        inverse[t] = 1.0 / total
        for k in range(P):
            alpha[t, k] *= inverse[t]
        product *= total
        if product < 1e-100 or product > 1e100:
            logs += math.log(product)
            product = 1.0
    return logs + math.log(product), least


@inner_numeric
def _backward(emission, turned, num, alpha, inverse, beta, ahead):
    """Turn ``emission`` into marginals and fill backward messages ``ahead``."""
    K, P = turned.shape
    for k in range(P):
        beta[k] = 1.0
    for t in range(num - 1, -1, -1):
        for k in range(P):
            ahead[t, k] = emission[t, k] * beta[k] * inverse[t]
            emission[t, k] = alpha[t, k] * beta[k]
        for k in range(0, P, COLUMNS):
            row_sum_8(turned, ahead, beta, k, P, t * P, 1, k, K)


@numeric
def arrange(numbers, values, place, steps):
    """Concatenate the attributes of all steps, in each step those with several labels first.

    Args:
        numbers: ``(N, A)`` indices of attributes, -1 for padding.
        values: ``(N, A)`` values, or ``(0, 0)`` if all are one.
        place: ``(F,)`` row of each attribute; ``-1 - s`` if it has the ``s``-th lone weight.
        steps: :class:`AttributeSteps`, whose ``starts`` are filled.
    """
    for n in range(numbers.shape[0]):
        m = steps.starts[n]
        for lone in range(2):
            if lone:
                steps.lone[n] = m
            for a in range(numbers.shape[1]):
                f = numbers[n, a]
                if f >= 0 and (place[f] < 0) == (lone == 1):
                    steps.numbers[m] = -1 - place[f] if lone else place[f]
                    if values.shape[0]:
                        steps.values[m] = values[n, a]
                    m += 1


@inner_numeric
def _count(steps, gradient, first, labels, weight, emission, alpha, ahead, pairs):
    """Add the derivatives of a sequence, from its marginals and messages."""
    K, P, num = pairs.shape[0], pairs.shape[1], len(labels)
    for t in range(num):
        for k in range(P):
            emission[t, k] *= -weight
            alpha[t, k] *= -weight
        emission[t, labels[t]] += weight
        if t:
            gradient.moves[labels[t - 1], labels[t]] += weight
    spread_steps(steps, gradient, first, num, emission)
    for i in range(K):
        for k in range(0, P, COLUMNS):
            row_add_8(ahead, alpha, pairs, P + k, P, i, P, i * P + k, num - 1)


@numeric
def sum_sequences(
    steps, weights, moves, turned, shift, rows, row_weights, log_probs, gradient, pairs, emission,
    alpha, ahead, beta, reach, inverse, stop,
):  # fmt: skip
    """Compute log probabilities of labels, and accumulate their derivatives.

    Args:
        steps: :class:`AttributeSteps`.
        weights: :class:`AttributeWeights`.
        moves: ``(K, P)`` exponentials of transitions, divided by the largest.
        turned: ``(K, P)`` the transposed transitions.
        shift: Log of the divisor of ``moves``.
        rows: Indices of the sequences.
        row_weights: ``(B,)`` weights of the sequences; ``(0,)`` for no derivatives.
        log_probs: ``(B,)`` output; NaN in sequences that may be affected by underflow.
        gradient: :class:`AttributeWeights`, accumulated.
        pairs: ``(K, P)`` minus expected transitions, accumulated without the factor ``moves``.
        emission, alpha, ahead: Scratch arrays of ``(T, P)``.
        beta: Scratch array of ``(P,)``.
        reach: ``(P,)`` zeros.
        inverse: Scratch array of ``(T,)``.
        stop: Checked at each sequence.
    """
    K = moves.shape[0]
    dense = True
    for j in range(K):
        for k in range(K):
            dense &= moves[j, k] > DENSE
            reach[k] = max(reach[k], moves[j, k])
    for row in rows:
        if stop[0]:
            return
        first = steps.begins[row]
        num = steps.begins[row + 1] - first
        log_probs[row] = 0.0
        if num == 0:
            continue
        labels = steps.labels[first : first + num]
        score_steps(steps, weights, first, num, emission)
        score = _score(weights, labels, emission)
        tops = _exponentiate(emission, num, K)
        logs, least = _forward(emission, moves, reach, num, alpha, inverse)
        if not (least > (0.0 if dense else LEAST) and score > -math.inf):
            log_probs[row] = math.nan
            continue
        log_probs[row] = score - tops - logs - (num - 1) * shift
        if not row_weights.shape[0]:
            continue
        _backward(emission, turned, num, alpha, inverse, beta, ahead)
        _count(steps, gradient, first, labels, row_weights[row], emission, alpha, ahead, pairs)
