"""What all models share: the verbs reach one engine, and derived results follow the parameters."""

from dataclasses import FrozenInstanceError
from typing import Any

import numpy as np
import pytest
import torch

import pgnn
from pgnn import EvidenceError, ModelError, Unsupported
from pgnn.inference.engine import Engine
from pgnn.inference.learner import Learner
from pgnn.models.model import Model
from tests.zoo import ZOO


def small() -> pgnn.BayesianNetwork:
    return pgnn.BayesianNetwork([("a", "b")], {"a": [0.5, 0.5]}, {"b": 3})


def _recorded(verb: str) -> Any:
    return lambda self, *args, **options: (verb, args, options)


VERBS = ("query", "most_probable", "sample", "log_prob", "explain", "compile")
Recorder = type("Recorder", (Engine,), {verb: _recorded(verb) for verb in VERBS})
"""Stands for an engine and returns what it was asked."""


def test_verbs_pass_their_arguments_on() -> None:
    model, engine = small(), Recorder()
    assert model.query("a", {"b": 1}, engine=engine, errors="nan") == (
        "query", (model, "a", {"b": 1}), {"inputs": None, "errors": "nan"},
    )  # fmt: skip
    assert model.most_probable({"b": 1}, "a", k=3, engine=engine) == (
        "most_probable", (model, {"b": 1}, "a"), {"inputs": None, "k": 3, "errors": "raise"},
    )  # fmt: skip
    assert Model.sample(model, 5, {"b": 1}, engine=engine, seed=2) == (
        "sample", (model, 5, {"b": 1}), {"inputs": None, "seed": 2},
    )  # fmt: skip
    assert model.log_prob({"b": [1]}, engine=engine) == (
        "log_prob", (model, {"b": [1]}), {"inputs": None},
    )  # fmt: skip
    assert model.explain("a", {"b": 1}, engine=engine) == (
        "explain",
        (model, "a", {"b": 1}, None),
        {},
    )
    assert model.compile("a", ["b"], engine=engine) == ("compile", (model, "a", ["b"]), {})


def test_learners_get_their_arguments() -> None:
    model, asked = small(), []

    class Listener(Learner):
        def fit(self, *args: Any, **options: Any) -> None:
            asked.append((args, options))

    data = {"a": torch.tensor([0])}
    assert model.fit(data, learner=Listener(), weights=[2.0], seed=3, progress=False) is model
    options = {"weights": [2.0], "inputs": None, "seed": 3, "progress": False}
    assert asked == [((model, data), options)]


def test_a_variable_by_name() -> None:
    model = small()
    assert model.variable("b").num_states == 3
    with pytest.raises(EvidenceError, match=r"no variable 'bb'.*did you mean 'b'"):
        model.variable("bb")


def test_no_program() -> None:
    model = ZOO["markov"].make()
    with pytest.raises(Unsupported, match="MarkovRandomField"):
        model.program()


def test_results_of_the_structure_are_made_once() -> None:
    model, made = small(), []

    def make() -> int:
        made.append(1)
        return len(made)

    assert [model.cached("key", make) for _ in range(3)] == [1, 1, 1]
    assert model.cached("other", make) == 2
    with torch.no_grad():
        model.conditionals["b"].logits += 1.0
    assert model.cached("key", make) == 1


def test_results_of_the_numbers_are_made_again_when_they_change() -> None:
    model, made = small(), []

    def make() -> int:
        made.append(torch.is_grad_enabled())
        return len(made)

    def ask() -> int:
        with torch.no_grad():
            return model.cached_numbers("key", make)

    logits = model.conditionals["b"].logits
    assert [ask(), ask()] == [1, 1]
    with torch.no_grad():
        logits[0, 0] = 2.0
    assert [ask(), ask()] == [2, 2]
    model.conditionals["b"].set_probs([[0.2, 0.3, 0.5]] * 2)
    assert [ask(), ask()] == [3, 3]
    logits.data = logits.data * 2.0
    assert [ask(), ask()] == [4, 4]
    model.load_state_dict(small().state_dict())
    assert ask() == 5
    model.to(torch.float32)
    assert ask() == 6
    model.conditionals["b"].logits = torch.nn.Parameter(torch.zeros(2, 3))
    assert [ask(), ask()] == [7, 7]
    small()  # another model's parameters are not this one's
    assert ask() == 7
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    (-model.log_prob({"b": torch.tensor([1])})).sum().backward()
    optimizer.step()
    assert [ask(), ask()] == [8, 8]


def test_a_new_parameter_at_the_old_address_is_noticed() -> None:
    model = small()
    memory = torch.zeros(2, 3, dtype=torch.float64)
    last = model.conditionals["b"]

    def replaced(value: float) -> None:
        last.logits = None  # the memory is free
        memory.numpy()[:] = value  # torch counts no version
        last.logits = torch.nn.Parameter(memory)

    def ask(key: str) -> float:
        with torch.no_grad():
            return float(model.cached_numbers(key, lambda: float(last.logits[0, 0])))

    replaced(1.0)
    assert [ask("one"), ask("two")] == [1.0, 1.0]
    replaced(2.0)
    assert [ask("two"), ask("one")] == [2.0, 2.0]
    replaced(3.0)
    assert [ask("new"), ask("one"), ask("two")] == [3.0, 3.0, 3.0]


