"""Only ratios of weights matter where there is no prior: weights may sum to one, or to less."""

import warnings
from typing import Any

import numpy as np
import pytest
import torch

import pgnn
from pgnn.errors import DataError

RNG = np.random.default_rng(0)
X = np.concatenate([RNG.normal(0.0, 1.0, 40), RNG.normal(4.0, 1.0, 20)])
Y = RNG.integers(0, 2, 60)

CASES: dict[str, Any] = {
    "normal": (lambda: pgnn.BayesianNetwork([], {"x": pgnn.Gaussian}), {"x": X}),
    "mixture": (lambda: pgnn.Mixture(2, {"x": pgnn.Gaussian}), {"x": X}),
    "gumbels": (lambda: pgnn.Mixture(2, {"x": torch.distributions.Gumbel}), {"x": X}),
    "chain": (
        lambda: pgnn.HiddenMarkovModel(2, {"x": pgnn.Gaussian}),
        {"x": [[*row] for row in np.sort(X).reshape(10, 6)]},
    ),
    "network": (
        lambda: pgnn.BayesianNetwork(
            [("h", "a"), ("h", "x")], {"x": pgnn.Gaussian}, {"h": 2, "a": 2}
        ),
        {"a": Y, "x": X},
    ),
}


@pytest.mark.parametrize("kind", CASES)
def test_a_common_factor_of_weights_changes_nothing(kind: str) -> None:
    make, rows = CASES[kind]
    own = RNG.uniform(0.5, 1.5, len(next(iter(rows.values()))))
    found = []
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for factor in (2.0**-n for n in (1, 8, 30, 300)):  # which round nothing
            model = make().fit(
                rows, weights=factor * own, learner=pgnn.EM(), seed=0, progress=False
            )
            trace = model.history.get("trace", {}).get("log_likelihood", [0.0])
            found.append((model.log_prob(rows).detach(), len(trace)))
    for log_probs, steps in found[1:]:
        torch.testing.assert_close(log_probs, found[0][0], rtol=1e-9, atol=1e-9)
        assert steps == found[0][1]


def test_batches_of_streams_too() -> None:
    learner = pgnn.EM(batch_size=20, max_iterations=300, tolerance=1e-4)
    values = []
    for factor in (1.0, 1e-9):
        model = pgnn.Mixture(2, {"x": pgnn.Gaussian})
        model.fit({"x": X}, weights=np.full(60, factor), learner=learner, seed=0, progress=False)
        values.append(model.history["iterations"])
    assert values[0] == values[1] > 2


@pytest.mark.parametrize("kind", CASES)
def test_weights_that_vanish_are_refused(kind: str) -> None:
    make, rows = CASES[kind]
    size = len(next(iter(rows.values())))
    with pytest.raises(
        DataError, match=r"sum to \d\.?\d*e-\d+, .*divide all of them by the largest"
    ):
        make().fit(rows, weights=np.full(size, 1e-300), learner=pgnn.EM(), progress=False)
    make().fit(rows, weights=np.r_[1e-300, np.ones(size - 1)], learner=pgnn.EM(), progress=False)
