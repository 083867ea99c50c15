"""How particles are chosen: unbiased, and the spread of their numbers is what is told."""

import numpy as np
import pytest

from pgnn.inference.particles.particle_weights import ParticleWeights
from pgnn.inference.particles.resampling import Resampling, chosen

WEIGHTS = np.array([0.31, 0.0, 0.22, 0.05, 0.17, 0.25])
DRAWS = 1500


def by_kernel(scheme, seed):
    """Numbers of copies, and their spread, as the compiled kernel has them."""
    with np.errstate(divide="ignore"):
        logs = np.log(WEIGHTS)[None]
    weights = ParticleWeights(1, len(WEIGHTS), 1.0, scheme, seed)
    weights.weigh(logs)
    return weights.ancestors[0], weights._ledger[0, 1]


def by_numpy(scheme, seed):
    return chosen(scheme, WEIGHTS, np.random.default_rng(seed))


@pytest.mark.parametrize("draw", [by_kernel, by_numpy], ids=["kernel", "numpy"])
@pytest.mark.parametrize("scheme", Resampling, ids=lambda s: s.name)
def test_numbers_of_copies(scheme, draw):
    n = len(WEIGHTS)
    counts = np.empty((DRAWS, n))
    for seed in range(DRAWS):
        left, spread = draw(scheme, seed)
        assert (np.diff(left) >= 0).all()
        counts[seed] = np.bincount(left, minlength=n)
    variance = counts.var(axis=0)
    # unbiased: five standard errors of a mean
    error = np.sqrt(variance / DRAWS)
    assert (np.abs(counts.mean(axis=0) - n * WEIGHTS) <= 5 * error + 1e-9).all()
    assert counts[:, 1].max() == 0
    # the variance of a variance of small whole numbers is below 2 / DRAWS of its square plus a bit
    assert abs(variance.sum() / n**2 - spread) < 5 * (variance.sum() + 1) / n**2 / DRAWS**0.5


@pytest.mark.parametrize("scheme", Resampling, ids=lambda s: s.name)
def test_expected_numbers_that_are_whole_stay(scheme):
    weights = np.array([0.5, 0.25, 0.25, 0.0])
    left, spread = chosen(scheme, weights, np.random.default_rng(0))
    if scheme is not Resampling.MULTINOMIAL:
        assert left.tolist() == [0, 0, 1, 2]
        assert spread == pytest.approx(0.0)


def test_what_is_impossible_and_what_is_no_number():
    weights = ParticleWeights(2, 4, 0.5, seed=0)
    weights.weigh(np.array([[-np.inf] * 4, [0.0] * 4]))
    assert weights.log_evidence.tolist() == [-np.inf, 0.0]
    assert weights.least.tolist() == [0.0, 4.0]
    weights.weigh(np.zeros((2, 4)))
    assert weights.log_evidence.tolist() == [-np.inf, 0.0]
    for bad in (np.nan, np.inf):
        with pytest.raises(ValueError, match="NaN or plus infinity"):
            ParticleWeights(1, 2, 0.5).weigh(np.array([[0.0, bad]]))
        with pytest.raises(ValueError, match="NaN or plus infinity"):
            ParticleWeights(1, 2, 0.0).weigh(np.array([[0.0, bad]]))


@pytest.mark.parametrize("scheme", Resampling, ids=lambda s: s.name)
def test_the_kernel_agrees_with_its_slow_twin(scheme):
    """Means over seeds of the evidence and its variance, where draws differ."""
    increments = np.random.default_rng(1).normal(size=(30, 1, 50))
    found = {}
    for twin in (False, True):
        runs = []
        for seed in range(150):
            weights = ParticleWeights(1, 50, 0.7, scheme, seed)
            if twin:
                weights._kernel = None
            for x in increments:
                weights.weigh(x)
            runs.append([weights.log_evidence[0], weights.standard_error()[0] ** 2])
        found[twin] = np.array(runs)
    error = np.sqrt(sum(x.var(axis=0) / 150 for x in found.values()))
    assert (np.abs(found[False].mean(0) - found[True].mean(0)) < 5 * error).all()
