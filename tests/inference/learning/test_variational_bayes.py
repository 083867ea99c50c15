"""Variational Bayes of tables: against closed forms and enumeration of what is missing."""

import itertools
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import pgnn
from pgnn import BayesianNetwork, Dirichlet, Laplace, MaximumLikelihood, Variable
from pgnn.errors import ModelError, NotConverged, Unsupported
from pgnn.inference.learning.variational_bayes import VariationalBayes

EDGES = [("a", "b"), ("a", "c")]
STATES = {"a": 2, "b": 3, "c": 2}


def model() -> BayesianNetwork:
    return BayesianNetwork(EDGES, states=STATES)


def rows(n: int, seed: int = 0, gone: float = 0.0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    found = {name: rng.integers(0, k, size=n) for name, k in STATES.items()}
    return {n: np.where(rng.random(len(x)) < gone, -1, x) for n, x in found.items()}


def log_marginal(data: dict[str, np.ndarray], count: float) -> float:
    """Log probability of complete rows, all tables integrated out."""
    total = 0.0
    for name, parents in {"a": (), "b": ("a",), "c": ("a",)}.items():
        counts = np.zeros([STATES[p] for p in (*parents, name)])
        np.add.at(counts, tuple(data[p] for p in (*parents, name)), 1.0)
        for row in counts.reshape(-1, STATES[name]):
            total += math.lgamma(count * len(row)) - math.lgamma(count * len(row) + row.sum())
            total += sum(math.lgamma(count + x) - math.lgamma(count) for x in row)
    return total


def test_complete_rows_have_the_exact_posterior() -> None:
    data, own = rows(30), model()
    own.fit(pgnn.codes(data), learner=VariationalBayes(Laplace(0.5)), progress=False)
    history = own.history
    assert history["lower_bound"] == pytest.approx(log_marginal(data, 0.5), abs=1e-9)
    parts = history["expected"] - history["kl_divergence"]
    assert history["lower_bound"] == pytest.approx(parts, abs=1e-12)
    counts = np.full((2, 3), 0.5)
    np.add.at(counts, (data["a"], data["b"]), 1.0)
    np.testing.assert_allclose(history["posterior"]["b"], counts, atol=1e-9)
    mean = counts / counts.sum(1, keepdims=True)
    np.testing.assert_allclose(own.conditionals["b"].probs.detach(), mean, atol=1e-9)


@pytest.mark.parametrize("seed", range(2))
def test_with_holes_it_is_a_bound_that_never_falls(seed: int) -> None:
    data, own = rows(6, seed, 0.25), model()
    learner = VariationalBayes(tolerance=1e-12)
    own.fit(pgnn.codes(data), learner=learner, progress=False)
    table = np.stack([*data.values()])
    places = np.argwhere(table < 0)
    cards = [range([*STATES.values()][k]) for k, _ in places]
    terms = []
    for states in itertools.product(*cards):
        table[tuple(places.T)] = states
        terms.append(log_marginal(dict(zip(data, table, strict=True)), 1.0))
    exact = float(np.logaddexp.reduce(terms))
    assert exact - 2.0 < own.history["lower_bound"] < exact
    assert (np.diff(own.history["trace"]["lower_bound"]) > -1e-9).all()


def test_the_posterior_is_the_prior_of_a_next_fit(tmp_path: Path) -> None:
    data = rows(40)
    first, second = ({n: x[part] for n, x in data.items()} for part in (slice(25), slice(25, 40)))
    whole, parts = model(), model()
    whole.fit(pgnn.codes(data), learner=VariationalBayes(), progress=False)
    parts.fit(pgnn.codes(first), learner=VariationalBayes(), progress=False)
    parts.save(tmp_path / "model")
    parts = pgnn.load(tmp_path / "model").requires_grad_()
    learner = VariationalBayes(Dirichlet(parts.history["posterior"]))
    parts.fit(pgnn.codes(second), learner=learner, progress=False)
    for name in STATES:
        ours, theirs = (m.conditionals[name].probs.detach() for m in (parts, whole))
        torch.testing.assert_close(ours, theirs, atol=1e-9, rtol=0.0)
    whole.fit(pgnn.codes(data), learner=MaximumLikelihood(Laplace()), progress=False)
    for name, counts in parts.history["posterior"].items():
        np.testing.assert_allclose(whole.history["posterior"][name], counts, atol=1e-9)


def test_states_that_explain_nothing_are_left_to_the_prior() -> None:
    rng = np.random.default_rng(0)
    h = rng.random(400) < 0.5
    data = {f"c{k}": (h ^ (rng.random(400) < 0.1)).astype(int) for k in range(5)}
    own = BayesianNetwork([("h", c) for c in data], states={"h": 4} | dict.fromkeys(data, 2))
    learner = VariationalBayes(Laplace(0.1), max_iterations=3000)
    own.fit(data, learner=learner, seed=0, progress=False)
    shares = own.conditionals["h"].probs.detach()
    assert float(shares.topk(2).values.sum()) > 0.9


def test_what_is_refused() -> None:
    with pytest.raises(ModelError, match="positive pseudo-counts"):
        model().fit(pgnn.codes(rows(5)), learner=VariationalBayes(Laplace(0.0)), progress=False)
    h, x = Variable("h", 2), Variable("x")
    counts = BayesianNetwork([("h", "x")], {"x": pgnn.Poisson(x, [h])}, states={"h": 2})
    with pytest.raises(Unsupported, match="'x' has a Poisson"):
        counts.fit({"x": [0.0, 1.0]}, learner=VariationalBayes())
    with pytest.raises(ModelError, match="prior must be"):
        VariationalBayes(prior=1.0)
    with pytest.warns(NotConverged, match="stopped after 1 iterations"):
        model().fit(
            pgnn.codes(rows(9, gone=0.3)),
            learner=VariationalBayes(max_iterations=1),
            progress=False,
        )


def test_a_column_that_nobody_saw_is_told_at_the_line_of_the_fit() -> None:
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.normal(size=20), 9.0 + rng.normal(size=20)])
    network = pgnn.BayesianNetwork([("a", "b")], states={"a": 2, "b": 2})
    cases: list[tuple[pgnn.Model, dict[str, Any], str]] = [
        (network, {"a": [0, 1, None], "b": [None] * 3}, "b"),
        (
            pgnn.Mixture(2, {"x": pgnn.Gaussian, "y": pgnn.Gaussian}),
            {"x": x, "y": 40 * [None]},
            "y",
        ),
    ]
    for model, rows, name in cases:
        with pytest.warns(pgnn.NotConverged, match=f"no values of '{name}'") as told:
            model.fit(rows, learner=VariationalBayes(), seed=0, progress=False)
        assert told[0].filename == __file__