def test_numbers_stay_when_other_modules_are_made() -> None:
    model, made = small(), []
    with torch.no_grad():
        for _ in range(3):
            model.cached_numbers("key", lambda: made.append(1))
            small()
    assert made == [1]


def test_tables_that_are_replaced_are_never_stale() -> None:
    model, rng = small(), np.random.default_rng(0)
    b = model.conditionals["b"]
    with torch.no_grad():
        for _ in range(100):
            row = rng.dirichlet(np.ones(3), 2)
            b.logits = torch.nn.Parameter(torch.from_numpy(np.log(row)).clone())
            found = model.query("b", {"a": 0})["b"].probs
            again = model.query("b", {"a": [0, 1]}, engine=pgnn.JunctionTree(2**30))["b"].probs
            np.testing.assert_allclose(found, row[0])
            np.testing.assert_allclose(again, row)


def test_dropout_stops_at_evaluation() -> None:
    a, b = pgnn.Variable("a", 2), pgnn.Variable("b", 2)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Dropout(0.5))
        model = pgnn.BayesianNetwork(
            [("a", "b")], {"a": [0.5, 0.5], "b": pgnn.Neural(b, [a], module)}
        )
        with torch.no_grad():
            for mode in (True, False):
                model.train(mode)
                found = model.query("b", {"a": 1})["b"].probs
            expected = torch.nn.functional.linear(
                torch.tensor([0.0, 1.0]), module[0].weight, module[0].bias
            ).softmax(0)
    assert torch.allclose(found.float(), expected)


def test_nothing_is_kept_where_gradients_are_wanted() -> None:
    model, made = small(), []
    for _ in range(2):
        model.cached_numbers("key", lambda: made.append(torch.is_grad_enabled()))
    assert made == [True, True]
    with torch.no_grad():
        model.cached_numbers("key", lambda: made.append(torch.is_grad_enabled()))
    assert made == [True, True, False]


def test_engines_are_frozen_settings() -> None:
    engine = pgnn.JunctionTree(max_bytes=2**20)
    with pytest.raises(FrozenInstanceError):
        engine.max_bytes = 1  # type: ignore[misc]
    assert engine == pgnn.JunctionTree(2**20)
    assert hash(engine) == hash(pgnn.JunctionTree(2**20))


def test_states_of_modules_are_listed_for_torch() -> None:
    model = ZOO["neural"].make()
    assert len(list(model.parameters())) == 4
    assert model.state_dict().keys() == dict(model.named_parameters()).keys()
    assert model.history == {}


# --- numbers that anybody may have written --------------------------------------------------------


def chain_of_two() -> pgnn.BayesianNetwork:
    return pgnn.BayesianNetwork(
        [("a", "b")], {"a": [0.5, 0.5], "b": [[0.9, 0.1], [0.2, 0.8]]}, {"a": 2, "b": 2}
    )


@pytest.mark.parametrize(
    "ask",
    [
        lambda m, p: m.query("b"),
        lambda m, p: m.query("b", {"a": 0}, engine=pgnn.BeliefPropagation()),
        lambda m, p: m.most_probable(),
        lambda m, p: m.sample(2, seed=0),
        lambda m, p: m.log_prob({"a": [0], "b": [1]}),
        lambda m, p: m.save(p / "m"),
        lambda m, p: pgnn.write(m, p / "m.bif"),
        lambda m, p: pgnn.write(m, p / "m.uai"),
    ],
)
def test_bad_numbers_are_told_by_piece(ask, tmp_path):
    model = chain_of_two()
    model.query("b")
    with torch.no_grad():
        model.conditionals["a"].logits[0] = torch.nan
    with pytest.raises(ModelError, match="'logits' of the conditional of 'a' has nan among"):
        ask(model, tmp_path)
    assert not [*tmp_path.iterdir()]
    with torch.no_grad():
        model.conditionals["a"].logits[:] = torch.tensor([0.0, -torch.inf])
    assert model.query("b")["b"].probs.tolist() == pytest.approx([0.9, 0.1])


def test_bad_numbers_of_potentials_and_emissions():
    a, b = pgnn.Variable("a", 2), pgnn.Variable("b", 2)
    field = pgnn.MarkovRandomField([pgnn.Ising([a, b], 0.5)])
    with torch.no_grad():
        field.potentials[0].coupling.fill_(torch.inf)
    with pytest.raises(ModelError, match="'coupling' of the potential of"):
        field.query("a")
    x = pgnn.Variable("x")
    model = pgnn.BayesianNetwork(
        [("a", "x")], {"a": pgnn.Tabular(a, (), [0.5, 0.5]), "x": pgnn.Gaussian(x, [a], [0.0, 1.0])}
    )
    with torch.no_grad():
        model.conditionals["x"].mean[0] = torch.nan
        with pytest.raises(ModelError, match="'mean' of the conditional of 'x'"):
            model.query("a", {"x": 0.3})
    certain = pgnn.BayesianNetwork(
        [("a", "x")],
        {"a": pgnn.Tabular(a, (), [0.5, 0.5]), "x": pgnn.Bernoulli(x, [a], [0.0, 1.0])},
    )
    assert certain.query("a", {"x": 1.0})["a"].probs.tolist() == [0.0, 1.0]
