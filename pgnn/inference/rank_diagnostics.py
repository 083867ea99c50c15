r"""Rank-based convergence diagnostics of chains, robust to heavy tails and skew.

Values are replaced by normal scores of their ranks among all draws of all chains,

.. math:: z = \Phi^{-1}\left( \frac{\mathrm{rank} - 3/8}{S + 1/4} \right).

References:
    Vehtari, Gelman, Simpson, Carpenter and Buerkner (2021), Rank-normalization, folding, and
    localization: an improved R-hat for assessing convergence of MCMC, Bayesian Analysis 16(2).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pgnn.inference.diagnostics import effective_sample_size, r_hat

Floats = NDArray[np.float64]


def rank_r_hat(traces: ArrayLike) -> Any:
    r"""Return the larger split :math:`\hat R` of ranks and of folded ranks.

    Folded values are distances from the median; they detect chains that differ only in scale.

    Args:
        traces: ``(C, n, ...)`` values of each chain over time, ``n`` at least 4.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> wide = rng.standard_cauchy(size=(2, 1000)) * np.array([[1.0], [9.0]])
        >>> bool(rank_r_hat(wide) > 1.1)
        True
    """
    x = np.asarray(traces, dtype=np.float64)
    folded = np.abs(x - np.median(x, axis=(0, 1)))
    return np.maximum(r_hat(_scores(x)), r_hat(_scores(folded)))[()]


def rank_effective_sample_size(traces: ArrayLike) -> Any:
    """Return the bulk effective sample size, the effective sample size of the normal scores.

    Args:
        traces: ``(C, n, ...)`` values of each chain over time, ``n`` at least 4.
    """
    return effective_sample_size(_scores(np.asarray(traces, dtype=np.float64)))


def tail_effective_sample_size(traces: ArrayLike) -> Any:
    """Return the smaller effective sample size of the 5% and 95% quantiles.

    Args:
        traces: ``(C, n, ...)`` values of each chain over time, ``n`` at least 4.
    """
    x = np.asarray(traces, dtype=np.float64)
    below = [(x <= np.quantile(x, q, axis=(0, 1))).astype(np.float64) for q in (0.05, 0.95)]
    return np.minimum(*(effective_sample_size(b) for b in below))[()]


def _scores(x: Floats) -> Floats:
    """Return normal scores of the ranks; tied values have their mean rank."""
    from scipy.special import ndtri
    from scipy.stats import rankdata

    size = x.shape[0] * x.shape[1]
    ranks = rankdata(x.reshape(size, -1), axis=0)
    return np.asarray(ndtri((ranks - 0.375) / (size + 0.25)).reshape(x.shape))
