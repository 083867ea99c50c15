"""Reweighting and resampling of particles after an observation."""

from __future__ import annotations

import numpy as np

from pgnn.inference.kernels.compiled import entry, lean
from pgnn.inference.kernels.random_numbers import next_uniform

STRATIFIED, MULTINOMIAL, RESIDUAL = 1, 2, 3  # codes of Resampling; any other is systematic


@lean
def _added(logs, increments):
    """Add increments to the log weights of a row; return the largest, NaN if one is invalid."""
    top = -np.inf
    wrong = False
    for i in range(len(logs)):
        value = logs[i] + increments[i]
        logs[i] = value
        wrong |= np.isnan(value) or value == np.inf
        top = max(top, value)
    return np.nan if wrong else top


@lean
def _normalised(logs, top, weights):
    """Write normalised weights; return their sum before, and the effective sample size."""
    total = 0.0
    square = 0.0
    for i in range(len(logs)):
        w = np.exp(logs[i] - top)
        weights[i] = w
        total += w
        square += w * w
    for i in range(len(logs)):
        weights[i] /= total
    return total, total * total / square


@entry
def weigh(
    log_weights, increments, threshold, scheme, state, length, weights, ancestors, moved,
    log_evidence, least, families, ledger, points,
) -> int:  # fmt: skip
    """Add increments to log weights, and resample rows with a small effective sample size.

    Args:
        log_weights: ``(B, N)`` log weights, updated; zeros in resampled rows.
        increments: ``(B, N)`` log-likelihoods of the observation.
        threshold: Fraction of ``N`` below which a smaller effective sample size triggers
            resampling.
        scheme: Code of the resampling scheme.
        state: ``(1,)`` state of the random numbers.
        length: Number of resamplings in a block of :class:`ParticleWeights`.
        weights: ``(B, N)`` output: normalised weights.
        ancestors: ``(B, N)`` output: index of the parent of each particle.
        moved: ``(B,)`` output: whether a row was resampled.
        log_evidence: ``(B, 2)`` log evidence up to the last resampling, updated; and up to now,
            output.
        least: ``(B,)`` smallest effective sample sizes, updated; zero if all weights are zero.
        families: ``(B, 2, N)`` ancestors at the start of the previous and of this block, updated.
        ledger: ``(B, 4)`` number of resamplings, spread of both blocks' copies, variance; updated.
        points: ``(N,)`` scratch.

    Returns:
        The number of resampled rows; negative if an increment is NaN.
    """
    rows, n = log_weights.shape
    count = 0
    for b in range(rows):
        top = _added(log_weights[b], increments[b])
        moved[b] = False
        if np.isnan(top):
            return -1
        if top == -np.inf:
            log_evidence[b, 0] = -np.inf
            log_evidence[b, 1] = -np.inf
            least[b] = 0.0
            for i in range(n):
                log_weights[b, i] = 0.0
                weights[b, i] = 1.0 / n
            continue
        total, size = _normalised(log_weights[b], top, weights[b])
        least[b] = min(least[b], size)
        log_evidence[b, 1] = log_evidence[b, 0] + top + np.log(total / n)
        if size >= threshold * n:
            continue
        moved[b] = True
        count += 1
        log_evidence[b, 0] = log_evidence[b, 1]
        for i in range(n):
            log_weights[b, i] = 0.0
        _resample(weights[b], scheme, state, length, ancestors[b], families[b], ledger[b], points)
    return count


@lean
def _resample(weights, scheme, state, length, ancestors, families, ledger, points):
    """Resample the particles of a row, and update their ancestry."""
    n = len(weights)
    ledger[0] += 1.0
    count = np.int64(ledger[0])
    ends = count % length == 0
    if ends and count > length:
        ledger[3] += family_spread(families[0], weights, points) - ledger[1]
        ledger[3] -= family_spread(families[1], weights, points) - ledger[2]
    spread = _choose(weights, scheme, state, ancestors, points)
    for i in range(n):
        points[i] = families[1, ancestors[i]]
    if ends:
        for i in range(n):
            families[0, i] = np.int64(points[i])
            families[1, i] = i
        ledger[1] = ledger[2] + spread
        ledger[2] = 0.0
    else:
        for i in range(n):
            families[1, i] = np.int64(points[i])
        for i in range(n):
            points[i] = families[0, ancestors[i]]
        for i in range(n):
            families[0, i] = np.int64(points[i])
        ledger[1] += spread
        ledger[2] += spread


@lean
def family_spread(family, weights, sums):
    """Sum of the squared weights of families, minus that of equal weights."""
    n = len(weights)
    for i in range(n):
        sums[i] = 0.0
    for i in range(n):
        sums[family[i]] += weights[i]
    total = 0.0
    for i in range(n):
        total += sums[i] * sums[i]
    return total - 1.0 / n


@lean
def _choose(weights, scheme, state, ancestors, points):
    """Write sorted ancestors; return the summed variances of their counts, over ``N`` squared."""
    n = len(weights)
    if scheme == RESIDUAL:
        return _residual(weights, state, ancestors, points)
    if scheme == MULTINOMIAL:
        _sorted_uniforms(state, points, n)
    else:
        shift = next_uniform(state)
        for i in range(n):
            if scheme == STRATIFIED and i:
                shift = next_uniform(state)
            points[i] = (i + shift) / n
    _pick(weights, points, ancestors)
    total = 0.0
    end = 0.0
    for i in range(n):
        w = weights[i]
        if scheme == MULTINOMIAL:
            total += n * w * (1.0 - w)
        elif scheme == STRATIFIED:
            start = end
            end = min(start + n * w, float(n))
            if np.ceil(start) > end:
                total += (end - start) * (1.0 - (end - start))
            else:
                first, last = np.ceil(start) - start, end - np.floor(end)
                total += first * (1.0 - first) + last * (1.0 - last)
        else:
            part = n * w - np.floor(n * w)
            total += part * (1.0 - part)
    return total / n / n


@lean
def _residual(weights, state, ancestors, points):
    n = len(weights)
    whole = 0
    total = 0.0
    for i in range(n):
        whole += int(np.floor(n * weights[i]))
        total += n * weights[i] - np.floor(n * weights[i])
    rest = n - whole
    if rest > 0:
        _sorted_uniforms(state, points, rest)
    spread = 0.0
    at = 0
    drawn = 0
    end = 0.0
    for i in range(n):
        part = n * weights[i] - np.floor(n * weights[i])
        end += part
        copies = int(np.floor(n * weights[i]))
        while drawn < rest and (points[drawn] * total < end or i == n - 1):
            copies += 1
            drawn += 1
        for _ in range(min(copies, n - at)):
            ancestors[at] = i
            at += 1
        if rest > 0:
            spread += part * (1.0 - min(part / rest, 1.0))
    return spread / n / n


@lean
def _sorted_uniforms(state, points, count):
    """Sorted uniform numbers: cumulative sums of exponential ones, divided by the total."""
    total = 0.0
    for i in range(count):
        total -= np.log(1.0 - next_uniform(state))
        points[i] = total
    total -= np.log(1.0 - next_uniform(state))
    for i in range(count):
        points[i] /= total


@lean
def _pick(weights, points, ancestors):
    """Write the particle whose share contains each of the sorted points."""
    n = len(weights)
    last = 0
    for i in range(n):
        if weights[i] > 0.0:
            last = i
    i = 0
    end = weights[0]
    for k in range(n):
        while points[k] >= end and i < last:
            i += 1
            end += weights[i]
        ancestors[k] = i
