"""Weights of particles, resampling, and the standard error of the log evidence."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pgnn.errors import ModelError
from pgnn.inference.diagnostics import weighted_sample_size
from pgnn.inference.numba_support import has_numba
from pgnn.inference.particles.resampling import Resampling, chosen

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(eq=False)
class ParticleWeights:
    r"""Weights of ``N`` particles in each of ``B`` rows, updated observation by observation.

    .. math:: \hat p(e_{1:t}) = \prod_{s \le t} \sum_i W_{s-1}^i\, g_s(x_s^i)

    is unbiased. If the effective sample size :math:`1 / \sum_i W_i^2` is below a fraction of ``N``,
    particles are resampled. The variance of :math:`\log \hat p` is estimated from families, the
    particles with a common ancestor. With :math:`F_e` the weight of a family it is

    .. math:: \sum_e F_e^2 - \tfrac 1N - \sum_r \sum_i \mathrm{var}(c_{r,i}) / N^2,

    where the last sum is over the resamplings :math:`r` since the families began, and
    :math:`c_{r,i}` is the number of copies of a particle. Since all particles have one ancestor
    after about ``N`` resamplings, families restart with each block of resamplings, and the
    contribution of a block to the variance is measured over this block and the next: dependence
    over more than a block is not included.

    Args:
        rows: Number of rows ``B``.
        number: Number of particles ``N``.
        threshold: Resample if the effective sample size is below this fraction of ``N``.
        scheme: The resampling scheme.
        seed: Random seed; the same seed gives the same draws.

    Attributes:
        log_weights: ``(B, N)`` log weights since the last resampling of each row.
        weights: ``(B, N)`` normalised weights at the last observation, before resampling.
        ancestors: ``(B, N)`` index of the parent of each particle.
        moved: ``(B,)`` whether a row was resampled.
        any_moved: Whether any row was resampled.
        rng: Random generator.
        least: ``(B,)`` smallest effective sample sizes so far.

    References:
        Lee and Whiteley (2018), Variance estimation in the particle filter, section 2. Olsson and
        Douc (2019), Numerically stable online estimation of variance in particle filters (lags).
    """

    rows: int
    number: int
    threshold: float = 0.5
    scheme: Resampling = Resampling.SYSTEMATIC
    seed: int | None = None
    log_weights: Floats = field(init=False)
    weights: Floats = field(init=False)
    ancestors: Ints = field(init=False)
    moved: NDArray[np.bool_] = field(init=False)
    least: Floats = field(init=False)

    def __post_init__(self) -> None:
        rows, n = self.rows, self.number
        self.log_weights = np.zeros((rows, n))
        self.weights = np.full((rows, n), 1.0 / n)
        self.ancestors = np.tile(np.arange(n), (rows, 1))
        self.moved = np.zeros(rows, dtype=np.bool_)
        self.least = np.full(rows, float(n))
        self.block = max(8, math.isqrt(n))
        self._log_evidence = np.zeros((rows, 2))
        self._families = np.tile(np.arange(n), (rows, 2, 1))
        self._ledger = np.zeros((rows, 4))
        self._points = np.empty(n)
        self._state = np.random.SeedSequence(self.seed).generate_state(1, np.uint64)
        self.any_moved = False
        self._scheme, self._kernel = self.scheme.value, _kernel(self.threshold)
        self.rng = np.random.Generator(np.random.SFC64(self.seed))

    @property
    def log_evidence(self) -> Floats:
        """``(B,)`` current estimates of the log probability of the evidence so far."""
        return self._log_evidence[:, 1]

    def current(self) -> Floats:
        """Return ``(B, N)`` current normalised weights."""
        weights = self.weights.copy()
        weights[self.moved] = 1.0 / self.number
        return np.asarray(weights)

    def weigh(self, increments: Floats) -> None:
        """Multiply in ``(B, N)`` log-likelihoods of an observation, and resample if needed.

        Raises:
            ModelError: If a log-likelihood is ``NaN`` or plus infinity.
        """
        increments = np.ascontiguousarray(increments, dtype=np.float64)
        if self._kernel is not None:
            count = self._kernel(
                self.log_weights,
                increments,
                self.threshold,
                self._scheme,
                self._state,
                self.block,
                self.weights,
                self.ancestors,
                self.moved,
                self._log_evidence,
                self.least,
                self._families,
                self._ledger,
                self._points,
            )
        else:
            wrong = [self._weigh_row(row, increments[row]) for row in range(self.rows)]
            count = -1 if any(wrong) else int(self.moved.sum())
        self.any_moved = count > 0
        if count < 0:
            raise ModelError(
                "the log probability of the evidence is NaN or plus infinity for some particles: "
                "a parameter of its distribution is NaN, or a value is outside its support"
            )

    def rest(self) -> None:
        """Advance a step without evidence: weights do not change."""
        self.weights = self.current()
        self.moved[:] = False
        self.any_moved = False

    def _weigh_row(self, b: int, increments: Floats) -> bool:
        """The slow twin of the kernel, used if there is nothing to resample."""
        n, log_weights = self.number, self.log_weights[b]
        log_weights += increments
        top = float(log_weights.max())
        self.moved[b] = False
        if np.isnan(log_weights).any() or top == np.inf:
            return True
        if top == -np.inf:
            self._log_evidence[b] = -np.inf
            self.least[b], log_weights[:], self.weights[b] = 0.0, 0.0, 1.0 / n
            return False
        w = np.exp(log_weights - top)
        self._log_evidence[b, 1] = self._log_evidence[b, 0] + top + np.log(w.mean())
        self.weights[b] = w / w.sum()
        size = weighted_sample_size(1.0, np.square(self.weights[b]).sum())
        self.least[b] = min(self.least[b], size)
        if size >= self.threshold * n:
            return False
        self.moved[b] = True
        self._log_evidence[b, 0] = self._log_evidence[b, 1]
        log_weights[:] = 0.0
        self._resample(b)
        return False

    def _resample(self, b: int) -> None:
        families, ledger = self._families[b], self._ledger[b]
        ledger[0] += 1.0
        ends = ledger[0] % self.block == 0
        if ends and ledger[0] > self.block:
            ledger[3] += self._spread(b, 0) - ledger[1] - self._spread(b, 1) + ledger[2]
        self.ancestors[b], spread = chosen(self.scheme, self.weights[b], self.rng)
        families[:] = families[:, self.ancestors[b]]
        if ends:
            families[0], families[1] = families[1], np.arange(self.number)
            ledger[1], ledger[2] = ledger[2] + spread, 0.0
        else:
            ledger[1:3] += spread

    def _spread(self, b: int, which: int) -> float:
        sums = np.bincount(self._families[b, which], self.weights[b], self.number)
        return float(np.square(sums).sum() - 1.0 / self.number)

    def standard_error(self) -> Floats:
        """``(B,)`` standard errors of the log evidence; infinite for a single particle."""
        if self.number < 2:
            return np.full(self.rows, np.inf)
        variances = np.empty(self.rows)
        for b in range(self.rows):
            # after a final resampling, families have been copied to the offspring
            weights = np.full(self.number, 1.0 / self.number) if self.moved[b] else self.weights[b]
            sums = np.bincount(self._families[b, 0], weights, self.number)
            total = float(np.square(sums).sum()) - 1.0 / self.number - self._ledger[b, 1]
            variances[b] = np.sqrt(max(self._ledger[b, 3] + total, 0.0))
        return np.asarray(variances * np.sqrt(self.number / (self.number - 1.0)))

    def families(self) -> Ints:
        """``(B, N)`` the ancestor of each particle at the start of the previous block."""
        return self._families[:, 0].copy()


def _kernel(threshold: float) -> Any:
    """The compiled kernel; None if there is nothing to resample."""
    if threshold == 0.0 or not has_numba():
        return None
    from pgnn.inference.particles.kernels.weighing import weigh

    return weigh
