"""Likelihood of labels whose scores are sums over attributes, and its gradient, in one pass.

Sequence after sequence: scores, forward and backward messages and marginals of one sequence stay in
the nearest cache, and nothing is written down for all steps.
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
"""What messages may fall to before what was too small to be held might matter."""
DENSE = 1e-60
"""Where no transition is less likely than this beside the best, nothing so small ever matters."""


class AttributeSteps(NamedTuple):
    """Sequences with attributes and labels at their ``N`` steps."""

    begins: Ints
    """``(B + 1,)`` int64: where sequences begin, and the end."""
    starts: Ints
    """``(N + 1,)`` int64: where the attributes of steps begin, and the end."""
    lone: Ints
    """``(N,)`` int64: where those attributes of a step begin that have a weight for one label."""
    numbers: Ints
    """``(M,)`` int32: rows of the table, and then places among the lone weights."""
    values: Floats
    """``(M,)``, or ``(0,)`` for ones."""
    labels: Ints
    """``(N,)`` int64."""


class AttributeWeights(NamedTuple):
    """Scores of a chain, or derivatives by them; ``P`` columns, zero from the ``K``-th on."""

    table: Floats
    """``(D, P)`` of attributes that have weights for several labels."""
    lone: Floats
    """``(S,)`` weights of attributes that have one weight."""
    lone_labels: Ints
    """``(S,)`` int64, of these."""
    first: Floats
    """``(P,)`` of the first label."""
    last: Floats
    """``(P,)`` of the last label."""
    moves: Floats
    """``(K, P)`` from row to column."""


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
    """Add derivatives by the scores of a sequence's steps, ``(num, P)``, to those by weights."""
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
    """What labels score."""
    total = 0.0
    for t in range(len(labels)):
        total += scores[t, labels[t]]
        if t:
            total += weights.moves[labels[t - 1], labels[t]]
    return total


@inner_numeric
def _exponentiate(scores, num, K):
    """Scores as potentials whose largest is one at each step; the log of the factors taken out."""
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
    """Normalised messages, one over what they were divided by; the log of that, and a warning.

    The warning is the least that messages became of what they could have become on any way: where
    it is tiny, what was too small to be held may have mattered.
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
    """Turn ``emission`` into marginals; ``ahead`` is what meets a message at the next step."""
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
    """Write attributes down step after step, those that have a row of the table first.

    Args:
        numbers: ``(N, A)`` of attributes, -1 where there is none.
        values: ``(N, A)``, or ``(0, 0)`` for ones.
        place: ``(F,)`` row of each attribute; ``-1 - s`` if it is the ``s``-th lone weight.
        steps: :class:`AttributeSteps`, whose ``starts`` are known.
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
    """Add derivatives of a sequence, from marginals and the messages that meet at its steps."""
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
    """Find log probabilities of labels, and add their derivatives up.

    Args:
        steps: :class:`AttributeSteps`.
        weights: :class:`AttributeWeights`.
        moves: ``(K, P)`` exponentials of transitions, the largest of them one.
        turned: ``(K, P)`` the same with rows and columns exchanged.
        shift: Log of what ``moves`` were divided by.
        rows: Which sequences.
        row_weights: ``(B,)`` what they count; ``(0,)`` if no derivatives are wanted.
        log_probs: ``(B,)`` of labels; NaN where messages lost what may have mattered.
        gradient: :class:`AttributeWeights`, added to.
        pairs: ``(K, P)`` minus expected transitions are added, not yet multiplied by ``moves``.
        emission, alpha, ahead: Room for ``(T, P)``.
        beta: For ``(P,)``.
        reach: ``(P,)`` zeros.
        inverse: For ``(T,)``.
        stop: Looked at at each sequence.
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
