"""A fitted model answers with plain numbers; gradients flow where somebody asks for them."""

import math
import pickle
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import pgnn
from pgnn.errors import DataError
from pgnn.inference.exact.solver import model_solver

EDGES = [("rain", "wet"), ("hose", "wet")]
STATES = {"rain": 2, "hose": 2, "wet": 2}
OBSERVED = {"wet": 1}


def rows() -> dict[str, Any]:
    rng = np.random.default_rng(0)
    rain, hose = rng.integers(0, 2, 200), rng.integers(0, 2, 200)
    return {"rain": rain, "hose": hose, "wet": np.where(rng.random(200) < 0.2, 1 - rain, rain)}


def fitted(learner: Any = None) -> pgnn.BayesianNetwork:
    return pgnn.BayesianNetwork(EDGES, states=STATES).fit(rows(), learner=learner, progress=False)


def given_as(model: pgnn.BayesianNetwork) -> pgnn.BayesianNetwork:
    tables = {name: c.probs.detach() for name, c in model.conditionals.items()}
    return pgnn.BayesianNetwork(EDGES, tables, states=STATES)


@pytest.mark.parametrize("learner", [None, pgnn.Gradient(), pgnn.EM()])
def test_answers_are_those_of_the_same_tables_given(learner: Any) -> None:
    model = fitted(learner)
    same = given_as(model)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for evidence in (OBSERVED, {"wet": [1, 0]}, {"wet": torch.tensor([0.3, 0.7])}):
            found, want = model.query(None, evidence), same.query(None, evidence)
            for name in ("rain", "hose"):
                np.testing.assert_allclose(found[name].probs.numpy(), want[name].probs.numpy())
            assert not found.log_evidence.requires_grad
            assert not found.joint("rain", "hose").log_values.requires_grad
        assert float(model.query(None, OBSERVED).log_evidence) < 0
        assert math.isfinite(float(model.log_prob({"wet": 1})))
        assert not model.log_prob(rows()).requires_grad
        for engine in (pgnn.BeliefPropagation(), pgnn.MeanField(progress=False)):
            assert not model.query(None, OBSERVED, engine=engine)["rain"].probs.requires_grad


def test_tables_are_prepared_once() -> None:
    """What is prepared for a model's numbers is kept: that is what makes given models fast."""
    model = fitted()
    assert model_solver(model) is model_solver(model)
    model.conditionals["rain"].set_probs([0.5, 0.5])
    changed = model.query("rain")["rain"].probs
    np.testing.assert_allclose(changed, [0.5, 0.5])


def test_gradients_flow_where_somebody_asks() -> None:
    model = fitted()
    likelihood = torch.tensor([0.3, 0.7], dtype=torch.float64, requires_grad=True)
    model.query(None, {"wet": likelihood}).log_evidence.backward()
    assert likelihood.grad is not None
    model.requires_grad_()
    model.zero_grad()
    model.log_prob(rows()).sum().backward()
    assert all(p.grad is not None for p in model.parameters())
    model.query("rain", OBSERVED)["rain"].probs[1].backward()
    model.requires_grad_(False)
    assert not model.query("rain", OBSERVED)["rain"].probs.requires_grad


def test_before_a_fit_gradients_flow_as_parameters_require_them() -> None:
    model = pgnn.BayesianNetwork(EDGES, states=STATES)
    assert model.log_prob(rows()).requires_grad
    assert not given_as(fitted()).log_prob(rows()).requires_grad


def test_a_fitted_model_learns_again() -> None:
    model, other = fitted(), {**rows(), "wet": 1 - rows()["wet"]}
    before = model.query("wet", {"rain": 1})["wet"].probs
    for learner in (pgnn.Gradient(), pgnn.MaximumLikelihood()):
        model.fit(other, learner=learner, progress=False)
        assert (model.query("wet", {"rain": 1})["wet"].probs - before).abs().max() > 0.3
        model.fit(rows(), learner=learner, progress=False)
    pgnn.Gradient().fit(model, other, progress=False)  # the learner by itself
    assert (model.query("wet", {"rain": 1})["wet"].probs - before).abs().max() > 0.3


def test_a_fit_that_fails_leaves_the_answers_as_they_were() -> None:
    model = fitted()
    with pytest.raises((DataError, pgnn.errors.EvidenceError)):
        model.fit({"rain": [7], "hose": [0], "wet": [0]}, progress=False)
    assert not model.query("rain", OBSERVED)["rain"].probs.requires_grad
    fresh = pgnn.BayesianNetwork(EDGES, states=STATES)
    with pytest.raises((DataError, pgnn.errors.EvidenceError)):
        fresh.fit({"rain": [7], "hose": [0], "wet": [0]}, progress=False)
    assert fresh.log_prob(rows()).requires_grad


def test_copies_and_files_of_a_fitted_model_answer_as_it_does(tmp_path: Path) -> None:
    model = fitted()
    model.save(tmp_path / "model.pgnn")
    copies = [pickle.loads(pickle.dumps(model)), pgnn.load(tmp_path / "model.pgnn")]
    for copy in copies:
        found = copy.query("rain", OBSERVED)["rain"].probs
        np.testing.assert_allclose(found.numpy(), model.query("rain", OBSERVED)["rain"].probs)


def test_networks_answer_plainly_after_a_fit() -> None:
    """Inputs that require gradients get them all the same."""
    style, digit = pgnn.Variable("style", 2), pgnn.Variable("digit", 2)
    net = torch.nn.Linear(3, 2)
    model = pgnn.BayesianNetwork(
        [("style", "digit")],
        {"style": [0.5, 0.5], "digit": pgnn.Neural(digit, [style], net, inputs="u")},
        states={"style": 2, "digit": 2},
    )
    u = torch.randn(8, 1, generator=torch.Generator().manual_seed(0))
    data = {"style": [0, 1] * 4, "digit": [0, 1, 1, 0] * 2}
    assert model.log_prob(data, inputs={"u": u}).requires_grad
    learner = pgnn.Gradient(max_iterations=3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", pgnn.errors.NotConverged)
        model.fit(data, inputs={"u": u}, learner=learner, progress=False)
    assert all(p.requires_grad for p in net.parameters())  # the user's own module is as it was
    assert not model.log_prob(data, inputs={"u": u}).requires_grad
    assert not model.query("digit", inputs={"u": u})["digit"].probs.requires_grad
    asked = u.clone().requires_grad_()
    model.log_prob(data, inputs={"u": asked}).sum().backward()
    assert asked.grad is not None
    model.train()  # for a training loop of one's own
    assert model.log_prob(data, inputs={"u": u}).requires_grad
    assert model.explain("digit", inputs={"u": u}).kind == "exact"
