"""Kalman filter and smoother for small states, one pattern of missing values after another."""

from __future__ import annotations

import math

import numpy as np

from pgnn.inference.kernels.compiled import Bools, Floats, Ints, inner_numeric, numeric

LOG_2PI = math.log(2.0 * math.pi)


@inner_numeric
def _cholesky(matrix: Floats, size: int) -> bool:
    """Replace a matrix by its lower Cholesky factor; return whether it is positive definite."""
    for i in range(size):
        for j in range(i + 1):
            total = matrix[i, j]
            for k in range(j):
                total -= matrix[i, k] * matrix[j, k]
            if i > j:
                matrix[i, j] = total / matrix[j, j]
            elif total > 0.0:
                matrix[i, i] = math.sqrt(total)
            else:
                return False
    return True


@inner_numeric
def _solve(factor: Floats, size: int, right: Floats, columns: int) -> None:
    """Solve ``L L' X = R`` in place, given the factor of :func:`_cholesky`."""
    for i in range(size):
        for c in range(columns):
            total = right[i, c]
            for k in range(i):
                total -= factor[i, k] * right[k, c]
            right[i, c] = total / factor[i, i]
    for i in range(size - 1, -1, -1):
        for c in range(columns):
            total = right[i, c]
            for k in range(i + 1, size):
                total -= factor[k, i] * right[k, c]
            right[i, c] = total / factor[i, i]


@inner_numeric
def _sandwich(a: Floats, p: Floats, size: int, rest: Floats, out: Floats) -> None:
    """Write ``A P A'`` for symmetric ``P``; the result is exactly symmetric."""
    for i in range(size):
        for j in range(size):
            total = 0.0
            for k in range(size):
                total += a[i, k] * p[k, j]
            rest[i, j] = total
    for i in range(size):
        for j in range(i + 1):
            total = 0.0
            for k in range(size):
                total += rest[i, k] * a[j, k]
            out[i, j] = total
            out[j, i] = total


@inner_numeric
def _copied(source: Floats, target: Floats, size: int) -> None:
    """Copy a matrix."""
    for i in range(size):
        for j in range(size):
            target[i, j] = source[i, j]


@inner_numeric
def _moved(move: Floats, drift: Floats, size: int, before: Floats, after: Floats) -> None:
    """Predict the mean of a state from that of the previous one."""
    for i in range(size):
        total = drift[i]
        for k in range(size):
            total += move[i, k] * before[k]
        after[i] = total


@inner_numeric
def _present_first(present: Bools, numbers: Floats) -> int:
    """List the indices of observed components; return their number."""
    count = 0
    for m in range(len(present)):
        if present[m]:
            numbers[count] = m
            count += 1
    return count


@inner_numeric
def _observed(
    emit: Floats,
    error_noise: Floats,
    p: Floats,
    size: int,
    numbers: Floats,
    count: int,
    across: Floats,
    inner: Floats,
) -> None:
    """Write ``C P`` and the lower half of ``C P C' + R`` of the observed components."""
    for a in range(count):
        m = int(numbers[a])
        for i in range(size):
            total = 0.0
            for k in range(size):
                total += emit[m, k] * p[k, i]
            across[a, i] = total
    for a in range(count):
        for b in range(a + 1):
            m = int(numbers[b])
            total = error_noise[int(numbers[a]), m]
            for k in range(size):
                total += across[a, k] * emit[m, k]
            inner[a, b] = total


