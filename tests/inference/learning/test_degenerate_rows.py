"""Rows that leave nothing to learn, or too much: errors in words, numbers that are numbers."""

from typing import Any

import numpy as np
import pytest
import torch

import pgnn
from pgnn.errors import DataError, NotConverged, Unsupported

RNG = np.random.default_rng(0)
Y = RNG.integers(0, 2, 30)
X = RNG.normal(size=(30, 3)) + 3.0 * Y[:, None]


@pytest.mark.parametrize("rows", [np.repeat(X[:1], 30, axis=0), X[:1], X * [1.0, 0.0, 1.0]])
def test_factors_that_collapse_stay_numbers(rows: Any) -> None:
    model = pgnn.FactorAnalysis(1)
    with pytest.warns(NotConverged, match="Gradient"):
        model.fit(rows, learner=pgnn.Gradient(max_iterations=50), seed=0, progress=False)
    assert all(bool(p.isfinite().all()) for p in model.parameters())


@pytest.mark.parametrize(
    ("make", "data"),
    [
        (lambda: pgnn.NaiveBayes(2, {"x": pgnn.Gaussian}), {"class": Y, "x": X * 1e150}),
        (lambda: pgnn.LinearRegression("t", "x"), {"x": X * 1e150, "t": X[:, 0]}),
    ],
)
def test_squares_that_overflow(make: Any, data: Any) -> None:
    model = make()
    with pytest.warns(NotConverged, match="Gradient"):
        model.fit(data, learner=pgnn.Gradient(max_iterations=30), seed=0, progress=False)
    assert all(not bool(p.isnan().any()) for p in model.parameters())


HOLED = np.where(RNG.random(X.shape) < 0.1, np.nan, X)


@pytest.mark.parametrize(
    ("make", "data", "learner"),
    [
        (lambda: pgnn.FactorAnalysis(1, 3), X, None),
        (lambda: pgnn.FactorAnalysis(1, 3), HOLED, None),
        (lambda: pgnn.Mixture(2, {"x": pgnn.Gaussian}), {"x": X}, None),
        (lambda: pgnn.Mixture(2, {"x": pgnn.Gaussian}), {"x": X}, pgnn.KMeans()),
        (lambda: pgnn.LinearDynamicalSystem(1, 3, names=("z", "x")), {"x": X}, None),
        (
            lambda: pgnn.HiddenMarkovModel(2, {"x": pgnn.Gaussian}, shapes={"x": (3,)}),
            {"x": X},
            None,
        ),
        (
            lambda: pgnn.HiddenMarkovModel(
                2, {"x": lambda v, p: pgnn.GaussianMixture(v, p, 2)}, shapes={"x": (3,)}
            ),
            {"x": X},
            None,
        ),
    ],
)
def test_values_too_large_to_be_squared_are_refused(make: Any, data: Any, learner: Any) -> None:
    large = {"x": data["x"] * 1e200} if isinstance(data, dict) else data * 1e200
    model = make()
    before = {n: x.clone() for n, x in model.state_dict().items()}
    with pytest.raises(DataError, match="values of 'x' are so large that sums over the rows"):
        model.fit(large, learner=learner, seed=0, progress=False)
    assert all(torch.equal(x, model.state_dict()[n]) for n, x in before.items())


def test_nothing_observed_and_no_states() -> None:
    with pytest.raises(DataError, match="every cell of the data is missing"):
        pgnn.FactorAnalysis(1).fit(np.full((4, 3), np.nan), learner=pgnn.Gradient())
    with pytest.raises(Unsupported, match="the FactorAnalysis has none"):
        pgnn.FactorAnalysis(1).fit(X, learner=pgnn.PseudoLikelihood())


@pytest.mark.parametrize("kind", [pgnn.Gaussian, pgnn.Multinomial, pgnn.Bernoulli, pgnn.Poisson])
@pytest.mark.parametrize("count", [1, 30])
def test_one_class_and_columns_of_one_value(kind: Any, count: int) -> None:
    rows = {"class": np.zeros(count, dtype=int), "x": np.ones((count, 3))}
    model = pgnn.NaiveBayes(2, {"x": kind}).fit(rows, progress=False)
    with torch.no_grad():
        assert bool(model.log_prob(rows).isfinite().all())
    assert model.query("class", {"x": np.ones(3)})["class"].probs.tolist() == [1.0, 0.0]
