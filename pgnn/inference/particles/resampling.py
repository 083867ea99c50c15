"""Resampling schemes: how many copies of each particle are kept."""

from __future__ import annotations

from enum import Enum

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


class Resampling(Enum):
    """Unbiased schemes for resampling ``N`` particles in proportion to their weights.

    ``SYSTEMATIC`` uses equidistant points with one random offset, ``STRATIFIED`` one random point
    in each of ``N`` strata, ``RESIDUAL`` keeps the integer part of each expected count and draws
    the remainder, ``MULTINOMIAL`` draws all particles independently.

    References:
        Douc, Cappe and Moulines (2005), Comparison of resampling schemes for particle filtering.
    """

    SYSTEMATIC = 0
    STRATIFIED = 1
    MULTINOMIAL = 2
    RESIDUAL = 3


def chosen(scheme: Resampling, weights: Floats, rng: np.random.Generator) -> tuple[Ints, float]:
    r"""Return the resampled particles, sorted, and the variance of their counts.

    Args:
        scheme: The resampling scheme.
        weights: ``(N,)`` normalised weights.
        rng: Random generator.

    Returns:
        ``(N,)`` indices of particles, and :math:`\sum_i \mathrm{var}(c_i) / N^2` over the counts
        :math:`c_i` of copies.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> left, spread = chosen(Resampling.SYSTEMATIC, np.array([0.0, 0.75, 0.0, 0.25]), rng)
        >>> left.tolist(), spread
        ([1, 1, 1, 3], 0.0)
    """
    n = len(weights)
    expected = n * weights
    whole = np.floor(expected)
    part = expected - whole
    if scheme is Resampling.MULTINOMIAL:
        points = np.sort(rng.random(n))
        return _selected(points, weights), float((weights * (1.0 - weights)).sum() / n)
    if scheme is Resampling.RESIDUAL:
        rest = n - int(whole.sum())
        kept = np.repeat(np.arange(n), whole.astype(np.int64))
        if not rest:
            return kept, 0.0
        drawn = _selected(np.sort(rng.random(rest)), part / part.sum())
        spread = float((part * (1.0 - part / rest)).sum() / n**2)
        return np.sort(np.concatenate([kept, drawn])), spread
    if scheme is Resampling.STRATIFIED:
        ends = np.minimum(np.cumsum(expected), n)
        starts = np.concatenate([[0.0], ends[:-1]])
        first = np.minimum(np.ceil(starts), ends) - starts
        last = np.where(np.floor(ends) >= starts, ends - np.floor(ends), 0.0)
        last = np.where(np.ceil(starts) > ends, 0.0, last)
        spread = float((first * (1.0 - first) + last * (1.0 - last)).sum() / n**2)
        return _selected((np.arange(n) + rng.random(n)) / n, weights), spread
    spread = float((part * (1.0 - part)).sum() / n**2)
    return _selected((np.arange(n) + rng.random()) / n, weights), spread


def _selected(points: Floats, weights: Floats) -> Ints:
    """The particle at each point of the unit interval, partitioned by the weights."""
    ends = np.cumsum(weights)
    last = int(np.flatnonzero(weights)[-1])  # rounding errors must not exceed the last particle
    return np.minimum(np.searchsorted(ends, points, side="right"), last).astype(np.int64)