@inner_numeric
def _updated(
    emit: Floats,
    error_noise: Floats,
    p: Floats,
    size: int,
    numbers: Floats,
    count: int,
    gain: Floats,
    keep: Floats,
    rest: Floats,
    other: Floats,
) -> None:
    """Replace ``P`` by ``(I - K C) P (I - K C)' + K R K'``."""
    for i in range(size):
        for j in range(size):
            total = 1.0 if i == j else 0.0
            for a in range(count):
                total -= gain[a, i] * emit[int(numbers[a]), j]
            keep[i, j] = total
    _sandwich(keep, p, size, rest, other)
    for i in range(size):
        for b in range(count):
            total = 0.0
            for a in range(count):
                total += gain[a, i] * error_noise[int(numbers[a]), int(numbers[b])]
            rest[i, b] = total
    for i in range(size):
        for j in range(i + 1):
            total = other[i, j]
            for b in range(count):
                total += rest[i, b] * gain[b, j]
            p[i, j] = total
            p[j, i] = total


@inner_numeric
def _corrected(
    values: Floats,
    emit: Floats,
    offset: Floats,
    ahead: Floats,
    size: int,
    numbers: Floats,
    count: int,
    gain: Floats,
    inner: Floats,
    error: Floats,
    white: Floats,
    now: Floats,
) -> float:
    """Update the mean of a state by its observation; return the squared whitened residual."""
    square = 0.0
    for a in range(count):
        m = int(numbers[a])
        total = values[m] - offset[m]
        for k in range(size):
            total -= emit[m, k] * ahead[k]
        error[a] = total
    for a in range(count):
        total = error[a]
        for b in range(a):
            total -= inner[a, b] * white[b]
        white[a] = total / inner[a, a]
        square += white[a] * white[a]
    for i in range(size):
        total = ahead[i]
        for a in range(count):
            total += gain[a, i] * error[a]
        now[i] = total
    return square


@inner_numeric
def _foreseen(
    t: int, some: Ints, move: Floats, drift: Floats, noise: Floats, start_mean: Floats,
    start_covariance: Floats, now_mean: Floats, ahead_mean: Floats, p: Floats, rest: Floats,
    other: Floats,
) -> None:  # fmt: skip
    """Predict the moments of the state of a step from those of the previous step, for some rows."""
    size = move.shape[0]
    if t == 0:
        _copied(start_covariance, p, size)
        for r in some:
            for i in range(size):
                ahead_mean[r, 0, i] = start_mean[i]
        return
    _sandwich(move, p, size, rest, other)
    for i in range(size):
        for j in range(size):
            p[i, j] = other[i, j] + noise[i, j]
    for r in some:
        _moved(move, drift, size, now_mean[r, t - 1], ahead_mean[r, t])


@numeric
def filter_rows(
    patterns: Ints, first: Ints, rows: Ints, present: Bools, observed: Floats, move: Floats,
    drift: Floats, noise: Floats, emit: Floats, offset: Floats, error_noise: Floats,
    start_mean: Floats, start_covariance: Floats, ahead_mean: Floats, ahead_covariance: Floats,
    now_mean: Floats, now_covariance: Floats, increments: Floats, space: Floats, stop: Ints,
) -> int:  # fmt: skip
    """Filter the rows of some patterns of missing values.

    Args:
        patterns: Indices of the patterns.
        first: ``(U + 1,)`` offsets of the rows of each pattern.
        rows: ``(B,)`` indices of rows, grouped by pattern.
        present: ``(U, T, M)`` observed components of each pattern.
        observed: ``(B, T, M)`` observations.
        move: ``(D, D)`` transition; ``drift`` and ``noise`` are bias and covariance of a state.
        emit: ``(M, D)`` emission; ``offset`` and ``error_noise`` are those of an observation.
        start_mean: ``(D,)`` initial mean; ``start_covariance`` is its covariance.
        ahead_mean: ``(B, T, D)`` output, as are the following arguments.
        space: Scratch array of ``(7, max(D, M), max(D, M))``.
        stop: See :mod:`pgnn.inference.threads`.

    Returns:
        0, or -1 if a covariance is not positive definite.
    """
    size, steps = move.shape[0], observed.shape[1]
    p, rest, inner, gain, keep, other = (
        space[0], space[1], space[2], space[3], space[4], space[5]
    )  # fmt: skip
    numbers, error, white = space[6, 0], space[6, 1], rest[0]
    for u in patterns:
        if stop[0] != 0:
            return 0
        some = rows[first[u] : first[u + 1]]
        for t in range(steps):
            _foreseen(
                t, some, move, drift, noise, start_mean, start_covariance, now_mean, ahead_mean, p,
                rest, other,
            )  # fmt: skip
            _copied(p, ahead_covariance[u, t], size)
            count = _present_first(present[u, t], numbers)
            constant = 0.5 * LOG_2PI * count
            if count:
                _observed(emit, error_noise, p, size, numbers, count, gain, inner)
                if not _cholesky(inner, count):
                    return -1
                for a in range(count):
                    constant += math.log(inner[a, a])
                _solve(inner, count, gain, size)
                _updated(emit, error_noise, p, size, numbers, count, gain, keep, rest, other)
            _copied(p, now_covariance[u, t], size)
            for r in some:
                square = _corrected(
                    observed[r, t], emit, offset, ahead_mean[r, t], size, numbers, count, gain,
                    inner, error, white, now_mean[r, t],
                )  # fmt: skip
                increments[r, t] = -0.5 * square - constant if count else 0.0
    return 0


