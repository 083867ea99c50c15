"""Paths drawn backward through particles: against closed forms and exact smoothing."""

import warnings

import numpy as np
import pytest
import torch

import pgnn
from pgnn.errors import Intractable, NotConverged

V = pgnn.Variable
STEPS = 60


def line() -> pgnn.DynamicBayesianNetwork:
    x, before, y = V("x"), V(("x", -1)), V("y")
    return pgnn.DynamicBayesianNetwork(
        [(("x", -1), "x"), ("x", "y")],
        {
            "x": pgnn.LinearGaussian(x, [before], [0.95], 0.0, covariance=0.05),
            "y": pgnn.LinearGaussian(y, [x], [1.0], 0.0, covariance=0.5),
        },
        initial={"x": pgnn.Gaussian(x, mean=0.0, covariance=1.0)},
    )


def smoothed(observed: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and covariance of all steps: one Gaussian, of a tridiagonal precision."""
    steps = len(observed)
    precision = np.eye(steps) / 0.5
    precision[0, 0] += 1.0
    for t in range(1, steps):
        move = np.zeros(steps)
        move[[t - 1, t]] = -0.95, 1.0
        precision += np.outer(move, move) / 0.05
    covariance = np.linalg.inv(precision)
    return covariance @ observed / 0.5, covariance


@pytest.mark.filterwarnings("ignore::pgnn.errors.NotConverged")
def test_paths_are_those_of_the_exact_posterior() -> None:
    model, paths = line(), 400
    observed = model.sample(1, {"T": STEPS}, seed=1)["y"][0]
    mean, covariance = smoothed(observed.double().numpy())
    spread = np.sqrt(np.diag(covariance))
    engine = pgnn.SequentialMonteCarlo(500, seed=0, backward=paths, progress=False)
    found = model.smooth({"y": observed}, engine=engine)
    off = (found["x"].mean.numpy() - mean) / spread
    assert np.sqrt(np.square(off).mean()) < 3 / paths**0.5
    np.testing.assert_allclose(found["x"].std.numpy().mean(), spread.mean(), rtol=0.06)
    assert found.diagnostics["num_paths"] == paths
    # neighbours vary together as they should: transitions count, not only the weights
    drawn = model.sample(paths, {"y": observed}, engine=engine)["x"].numpy()
    np.testing.assert_allclose(
        np.mean([np.cov(drawn[:, t], drawn[:, t + 1])[0, 1] for t in range(STEPS - 1)]),
        np.mean(np.diag(covariance, 1)),
        rtol=0.15,
    )


def test_discrete_states_and_rows_of_any_length() -> None:
    model = pgnn.HiddenMarkovModel(
        2, {"r": [[0.5, 0.5], [0.1, 0.9]]}, initial=[0.5, 0.5], transitions=[[0.9, 0.1], [0.1, 0.9]]
    )
    rng = np.random.default_rng(0)
    rows = {"r": [rng.integers(0, 2, 8), [1, -1, 1, 1], []]}
    engine = pgnn.SequentialMonteCarlo(500, seed=0, backward=500, progress=False)
    found, exact = model.smooth(rows, engine=engine), model.smooth(rows)
    torch.testing.assert_close(
        found.probs("state"), exact.probs("state"), atol=4 * 0.5 / 250**0.5, rtol=0, equal_nan=True
    )
    drawn = model.sample(3, rows, engine=engine)
    assert drawn["state"].shape == (3, 3, 8)
    assert drawn["state"][:, 1, 4:].eq(-1).all()
    assert drawn["r"][:, 0].eq(torch.from_numpy(rows["r"][0])).all()


def test_cost_and_advice() -> None:
    observed = {"y": np.zeros(300)}
    with pytest.warns(NotConverged, match=r"SequentialMonteCarlo\(backward=200\)"):
        line().smooth(observed, engine=pgnn.SequentialMonteCarlo(1000, seed=0, progress=False))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        engine = pgnn.SequentialMonteCarlo(1000, seed=0, backward=20, progress=False)
        line().smooth({"y": np.zeros(20)}, engine=engine)
    with pytest.raises(Intractable, match="paths backward"):
        line().smooth(observed, engine=pgnn.SequentialMonteCarlo(10**6, backward=10**7))
