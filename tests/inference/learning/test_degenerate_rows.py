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
