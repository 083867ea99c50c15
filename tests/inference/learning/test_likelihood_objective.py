"""Models over time learnt by gradients: the same optimum as expectation maximisation."""

import numpy as np
import pytest
import torch

import pgnn
from pgnn import EM, DynamicBayesianNetwork, Gaussian, Gradient, HiddenMarkovModel
from pgnn.errors import DataError, Unsupported

FIRST, MOVES = np.array([0.6, 0.4]), np.array([[0.9, 0.1], [0.3, 0.7]])
EMITS = np.array([[0.7, 0.2, 0.1], [0.1, 0.3, 0.6]])


def start() -> HiddenMarkovModel:
    model = HiddenMarkovModel(2, {"x": EMITS}, FIRST, MOVES)
    model.requires_grad_()
    return model


def rows(seed: int = 0) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.integers(0, 3, size=n) for n in (40, 25, 33, 12)]


def adam(parameters):
    return torch.optim.Adam(parameters, lr=0.05)


def test_the_optimum_is_that_of_expectation_maximisation() -> None:
    climbed, counted = start(), start()
    climbed.fit({"x": rows()}, learner=Gradient(max_iterations=2000), progress=False)
    counted.fit({"x": rows()}, learner=EM(max_iterations=20000, tolerance=1e-13), progress=False)
    gap = climbed.history["log_likelihood"] - counted.history["log_likelihood"]
    assert abs(gap) < 1e-3
    assert climbed.history["rows"] == 4


def test_minibatches_weights_and_validation() -> None:
    model = start()
    model.fit(
        {"x": rows()},
        learner=Gradient(optimizer=adam, batch_size=2, max_iterations=15, validation=0.25),
        weights=[1.0, 2.0, 1.0, 1.0],
        seed=0,
        progress=False,
    )
    before = float(start().log_prob({"x": rows()}).detach().sum())
    assert float(model.log_prob({"x": rows()}).detach().sum()) > before
    assert len(model.history["trace"]["validation"]) >= 15


def test_real_emissions_with_holes() -> None:
    rng = np.random.default_rng(0)
    x = np.where(rng.random((6, 30)) < 0.5, -1.0, 1.0) + 0.3 * rng.normal(size=(6, 30))
    x[0, 4] = np.nan
    model = HiddenMarkovModel(2, {"x": lambda c, p: Gaussian(c, p)}, shapes={"x": ()})
    model.emissions["x"].initialize({"x": torch.from_numpy(x[1:].ravel())}, 0)
    before = float(model.log_prob({"x": x}).detach().sum())
    model.fit({"x": x}, learner=Gradient(optimizer=adam, max_iterations=40), progress=False)
    assert model.history["log_likelihood"] > before


def test_dynamic_networks() -> None:
    edges = [(("rain", -1), "rain"), ("rain", "umbrella")]
    model = DynamicBayesianNetwork(edges, states={"rain": 2, "umbrella": 2})
    rng = np.random.default_rng(0)
    observed = {
        "umbrella": rng.integers(0, 2, size=(5, 12)),
        "rain": rng.integers(-1, 2, size=(5, 12)),
    }
    before = float(model.log_prob(observed).detach().sum())
    model.fit(observed, learner=Gradient(), progress=False)
    assert model.history["log_likelihood"] > before


def test_failed_fits_leave_the_model_alone() -> None:
    model = start()
    held = {n: x.clone() for n, x in model.state_dict().items()}
    with pytest.raises(DataError, match="no steps"):
        model.fit({"x": np.zeros((0, 3), dtype=np.int64)}, learner=Gradient(), progress=False)
    with pytest.raises(DataError, match="cannot be set apart"):
        model.fit({"x": [[0, 1]]}, learner=Gradient(validation=0.5), progress=False)
    with pytest.raises(DataError, match="out of range"):
        model.fit({"x": np.array([[0, 7]])}, learner=Gradient(), progress=False)
    with pytest.raises((Unsupported, pgnn.PgnnError)):
        model.fit({"x": rows()}, learner=Gradient(engine=pgnn.Gibbs()), progress=False)
    assert all(torch.equal(held[n], x) for n, x in model.state_dict().items())
