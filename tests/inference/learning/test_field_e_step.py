"""Expectation maximisation of fields from rows with holes."""

import itertools

import numpy as np
import pytest
import torch

import pgnn
from pgnn import EM, MarkovRandomField
from pgnn.errors import ModelError
from pgnn.inference.learning.field_e_step import FieldEStep
from tests import oracle

CARDS = {"a": 2, "b": 3, "c": 2}
LOOP = [("a", "b"), ("b", "c"), ("c", "a")]


def rows(seed: int, n: int = 40) -> dict[str, np.ndarray]:
    """States with holes."""
    rng = np.random.default_rng(seed)
    return {name: rng.integers(-1, k, size=n) for name, k in CARDS.items()}


@pytest.mark.parametrize("seed", range(2))
def test_expected_counts_are_those_of_enumeration(seed: int) -> None:
    rng = np.random.default_rng(seed)
    model = MarkovRandomField(LOOP, states=CARDS)
    for p in model.parameters():
        p.data.copy_(torch.from_numpy(rng.normal(size=tuple(p.shape))))
    tables = [(f.names, f.values.detach().numpy()) for f in model.factors()]
    e_step, data = FieldEStep(model), rows(seed)
    observed = e_step.read(pgnn.codes(data), None, None)
    expected = e_step.expect(observed)
    total = oracle.log_evidence(oracle.joint(CARDS, tables))
    counts = [np.zeros(t.shape) for _, t in tables]
    value = 0.0
    for row in zip(*data.values(), strict=True):
        known = {n: int(k) for n, k in zip(CARDS, row, strict=True) if k >= 0}
        joint = oracle.joint(CARDS, tables, known)
        value += oracle.log_evidence(joint) - total
        found = oracle.expected_counts(joint, [scope for scope, _ in tables])
        counts = [a + b for a, b in zip(counts, found, strict=True)]
    assert expected.log_likelihood == pytest.approx(value, abs=1e-9)
    ours = np.concatenate([x.numpy().ravel() for x in expected.sums["field"][:-1]])
    np.testing.assert_allclose(ours, np.concatenate([c.ravel() for c in counts]), atol=1e-9)
    assert float(expected.sums["field"][-1]) == 40.0


@pytest.mark.parametrize("accelerate", [False, True])
def test_the_likelihood_never_falls_and_arrives_where_gradients_do(accelerate: bool) -> None:
    found, data = [], pgnn.codes(rows(3, 80))
    for learner in (EM(accelerate=accelerate, tolerance=1e-9), pgnn.Gradient()):
        model = MarkovRandomField(LOOP, states=CARDS)
        model.fit(data, learner=learner, progress=False)
        found.append(model.history["log_likelihood"])
    assert found[0] == pytest.approx(found[1], abs=1e-3)
    model = MarkovRandomField(LOOP, states=CARDS)
    model.fit(data, learner=EM(accelerate=accelerate, tolerance=1e-9), progress=False)
    assert (np.diff(model.history["trace"]["log_likelihood"]) > -1e-9).all()


@pytest.mark.parametrize("seed", range(2))
def test_hidden_elements_are_learnt(seed: int) -> None:
    rng = np.random.default_rng(0)
    h = rng.random(500) < 0.5
    data = {f"c{k}": (h ^ (rng.random(500) < 0.1)).astype(int) for k in range(4)}
    alone = sum(500 * x.mean() * np.log(x.mean()) + 500 * (1 - x.mean()) * np.log(1 - x.mean())
                for x in data.values())  # fmt: skip
    model = MarkovRandomField([("h", c) for c in data], states={"h": 2} | dict.fromkeys(data, 2))
    model.fit(data, learner=EM(), seed=seed, progress=False)
    assert model.history["log_likelihood"] > alone + 300


def test_an_approximate_engine_learns_a_tree_exactly() -> None:
    data, found = pgnn.codes(rows(1)), []
    for engine in (None, pgnn.BeliefPropagation()):
        model = MarkovRandomField(list(itertools.pairwise("abc")), states=CARDS)
        learner = EM(engine=engine, max_iterations=30)
        model.fit(data, learner=learner, progress=False)
        found.append(model.history["log_likelihood"])
    assert found[0] == pytest.approx(found[1], abs=1e-5)
    assert "BeliefPropagation" in model.history["engine"]


def test_hard_steps_raise_the_probability_of_completed_rows() -> None:
    data = {n: np.where(np.arange(len(x)) % 3 == 0, -1, x) for n, x in rows(0).items()}
    field = MarkovRandomField(LOOP, states=CARDS)
    field.fit(pgnn.codes(data), learner=EM(hard=True, accelerate=False), progress=False)
    trace = field.history["trace"]["log_likelihood"]
    assert (np.diff(trace) > -1e-9).all()
    assert trace[-1] > trace[0] + 1.0
    best = field.most_probable(pgnn.codes(data)).log_prob - field.query([]).log_evidence
    assert trace[-1] == pytest.approx(float(best.sum()), abs=1e-6)


def test_what_em_cannot_do_for_fields() -> None:
    field = MarkovRandomField(LOOP, states=CARDS)
    data = pgnn.codes(rows(0))
    for p in field.parameters():
        p.requires_grad_(False)
    with pytest.raises(ModelError, match="nothing to learn"):
        field.fit(data, learner=EM(), progress=False)
