"""Hidden Markov models whose emissions are mixtures: starts from which EM finds the optimum."""

from functools import partial

import numpy as np
import pytest

import pgnn

MIXTURE = partial(pgnn.GaussianMixture, num_components=2, form=pgnn.Diagonal())


def two_normals(states: np.ndarray, apart: float, spread: float) -> np.ndarray:
    """Vectors of a state: one of two normal distributions with the same chance."""
    rng = np.random.default_rng(0)
    sign = np.where(rng.random((len(states), 1)) < 0.5, -1.0, 1.0)
    return sign * apart + states[:, None] + spread * rng.normal(size=(len(states), 2))


@pytest.mark.parametrize("seed", range(3))
def test_components_of_a_state_are_near_each_other(seed: int) -> None:
    x = two_normals(10.0 * (np.arange(300) // 25 % 2), 2.0, 0.5)
    model = pgnn.HiddenMarkovModel(2, {"x": MIXTURE}).fit(x, lengths=[100, 120, 80], seed=seed)
    # the best of six starts of hmmlearn's GMMHMM
    assert float(model.log_prob(x, lengths=[100, 120, 80]).sum()) == pytest.approx(
        -645.646, abs=1e-2
    )


@pytest.mark.parametrize("seed", range(2))
def test_restarts_find_states_that_only_time_tells_apart(seed: int) -> None:
    lengths = [60, 40, 50]
    x = two_normals(np.concatenate([4.0 * (np.arange(n) // 20 % 3) for n in lengths]), 1.5, 0.4)
    model = pgnn.HiddenMarkovModel(3, {"x": MIXTURE})
    model.fit(x, lengths=lengths, learner=pgnn.EM(restarts=5), seed=seed, progress=False)
    # the best of four starts of hmmlearn's GMMHMM; single starts by k-means end at -377.04
    assert float(model.log_prob(x, lengths=lengths).sum()) == pytest.approx(-269.193, abs=1e-2)