@numeric
def smooth_rows(
    patterns: Ints, first: Ints, rows: Ints, move: Floats, ahead_mean: Floats,
    ahead_covariance: Floats, mean: Floats, covariance: Floats, gains: Floats, space: Floats,
    stop: Ints,
) -> int:  # fmt: skip
    """Replace filtered moments by smoothed ones, in place, and write the gains.

    Args:
        patterns: See :func:`filter_rows`.
        first: See :func:`filter_rows`.
        rows: See :func:`filter_rows`.
        move: See :func:`filter_rows`.
        ahead_mean: ``(B, T, D)`` predicted means of the states.
        ahead_covariance: ``(U, T, D, D)`` predicted covariances.
        mean: ``(B, T, D)`` filtered means, replaced by smoothed ones.
        covariance: ``(U, T, D, D)`` filtered covariances, replaced by smoothed ones.
        gains: ``(U, T - 1, D, D)`` output.
        space: See :func:`filter_rows`.
        stop: See :func:`filter_rows`.

    Returns:
        0, or -1 if a covariance is not positive definite.
    """
    size, steps = move.shape[0], mean.shape[1]
    inner, turned, gain, change, rest, other = (
        space[0], space[1], space[2], space[3], space[4], space[5]
    )  # fmt: skip
    for u in patterns:
        if stop[0] != 0:
            return 0
        for t in range(steps - 2, -1, -1):
            for i in range(size):
                for j in range(size):
                    inner[i, j] = ahead_covariance[u, t + 1, i, j]
                    change[i, j] = covariance[u, t + 1, i, j] - ahead_covariance[u, t + 1, i, j]
                    total = 0.0
                    for k in range(size):
                        total += move[i, k] * covariance[u, t, k, j]
                    turned[i, j] = total
            if not _cholesky(inner, size):
                return -1
            _solve(inner, size, turned, size)
            for i in range(size):
                for j in range(size):
                    gain[i, j] = turned[j, i]
                    gains[u, t, i, j] = turned[j, i]
            _sandwich(gain, change, size, rest, other)
            for i in range(size):
                for j in range(size):
                    covariance[u, t, i, j] += other[i, j]
            for n in range(first[u], first[u + 1]):
                r = rows[n]
                for i in range(size):
                    total = mean[r, t, i]
                    for k in range(size):
                        total += gain[i, k] * (mean[r, t + 1, k] - ahead_mean[r, t + 1, k])
                    rest[0, i] = total
                for i in range(size):
                    mean[r, t, i] = rest[0, i]
    return 0


def space_of(size: int) -> Floats:
    """Return the scratch array."""
    return np.empty((7, max(size, 2), max(size, 2)))
