"""Batches with states that no earlier batch had: zeros that were estimated are no declarations."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import pgnn
from pgnn import EM, BayesianNetwork, Gaussian, MaximumLikelihood, Mixture, NaiveBayes
from pgnn.errors import DataError

Rows = dict[str, Any]
TWO = {"a": 2, "b": 2}


def network() -> BayesianNetwork:
    return BayesianNetwork([("a", "b")], states=TWO)


def chain() -> pgnn.HiddenMarkovModel:
    return pgnn.HiddenMarkovModel(2, {"x": 3})


CASES: dict[str, tuple[Callable[[], pgnn.Model], Rows, Rows]] = {
    "states": (network, {"a": [0, 0], "b": [0, 0]}, {"a": [1, 1], "b": [1, 1]}),
    "combinations": (network, {"a": [0, 1], "b": [0, 0]}, {"a": [0, 1], "b": [1, 1]}),
    "classes": (
        lambda: NaiveBayes(2, {"x": 3, "y": Gaussian}),
        {"class": [0, 0, 0], "x": [0, 1, 1], "y": [0.0, 1.0, 1.5]},
        {"class": [1, 1, 1], "x": [2, 1, 2], "y": [3.0, 5.0, 4.0]},
    ),
    "words": (
        lambda: NaiveBayes(2, {"x": pgnn.Multinomial}),
        {"class": [0, 1], "x": [[0.0, 2.0], [0.0, 3.0]]},
        {"class": [0, 1], "x": [[1.0, 1.0], [1.0, 0.0]]},
    ),
    "components": (
        lambda: pgnn.ModelMixture([network() for _ in range(2)]),
        {"component": [0, 1], "a": [0, 0], "b": [0, 0]},
        {"component": [0, 1], "a": [1, 1], "b": [1, 1]},
    ),
    "steps": (
        chain,
        {"state": [[0, 0, 0]], "x": [[0, 1, 0]]},
        {"state": [[0, 1, 1]], "x": [[0, 2, 2]]},
    ),
}  # fmt: skip


def joined(one: Rows, two: Rows) -> Rows:
    return {n: np.concatenate([np.asarray(one[n]), np.asarray(two[n])]) for n in one}


LEARNERS = {"default": None, "counts": MaximumLikelihood(), "em": EM(decay=1.0)}
OTHERS = {("words", "default"), ("components", "default"), ("components", "counts")}
OTHERS |= {("steps", "default")}  # a prior, decay of earlier batches, no counts


@pytest.mark.parametrize(
    ("case", "by"), [(c, b) for c in CASES for b in LEARNERS if (c, b) not in OTHERS]
)
def test_batches_are_learned_as_all_rows_at_once(case: str, by: str, tmp_path: Path) -> None:
    (make, one, two), learner = CASES[case], LEARNERS[by]
    own = make().partial_fit(one, learner=learner, seed=0)
    own.save(tmp_path / "model")
    own = pgnn.load(tmp_path / "model").partial_fit(two, learner=learner, seed=0)
    counts = (1.0, 1.0) if not isinstance(learner, EM) else (2.0, 1.0)  # shares of 2/3 and 1/3
    sizes = [len(next(iter(rows.values()))) for rows in (one, two)]
    whole = make().fit(
        joined(one, two), learner=learner, weights=np.repeat(counts, sizes), progress=False, seed=0
    )
    for name, x in whole.named_parameters():
        torch.testing.assert_close(own.get_parameter(name).softmax(-1), x.softmax(-1))
    assert own.history["trace"]["batch_log_likelihood"][1] == -math.inf
    own.save(tmp_path / "again")
    assert pgnn.load(tmp_path / "again").history["batch_log_likelihood"] == -math.inf


@pytest.mark.parametrize("number", [2, 3, 6])
def test_rows_one_by_one_are_counted(number: int) -> None:
    rows = np.random.default_rng(0).integers(0, 3, (12, 2))
    own = BayesianNetwork([("a", "b")], states={"a": 3, "b": 3})
    whole = BayesianNetwork([("a", "b")], states={"a": 3, "b": 3})
    whole.fit(pgnn.codes({"a": rows[:, 0], "b": rows[:, 1]}), progress=False)
    for part in np.array_split(rows, number):
        own.partial_fit(pgnn.codes({"a": part[:, 0], "b": part[:, 1]}))
    for name, x in whole.conditionals.items():
        torch.testing.assert_close(own.conditionals[name].probs, x.probs)


@pytest.mark.parametrize("kind", ["network", "mixture", "holes"])
def test_hidden_states_explain_values_that_are_new(kind: str) -> None:
    names = {"a": 3, "b": 3}
    if kind == "mixture":
        model: pgnn.Model = Mixture(2, dict(names))
    else:
        model = BayesianNetwork([("h", "a"), ("h", "b")], states={"h": 2} | names)
    one, two = {"a": [0, 1] * 5, "b": [0, 1] * 5}, {"a": [0, 1, 2] * 3, "b": [0, 1, 2] * 3}
    if kind == "holes":
        two["b"] = [0, 1, -1] * 3
    for rows in (one, two):
        model.partial_fit(pgnn.codes(rows), learner=EM(decay=1.0), seed=0)
    found = model.query("a")["a"].probs
    expected = torch.tensor([1 / 3 + 1 / 9, 1 / 3 + 1 / 9, 1 / 9]).double()
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)


def test_effects_that_were_estimated_as_none_become_possible_and_a_given_leak_does_not() -> None:
    a, c, b = (pgnn.Variable(n, 2) for n in "acb")
    noisy = pgnn.NoisyOr(b, [a, c])  # without a leak
    noisy.maximize_effects(torch.tensor([[5.0, 0], [2, 0], [3, 0], [2, 0], [1, 3]]).double())
    before = noisy.log_effects().exp()
    torch.testing.assert_close(noisy.strengths.detach(), torch.tensor([0.0, 0.75]).double())
    noisy.admit_all()
    assert (noisy.log_effects()[2:, 1].isfinite() == torch.tensor([True, False, True])).all()
    assert noisy.log_effects()[0, 1] == -math.inf
    torch.testing.assert_close(noisy.log_effects().exp(), before, rtol=0.0, atol=1e-30)


def test_rows_that_were_possible_count_as_before() -> None:
    def states(rows: Rows) -> torch.Tensor:
        model = NaiveBayes(2, {"x": 2, "y": Gaussian})
        model.partial_fit({"class": [0, 0], "x": [0, 0], "y": [0.0, 1.0]}, learner=EM())
        model.partial_fit(rows, learner=EM(decay=1.0))
        return model.conditionals["class"].probs.detach()

    # only class 0 is possible for a row that would be far likelier in class 1
    new = {"class": [-1, 1], "x": [0, 1], "y": [9.0, 9.0]}
    torch.testing.assert_close(states(new), torch.tensor([5 / 6, 1 / 6]).double())


def test_zeros_that_were_declared_stay() -> None:
    tables = {"a": [0.5, 0.5], "b": [[1.0, 0.0], [0.5, 0.5]]}
    model = BayesianNetwork([("a", "b")], tables).requires_grad_()
    model.partial_fit({"a": [0, 0], "b": [0, 0]})
    before = {n: x.clone() for n, x in model.state_dict().items()}
    for learner in (MaximumLikelihood(), EM()):
        with pytest.raises(DataError, match="declared to be zero"):
            model.partial_fit({"a": [1, 0], "b": [0, 1]}, learner=learner)
    for name, x in model.state_dict().items():
        torch.testing.assert_close(x, before[name])
    model.partial_fit({"a": [1, 1], "b": [0, 1]})
    torch.testing.assert_close(
        model.conditionals["b"].probs, torch.tensor([[1.0, 0.0], [0.5, 0.5]]).double()
    )


@pytest.mark.parametrize("kind", [torch.distributions.Gamma, torch.distributions.Beta])
def test_a_first_batch_without_a_maximum_waits(kind: type) -> None:
    x = np.random.default_rng(0).beta(2.0, 3.0, 200)
    model = BayesianNetwork([], {"x": kind})
    whole = BayesianNetwork([], {"x": kind}).fit({"x": x}, progress=False)
    for rows in (x[:1], x[1:3], x[3:10], x[10:11], x[11:]):
        model.partial_fit({"x": rows})
    assert float(model.log_prob({"x": x}).sum()) > float(whole.log_prob({"x": x}).sum()) - 1.0


@pytest.mark.parametrize("name", ["StudentT", "Normal", "InverseGamma", "LogNormal"])
def test_a_state_with_a_single_row_waits(name: str) -> None:
    rng = np.random.default_rng(0)
    z = np.r_[[0] * 9, 1, rng.integers(0, 2, 390)]
    x = rng.standard_t(4, size=400) + z
    x = x if name in ("StudentT", "Normal") else np.exp(x / 3.0)
    kind = getattr(torch.distributions, name)
    model = BayesianNetwork([("z", "x")], {"x": kind}, states={"z": 2})
    whole = BayesianNetwork([("z", "x")], {"x": kind}, states={"z": 2})
    whole.fit({"z": z, "x": x}, progress=False)
    for start, end in ((0, 10), (10, 100), (100, 200), (200, 400)):
        model.partial_fit({"z": z[start:end], "x": x[start:end]})
    means = [float(m.log_prob({"z": z, "x": x}).mean()) for m in (model, whole)]
    assert means[0] == pytest.approx(means[1], abs=0.02)


def test_vectors_with_fewer_rows_than_parameters_wait() -> None:
    x = np.random.default_rng(0).normal(size=(400, 6))
    model = BayesianNetwork([], {"x": torch.distributions.MultivariateNormal})
    for start, end in ((0, 4), (4, 100), (100, 200), (200, 400)):
        model.partial_fit({"x": x[start:end]})
    whole = BayesianNetwork([], {"x": torch.distributions.MultivariateNormal})
    whole.fit({"x": x}, progress=False)
    means = [float(m.log_prob({"x": x}).mean()) for m in (model, whole)]
    assert means[0] == pytest.approx(means[1], abs=0.02)


@pytest.mark.parametrize("name", ["Exponential", "Poisson", "Geometric"])
def test_one_value_is_enough_for_one_parameter(name: str) -> None:
    kind, rows = getattr(torch.distributions, name), [2.0, 2.0, 2.0, 1.0, 3.0, 2.0]
    model = BayesianNetwork([], {"x": kind})
    model.partial_fit({"x": rows[:3]})
    model.partial_fit({"x": rows[3:]})
    whole = BayesianNetwork([], {"x": kind}).fit({"x": rows}, progress=False)
    means = [float(m.log_prob({"x": rows}).mean()) for m in (model, whole)]
    assert means[0] == pytest.approx(means[1], abs=1e-3)
