r"""Diagnostics of Markov chains: convergence, and the accuracy of averages over them.

The ``C`` chains of a quantity are split in halves, ``M = 2C`` sequences of ``n`` values. With
:math:`W` the mean of their variances and :math:`B / n` the variance of their means,

.. math:: \widehat{\mathrm{var}}^+ = \frac{n - 1}{n} W + \frac{B}{n}, \qquad
    \hat R = \sqrt{\widehat{\mathrm{var}}^+ / W}.

References:
    Gelman, Carlin, Stern, Dunson, Vehtari and Rubin (2013), Bayesian Data Analysis, third
    edition, sections 11.4 and 11.5. Geyer (1992), Practical Markov chain Monte Carlo,
    Statistical Science 7(4), section 3.3.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pgnn.errors import DataError

Floats = NDArray[np.float64]

# rounding error of variances of values up to one that are computed from sums of squares
_ROUNDING = 1e-14
# chains with a larger R-hat differ for longer than a batch
_APART = 1.1


def r_hat(traces: ArrayLike) -> Any:
    r"""Return the split potential scale reduction factor :math:`\hat R`.

    One if the chains agree with each other and over time; infinite if they are constant
    at different values.

    Args:
        traces: ``(C, n, ...)`` values of each chain over time, ``n`` at least 4.

    Returns:
        ``(...)`` values, a float for one quantity.

    Raises:
        DataError: If there is no chain, or fewer than 4 values.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> print(f"{r_hat(rng.normal(size=(4, 1000))):.2f}")
        1.00
        >>> print(f"{r_hat(rng.normal(size=(2, 1000)) + np.array([[0.0], [3.0]])):.1f}")
        2.0
    """
    halves = _halves(traces)
    n = halves.shape[1]
    within = halves.var(axis=1, ddof=1).mean(axis=0)
    between = halves.mean(axis=1).var(axis=0, ddof=1)
    return _scale_reduction(within, between, n, _rounding(halves))[()]


def effective_sample_size(traces: ArrayLike) -> Any:
    r"""Return the effective sample size: the number of independent draws of equal accuracy.

    .. math:: n_{\text{eff}} = \frac{M n}{1 + 2 \sum_{t \ge 1} \hat\rho_t}, \qquad
        \hat\rho_t = 1 - \frac{W - \frac1M \sum_m \hat\gamma_{m,t}}{\widehat{\mathrm{var}}^+},

    the sum ending by Geyer's initial monotone sequence: sums of neighbouring pairs are kept as long
    as they are positive, and forced to decrease.

    Args:
        traces: ``(C, n, ...)`` values of each chain over time, ``n`` at least 4.

    Returns:
        ``(...)`` sizes, a float for one quantity; ``C n`` where nothing varies.

    Raises:
        DataError: If there is no chain, or fewer than 4 values.

    Cost:
        ``O(C n log n)`` for each quantity, by fast Fourier transforms.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> print(f"{effective_sample_size(rng.normal(size=(4, 1000))):.1g}")
        4e+03
    """
    halves = _halves(traces)
    m, n = halves.shape[:2]
    centred = halves - halves.mean(axis=1, keepdims=True)
    spectrum = np.abs(np.fft.rfft(centred, 2 * n, axis=1)) ** 2
    autocovariance = np.fft.irfft(spectrum, axis=1)[:, :n].mean(axis=0) / n
    within = autocovariance[0] * n / (n - 1)
    total = _total(within, halves.mean(axis=1).var(axis=0, ddof=1), n)
    still = total <= _rounding(halves)
    rho = 1.0 - (within - autocovariance) / np.where(still, 1.0, total)
    rho[0] = 1.0
    pairs = rho[: n - n % 2].reshape(n // 2, 2, *rho.shape[1:]).sum(axis=1)
    kept = np.logical_and.accumulate(pairs > 0, axis=0)
    falling = np.where(kept, np.minimum.accumulate(pairs, axis=0), 0.0)
    # antithetic chains may cancel: at most log10(Mn) times Mn
    time = np.maximum(2.0 * falling.sum(axis=0) - 1.0, 1.0 / np.log10(max(m * n, 10)))
    return np.where(still, m * n, m * n / time)[()]


def weighted_sample_size(total: Any, squares: Any) -> Any:
    r"""Return the effective sample size of weighted draws, :math:`(\sum w)^2 / \sum w^2`.

    Args:
        total: Sums of weights, arrays or tensors; where they are zero, so is the result.
        squares: Sums of their squares.

    Example:
        >>> weighted_sample_size(np.array([3.0, 0.0]), np.array([5.0, 0.0]))
        array([1.8, 0. ])

    References:
        Kong, Liu and Wong (1994), Sequential imputations and Bayesian missing data problems.
    """
    return total * total / (squares + (squares == 0))


def standard_error(traces: ArrayLike) -> Any:
    r"""Return the Monte Carlo standard error of the mean over chains and time.

    .. math:: \sqrt{\widehat{\mathrm{var}}^+ / n_{\text{eff}}}

    Args:
        traces: ``(C, n, ...)`` values of each chain over time, ``n`` at least 4.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> print(f"{standard_error(rng.normal(size=(4, 2500))):.3f}")
        0.010
    """
    halves = _halves(traces)
    within = halves.var(axis=1, ddof=1).mean(axis=0)
    total = _total(within, halves.mean(axis=1).var(axis=0, ddof=1), halves.shape[1])
    return np.sqrt(total / effective_sample_size(traces))[()]


class BatchSums:
    r"""R-hat, effective sample size and standard error from running sums instead of traces.

    The method of batch means: each chain is split into batches, and the variance of the batch means
    estimates the standard error if a batch is much longer than the autocorrelation time.

    Args:
        rows: Rows of evidence.
        chains: Chains of each row.
        columns: Number of quantities ``S`` of each chain, with values between zero and one.

    References:
        Geyer (1992), section 3.2.
    """

    def __init__(self, rows: int, chains: int, columns: int) -> None:
        self.shape = (rows, chains, columns)
        self.count = [0, 0]
        self.num_batches = 0
        self._sum = np.zeros((2, *self.shape))
        self._square = np.zeros((2, *self.shape))
        self._means = np.zeros((rows, columns))
        self._batches = np.zeros((rows, columns))

    def add(self, half: int, count: int, sums: Floats, squares: Floats) -> None:
        """Add a batch.

        Args:
            half: 0 for the first half of the chains, 1 for the second.
            count: Number of values of each chain.
            sums: ``(rows * C, S)`` their sums.
            squares: ``(rows * C, S)`` the sums of their squares.
        """
        sums = sums.reshape(self.shape)
        self.count[half] += count
        self.num_batches += self.shape[1]
        self._sum[half] += sums
        self._square[half] += squares.reshape(self.shape)
        means = sums / count
        self._means += means.sum(axis=1)
        self._batches += np.square(means).sum(axis=1)

    def mean(self) -> Floats:
        """``(rows, S)`` averages over chains and time."""
        return np.asarray(self._sum.sum(axis=(0, 2)) / (sum(self.count) * self.shape[1]))

    def r_hat(self) -> Floats:
        r"""``(rows, S)`` values of :math:`\hat R`."""
        within, between, n = self._variances()
        return _scale_reduction(within, between, n, _ROUNDING)

    def standard_error(self) -> Floats:
        """``(rows, S)`` standard errors of :meth:`mean`.

        If chains did not mix, each counts as a single draw at most.
        """
        grand = self._means / self.num_batches
        spread = np.maximum(self._batches / self.num_batches - grand**2, 0.0)
        spread[spread < _ROUNDING] = 0.0
        square = spread / (self.num_batches - 1)
        chains = self._sum.sum(axis=0) / sum(self.count)
        if self.shape[1] > 1:
            alone = chains.var(axis=1, ddof=1) / self.shape[1]
            square = np.where(self.r_hat() > _APART, np.maximum(square, alone), square)
        return np.sqrt(square)

    def effective_sample_size(self) -> Floats:
        """``(rows, S)`` effective sample sizes."""
        within, between, n = self._variances()
        total = _total(within, between, n)
        error = self.standard_error() ** 2
        most = float(sum(self.count) * self.shape[1])
        moving = error > 0.0
        return np.where(moving, total / np.where(moving, error, 1.0), most)

    def _variances(self) -> tuple[Floats, Floats, float]:
        n = np.array(self.count, dtype=np.float64).reshape(2, 1, 1, 1)
        mean = self._sum / n
        variance = np.maximum(self._square / n - mean**2, 0.0) * n / np.maximum(n - 1.0, 1.0)
        rows, _, columns = self.shape
        means = mean.transpose(1, 0, 2, 3).reshape(rows, 2 * mean.shape[2], columns)
        return variance.mean(axis=(0, 2)), means.var(axis=1, ddof=1), float(n.mean())


def _halves(traces: ArrayLike) -> Floats:
    """Return the halves ``(2C, n // 2, ...)``; the middle value of an odd number is omitted."""
    values = np.asarray(traces, dtype=np.float64)
    if values.ndim < 2 or len(values) == 0 or values.shape[1] < 4:
        raise DataError(f"traces must be (chains, at least 4 values, ...), got {values.shape}")
    n = values.shape[1] // 2
    return np.concatenate([values[:, :n], values[:, -n:]])


def _total(within: Floats, between: Floats, n: float) -> Floats:
    return np.asarray((n - 1.0) / n * within + between)


def _scale_reduction(within: Floats, between: Floats, n: float, rounding: Any) -> Floats:
    """Scale reduction; one where nothing varies, infinite where only the chains differ."""
    within = np.where(within <= rounding, 0.0, within)
    agree = (within == 0.0) & (between <= rounding)
    total = np.where(agree, 1.0, _total(within, between, n))
    with np.errstate(divide="ignore"):
        return np.asarray(np.sqrt(total / np.where(agree, 1.0, within)))


def _rounding(values: Floats) -> Any:
    """Return variances of values that are due to rounding."""
    return 1e-28 * np.square(values).max(axis=(0, 1))
