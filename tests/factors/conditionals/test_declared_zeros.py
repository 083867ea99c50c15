"""Zeros that were declared stay zero, and are no parameters, whatever learns or loads a model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import pgnn
from pgnn import EM, BDeu, Gradient, Laplace, MaximumLikelihood, Variable, VariationalBayes
from pgnn.metrics import num_learnable_parameters

ROWS = {"a": [0, 0, 1, 1] * 10, "b": [0, 0, 0, 0] * 10}
AGAINST = {"a": [0, 0, 1, 1] * 10, "b": [0, 1, 0, 0] * 10}
ENTRY = "the probability of 'b' = 1 given 'a' = 0 was declared to be zero"
LEARNERS = {
    "default": None,
    "counts": MaximumLikelihood(),
    "laplace": MaximumLikelihood(Laplace()),
    "bdeu": MaximumLikelihood(BDeu()),
    "em": EM(),
    "gradient": Gradient(max_iterations=20, tolerance=1e-2),
    "bayes": VariationalBayes(),
}


def network() -> pgnn.BayesianNetwork:
    tables = {"a": [0.5, 0.5], "b": [[1.0, 0.0], [0.5, 0.5]]}
    return pgnn.BayesianNetwork([("a", "b")], tables).requires_grad_()


def left_to_right() -> pgnn.HiddenMarkovModel:
    return pgnn.HiddenMarkovModel(2, {"x": 2}, mask=[[1, 1], [0, 1]])


@pytest.mark.filterwarnings("ignore::pgnn.errors.NotConverged")
@pytest.mark.parametrize("name", LEARNERS)
def test_every_learner_keeps_them(name: str) -> None:
    model = network()
    assert num_learnable_parameters(model) == 2
    model.fit(ROWS, learner=LEARNERS[name], progress=False)
    assert model.conditionals["b"].probs[0].tolist() == [1.0, 0.0]
    assert num_learnable_parameters(model) == 2


@pytest.mark.parametrize("name", LEARNERS)
def test_every_learner_refuses_rows_that_need_one(name: str) -> None:
    model = network()
    with pytest.raises(pgnn.DataError, match=ENTRY):
        model.fit(AGAINST, learner=LEARNERS[name], progress=False)
    assert model.conditionals["b"].probs.tolist() == [[1.0, 0.0], [0.5, 0.5]]


def test_batches_are_refused_too() -> None:
    with pytest.raises(pgnn.DataError, match=ENTRY):
        network().fit(iter([AGAINST]), progress=False)
    with pytest.raises(pgnn.DataError, match=ENTRY):
        network().partial_fit(AGAINST)
    model = network().partial_fit(ROWS)
    assert num_learnable_parameters(model) == 2


def test_pseudo_counts_of_the_posterior_are_zero_there() -> None:
    model = network().fit(ROWS, learner=MaximumLikelihood(Laplace()), progress=False)
    assert model.history["posterior"]["b"].tolist() == [[21.0, 0.0], [21.0, 1.0]]


def test_a_refit_replaces_zeros_that_a_fit_estimated() -> None:
    model = pgnn.BayesianNetwork([("a", "b")], states={"a": 2, "b": 2}).fit(ROWS, progress=False)
    assert model.conditionals["b"].probs[0, 1] == 0
    model.fit(AGAINST, progress=False)
    torch.testing.assert_close(model.conditionals["b"].probs[0], torch.tensor([0.5, 0.5]).double())
    assert num_learnable_parameters(model) == 3


@pytest.mark.parametrize("learner", [MaximumLikelihood(), EM(max_iterations=2)])
def test_a_mask_of_transitions(learner: Any) -> None:
    model = left_to_right()
    forbidden = {"x": [[0, 1] * 5], "state": [[0, 1] * 5]}
    with pytest.raises(pgnn.DataError, match=r"'state' = 0 given .* = 1 was declared to be zero"):
        model.fit(forbidden, learner=learner, progress=False)
    allowed = {"x": [[0, 1] * 5], "state": [[0] * 5 + [1] * 5]}
    model.fit(allowed, learner=MaximumLikelihood(), progress=False)
    expected = torch.tensor([[0.8, 0.2], [0.0, 1.0]]).double()
    torch.testing.assert_close(model.transitions.probs, expected)
    assert num_learnable_parameters(model) == 1 + 1 + 2


def test_segments_are_not_counted_step_by_step() -> None:
    model = pgnn.HiddenSemiMarkovModel(2, {"x": 2}, durations=4)
    rows = {"x": [[0, 1] * 4], "state": [[0, 0, 1, 1] * 2]}
    with pytest.raises(pgnn.Unsupported, match=r"learn with EM\(\)"):
        model.fit(rows, learner=MaximumLikelihood(), progress=False)


def test_state_dicts_have_them() -> None:
    plain = pgnn.BayesianNetwork([("a", "b")], states={"a": 2, "b": 2})
    plain.load_state_dict(network().state_dict())
    assert num_learnable_parameters(plain) == 2
    with pytest.raises(pgnn.DataError, match=ENTRY):
        plain.fit(AGAINST, progress=False)


def test_state_dicts_without_them_load() -> None:
    earlier = {n: x for n, x in network().state_dict().items() if "declared" not in n}
    model = network()
    model.load_state_dict(earlier)
    assert num_learnable_parameters(model) == 2
    plain = pgnn.BayesianNetwork([("a", "b")], states={"a": 2, "b": 2})
    plain.load_state_dict(earlier)
    assert num_learnable_parameters(plain) == 3


def test_saved_models_have_them(tmp_path: Path) -> None:
    for model in (network(), left_to_right(), gates()):
        model.save(tmp_path / "model.safetensors")
        loaded = pgnn.load(tmp_path / "model.safetensors")
        assert num_learnable_parameters(loaded) == num_learnable_parameters(model)
        assert set(loaded.state_dict()) == set(model.state_dict())


def test_files_that_held_them_among_the_settings_load() -> None:
    zeros = torch.tensor([[False, True], [False, False]])
    table = network().conditionals["b"]
    settings = {"child": table.child, "parents": table.parents, "declared_zeros": zeros}
    loaded = pgnn.Tabular.from_settings(settings, {"logits": table.logits})
    with torch.no_grad():
        loaded.logits.copy_(table.logits)
    assert num_learnable_parameters(loaded) == 2 - 1


def gates() -> pgnn.BayesianNetwork:
    parents, n = [Variable("a", 2), Variable("b", 2)], Variable("n", 2)
    gate = pgnn.NoisyOr(n, parents, [0.5, 0.0], leak=0.0)
    edges = [("a", "n"), ("b", "n")]
    return pgnn.BayesianNetwork(edges, {"a": [0.5, 0.5], "b": [0.5, 0.5], "n": gate})


def test_zero_effects_of_a_noisy_or_are_structural() -> None:
    model = gates().requires_grad_()
    assert num_learnable_parameters(model) == 1 + 1 + 1
    model.fit({"a": [0, 1, 1, 0], "b": [0, 0, 1, 1], "n": [0, 1, 0, 0]}, progress=False)
    assert model.conditionals["n"].strengths.tolist() == pytest.approx([0.5, 0.0], abs=1e-6)
    assert model.conditionals["n"].strengths[1] == 0
    assert num_learnable_parameters(model) == 1 + 1 + 1


def test_zeros_of_counts_of_outcomes_are_structural() -> None:
    words = Variable("w", shape=(3,))
    c = pgnn.Multinomial(words, [], probs=[0.5, 0.5, 0.0]).requires_grad_()
    assert num_learnable_parameters(c) == 1
    c.maximize((torch.tensor([[3.0, 1.0, 0.0]]).double(),), Laplace(1.0))
    expected = torch.tensor([4 / 6, 2 / 6, 0.0]).double()
    torch.testing.assert_close(c.probs, expected)
    assert bool(c.log_prior(Laplace(1.0)).isfinite())
    with pytest.raises(pgnn.DataError, match="outcome 2 of 'w' was declared to be zero"):
        c.maximize((torch.tensor([[3.0, 1.0, 1.0]]).double(),))


def test_the_message_says_what_is_to_be_left_out() -> None:
    a, b = Variable("a", 2), Variable("b", 2)
    table = pgnn.Tabular(b, [a], [[1.0, 0.0], [0.5, 0.5]]).requires_grad_()
    model = pgnn.BayesianNetwork([("a", "b")], {"b": table}, states={"a": 2})
    with pytest.raises(pgnn.DataError, match=r"without this table \(a chain without mask=, too\)"):
        model.fit({"a": [0, 0], "b": [0, 1]}, progress=False)
