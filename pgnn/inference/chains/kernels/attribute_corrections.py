"""Perceptron updates of chains whose scores are sums of attribute weights."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from numpy.typing import NDArray

from pgnn.inference.chains.kernels.attribute_messages import AttributeWeights, score_steps
from pgnn.inference.kernels.compiled import inner_numeric, numeric

MARK, MEASURE, APPLY = 0, 1, 2
"""Phases of a correction: collect its entries, measure its size, apply it."""


class Corrections(NamedTuple):
    """State of a pass of corrections."""

    weights: AttributeWeights
    """Current weights."""
    totals: AttributeWeights
    """Sum of all corrections, each multiplied by the number of sequences before it."""
    delta: AttributeWeights
    """Current correction; zero between sequences."""
    exists: NDArray[Any]
    """``(D, P)`` bool: cells of the table that are weights."""
    learned: NDArray[Any]
    """``(K, K)`` bool: transitions that are learned."""
    ends: bool
    """Whether scores of first and last labels are learned."""
    updates: NDArray[Any]
    """``(1,)`` float64: number of sequences so far."""


@inner_numeric
def _touch(array, total, delta, i, amount, mode, size, count):
    """Collect, measure or apply the correction of one weight."""
    if mode == MARK:
        delta[i] += amount
    elif mode == MEASURE:
        return amount * delta[i]
    else:
        array[i] += size * delta[i]
        total[i] += count * size * delta[i]
        delta[i] = 0.0
    return 0.0


@inner_numeric
def _touch_step(steps, c, n, label, sign, mode, size):
    """The same for all weights of a label at a step."""
    score, valued = 0.0, steps.values.shape[0] > 0
    for m in range(steps.starts[n], steps.lone[n]):
        f = steps.numbers[m]
        if c.exists[f, label]:
            value = steps.values[m] * sign if valued else sign
            score += _touch(c.weights.table[f], c.totals.table[f], c.delta.table[f], label, value,
                            mode, size, c.updates[0])  # fmt: skip
    for m in range(steps.lone[n], steps.starts[n + 1]):
        s = steps.numbers[m]
        if c.weights.lone_labels[s] == label:
            value = steps.values[m] * sign if valued else sign
            score += _touch(c.weights.lone, c.totals.lone, c.delta.lone, s, value, mode, size,
                            c.updates[0])  # fmt: skip
    return score


@inner_numeric
def _touch_all(steps, c, first, right, best, mode, size):
    """The same for all weights in which the true and the predicted labels differ."""
    score, num = 0.0, len(best)
    for t in range(num):
        y, z = right[t], best[t]
        if y != z:
            score += _touch_step(steps, c, first + t, y, 1.0, mode, size)
            score += _touch_step(steps, c, first + t, z, -1.0, mode, size)
            if c.ends and t == 0:
                for label, sign in ((y, 1.0), (z, -1.0)):
                    score += _touch(c.weights.first, c.totals.first, c.delta.first, label, sign,
                                    mode, size, c.updates[0])  # fmt: skip
            if c.ends and t == num - 1:
                for label, sign in ((y, 1.0), (z, -1.0)):
                    score += _touch(c.weights.last, c.totals.last, c.delta.last, label, sign,
                                    mode, size, c.updates[0])  # fmt: skip
        if t and (y != z or right[t - 1] != best[t - 1]):
            for before, label, sign in ((right[t - 1], y, 1.0), (best[t - 1], z, -1.0)):
                if c.learned[before, label]:
                    score += _touch(c.weights.moves[before], c.totals.moves[before],
                                    c.delta.moves[before], label, sign, mode, size,
                                    c.updates[0])  # fmt: skip
    return score


@inner_numeric
def _find_best(scores, moves, num, K, sums, origins, best):
    """Find the best labels of a sequence; return their score."""
    for k in range(K):
        sums[0, k] = scores[0, k]
    for t in range(1, num):
        now, then = t % 2, (t - 1) % 2
        for k in range(K):
            sums[now, k] = -math.inf
            origins[t, k] = 0
        for j in range(K):
            begin = sums[then, j]
            for k in range(K):
                value = begin + moves[j, k]
                better = value > sums[now, k]
                sums[now, k] = value if better else sums[now, k]
                origins[t, k] = j if better else origins[t, k]
        for k in range(K):
            sums[now, k] += scores[t, k]
    last, top = (num - 1) % 2, 0
    for k in range(1, K):
        if sums[last, k] > sums[last, top]:
            top = k
    score = sums[last, top]
    for t in range(num - 1, -1, -1):
        best[t] = top
        top = origins[t, top] if t else 0
    return score


@numeric
def correct(
    steps, c, rows, row_weights, cost, most, losses, wrong, scores, sums, origins, best, stop
):
    """Correct the weights after each sequence whose best labels differ from the true ones.

    Args:
        steps: :class:`~pgnn.inference.chains.kernels.attribute_messages.AttributeSteps`.
        c: :class:`Corrections`.
        rows: Indices of the sequences, in order.
        row_weights: ``(B,)`` weight of the correction of each row.
        cost: Margin added to the scores of wrong labels in the search for the best ones.
        most: Largest size of a correction; negative for corrections of size one.
        losses: ``(B,)`` score of the best minus score of the true labels; NaN if the true labels
            are impossible, which ends the pass.
        wrong: ``(B,)`` number of wrong labels among the best.
        scores: Scratch array of ``(T, P)``.
        sums: Scratch array of ``(2, P)``.
        origins: Scratch array of ``(T, P)`` int64.
        best: Scratch array of ``(T,)`` int64.
        stop: Checked at each sequence.
    """
    K = c.weights.moves.shape[0]
    for row in rows:
        if stop[0]:
            return
        first = steps.begins[row]
        num = steps.begins[row + 1] - first
        losses[row], wrong[row] = 0.0, 0
        if num == 0:
            c.updates[0] += 1.0
            continue
        right, path = steps.labels[first : first + num], best[:num]
        score_steps(steps, c.weights, first, num, scores)
        score = 0.0
        for t in range(num):
            score += scores[t, right[t]]
            if t:
                score += c.weights.moves[right[t - 1], right[t]]
            for k in range(K):
                scores[t, k] += 0.0 if k == right[t] else cost
        if not score > -math.inf:
            losses[row] = math.nan
            return
        losses[row] = _find_best(scores, c.weights.moves, num, K, sums, origins, path) - score
        for t in range(num):
            wrong[row] += path[t] != right[t]
        if wrong[row]:
            _touch_all(steps, c, first, right, path, MARK, 0.0)
            size = row_weights[row]
            if most >= 0.0:
                square = _touch_all(steps, c, first, right, path, MEASURE, 0.0)
                size *= min(most, losses[row] / square) if square > 0.0 else 0.0
            _touch_all(steps, c, first, right, path, APPLY, size)
        c.updates[0] += 1.0
