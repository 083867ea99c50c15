"""Declarations that make no sense are refused in words, whatever is wrong with them."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

import pgnn
from pgnn import Variable
from pgnn.errors import PgnnError

RAGGED = [[0.5, 0.5], [1.0]]
A, B, X = Variable("a", 2), Variable("b", 2), Variable("x")


def _network(**more: Any) -> pgnn.BayesianNetwork:
    return pgnn.BayesianNetwork([("a", "b")], states={"a": 2, "b": 2}, **more)


def _field() -> pgnn.MarkovRandomField:
    return pgnn.MarkovRandomField([("a", "b")], {("a", "b"): [[1, 2], [3, 4]]})


def _chain() -> pgnn.HiddenMarkovModel:
    return pgnn.HiddenMarkovModel(2, {"x": [[0.9, 0.1], [0.2, 0.8]]})


CONDITIONALS: list[Callable[..., Any]] = [
    pgnn.Tabular,
    pgnn.Sigmoid,
    pgnn.NoisyOr,
    pgnn.NoisyMax,
    pgnn.Softmax,
    pgnn.Gaussian,
    pgnn.Poisson,
    pgnn.Bernoulli,
    lambda c, p: pgnn.GaussianMixture(c, p, 2),
    pgnn.LinearGaussian,
    lambda c, p: pgnn.Neural(c, p, torch.nn.Linear(1, 2)),
]
POTENTIALS: list[Callable[..., Any]] = [
    pgnn.TabularPotential,
    pgnn.Ising,
    pgnn.Potts,
    lambda v: pgnn.LogLinear(v, {"f": lambda x: x}),
    lambda v: pgnn.NeuralPotential(v, torch.nn.Linear(1, 2), "u"),
]
WRONG_EDGES: list[Any] = [
    "a->b", "ab", b"ab", 3, None, 2.5, [1, 2], [("a",)], [("a", "b", "c")], ["ab"], [None],
    [("a", None)], [(["a"], "b")], {"a": "b"}, [["a", ["b"]]], np.zeros((2, 3)),
]  # fmt: skip
WRONG_TABLES: list[Any] = [
    RAGGED, "half", ["a", "b"], [[None, 1.0]] * 2, [[1j, 0]] * 2, [[0.5, 0.5]], [0.5, 0.5], [], 3,
    {"x": 1}, {0: [0.5, 0.5]}, [[2.0, -1.0]] * 2, [[np.nan, 1.0]] * 2, [[np.inf, 0.0]] * 2,
    np.zeros((2, 2)), torch.zeros(2, 2, 2), pd.DataFrame({"q": [1.0]}), object(), {(0, 0): 1},
]  # fmt: skip
WRONG_STATES: list[Any] = [
    "no", 0, -1, 2.5, [], {"no", "yes"}, ["no", "no"], [["no"], ["yes"]],
    [float("nan"), 1.0], [pd.NA, "yes"], True, object(), 1j,
]  # fmt: skip
WRONG_EVIDENCE: list[Any] = [
    "a", 3, 1j, object(), {"a": 1j}, {"a": object()}, {"a": [[0], [1, 0]]}, {"a": {"no": 1}},
    {"a": [0, "x"]}, {"a": 9}, {"a": -2}, {"a": 0.5}, {"a": [0.5]}, {"a": b"no"}, {"a": slice(2)},
    {"a": pgnn.codes(1j)}, {"a": pgnn.codes("no")}, {"a": pgnn.codes([0.5])},
    {"a": pgnn.codes([[0, 1]])}, {"a": pgnn.codes(None), "b": pgnn.codes(7)},
    {"a": pgnn.codes(object())}, pgnn.codes(1j), pgnn.codes("a"), pgnn.codes([1j]),
    pgnn.likelihood([1.0, 2.0]), {"a": pgnn.likelihood(1j)}, {"a": pgnn.likelihood("no")},
    {"a": pgnn.likelihood([1.0])}, {"a": pgnn.likelihood([-1.0, 2.0])},
    {"a": pgnn.likelihood([np.nan, 2.0])}, {"a": pgnn.likelihood(RAGGED)},
    {"a": pgnn.likelihood({"q": 1.0})}, {"a": pgnn.likelihood({0: "x", 1: "y"})},
    {"a": pgnn.likelihood([0.0, 0.0])}, {3: 1}, {None: 1}, [("a", 0)], [0, 1], np.zeros((2, 3)),
    pd.DataFrame({"a": [0.5]}), pd.DataFrame({"a": [object()]}), np.datetime64("2020-01-01"),
    {"a": np.datetime64("2020-01-01")}, {"a": [np.datetime64("2020-01-01")]}, {"a": range(10**3)},
    {"a": np.array([1j])}, {"a": torch.tensor([1j])}, {"a": 10**30}, {"a": [10**30]},
]  # fmt: skip


def _refused(make: Callable[[], Any]) -> None:
    with pytest.raises(PgnnError) as caught:
        make()
    assert len(str(caught.value)) > 20


@pytest.mark.parametrize("kind", CONDITIONALS, ids=range(len(CONDITIONALS)))
def test_conditionals_of_what_is_no_variable(kind: Callable[..., Any]) -> None:
    for child in ("b", None, 3, [B], {"b": 2}):
        _refused(lambda c=child: kind(c, [A]))
    for parents in ("a", 3, A, [None], ["a"], [[A]], [A, A], [B, B]):
        _refused(lambda p=parents: kind(B, p))
        _refused(lambda p=parents: kind(X, p))


@pytest.mark.parametrize("kind", POTENTIALS, ids=range(len(POTENTIALS)))
def test_potentials_of_what_is_no_variable(kind: Callable[..., Any]) -> None:
    for variables in ("a", None, 3, [], ["a", "b"], [A, None], [A, A], [[A]], [X], {"a": 2}):
        _refused(lambda v=variables: kind(v))


@pytest.mark.parametrize("edges", WRONG_EDGES, ids=repr)
def test_edges(edges: Any) -> None:
    states = {"a": 2, "b": 2}
    _refused(lambda: pgnn.BayesianNetwork(edges, states=states))
    _refused(lambda: pgnn.MarkovRandomField(edges, states=states))
    _refused(lambda: pgnn.DynamicBayesianNetwork(edges, states=states))


@pytest.mark.parametrize("table", WRONG_TABLES, ids=range(len(WRONG_TABLES)))
def test_tables(table: Any) -> None:
    given = {"a": [0.5, 0.5], "b": table}
    _refused(lambda: pgnn.Tabular(B, [A], table))
    _refused(lambda: _network(conditionals=given))
    _refused(lambda: pgnn.HiddenMarkovModel(2, {"x": 2}, transitions=table))


WRONG_WEIGHTS: list[Any] = [
    RAGGED, "half", [[1j, 0]] * 2, [1, 2], [[-1, 2]] * 2, 3, object(), [[np.nan, 1]] * 2,
    [[np.inf, 1]] * 2, {"x": 1},
]  # fmt: skip


@pytest.mark.parametrize("table", WRONG_WEIGHTS, ids=range(len(WRONG_WEIGHTS)))
def test_tables_of_fields(table: Any) -> None:
    _refused(lambda: pgnn.TabularPotential([A, B], table))
    _refused(lambda: pgnn.MarkovRandomField([("a", "b")], {("a", "b"): table}, {"a": 2, "b": 2}))
    _refused(lambda: pgnn.Factor([A, B], table))


@pytest.mark.parametrize("states", WRONG_STATES, ids=range(len(WRONG_STATES)))
def test_states(states: Any) -> None:
    _refused(lambda: Variable("a", states))
    _refused(lambda: pgnn.BayesianNetwork([("a", "b")], states={"a": states, "b": 2}))
    _refused(lambda: pgnn.MarkovRandomField([("a", "b")], states={"a": states, "b": 2}))
    _refused(lambda: pgnn.HiddenMarkovModel(states, {"x": 2}))


def test_shapes() -> None:
    for shape in ("T", 3, (2.5,), (-1,), (None,), ("",), (True,), 1j, [[2]]):
        _refused(lambda s=shape: Variable("a", 2, s))


@pytest.mark.parametrize("given", [[0.5], "a", 3, [[0.5, 0.5]], [("a", [0.5, 0.5])]], ids=repr)
def test_what_is_given_by_name(given: Any) -> None:
    _refused(lambda: _network(conditionals=given))
    _refused(lambda: pgnn.BayesianNetwork([("a", "b")], states=given))
    _refused(lambda: pgnn.HiddenMarkovModel(2, given))
    _refused(lambda: pgnn.HiddenMarkovModel(2, {"x": pgnn.Gaussian}, shapes=given))
    _refused(lambda: pgnn.DynamicBayesianNetwork([("a", "b")], given, states={"a": 2, "b": 2}))
    _refused(lambda: pgnn.DynamicBayesianNetwork([("a", "b")], states=given))
    if given != "a":  # which is set at random
        _refused(lambda: _network().do(given))


@pytest.mark.parametrize("evidence", WRONG_EVIDENCE, ids=range(len(WRONG_EVIDENCE)))
def test_evidence(evidence: Any) -> None:
    network, field = _network(), _field()
    for model in (network, field):
        _refused(lambda m=model: m.query("b", evidence))
        _refused(lambda m=model: m.log_prob(evidence))
        _refused(lambda m=model: m.most_probable(evidence))
        _refused(lambda m=model: m.sample(2, evidence))
    _refused(lambda: network.fit(evidence, progress=False))


def test_verbs_with_other_wrong_arguments() -> None:
    network, chain = _network(), _chain()
    calls: list[Callable[[], Any]] = [
        lambda: network.query(3),
        lambda: network.query([["a"]]),
        lambda: network.query(["a", None]),
        lambda: network.query({"a": 1}, {"q": 1}),
        lambda: network.query("a", errors=3),
        lambda: network.query("a", engine="exact"),
        lambda: network.query("a", engine=pgnn.JunctionTree),
        lambda: network.fit({"a": [0], "b": [0]}, learner="em"),
        lambda: network.fit({"a": [0], "b": [0]}, learner=pgnn.EM),
        lambda: network.fit({"a": [0], "b": [0]}, weights="w"),
        lambda: network.fit({"a": [0], "b": [0]}, weights=[1.0, 2.0]),
        lambda: network.fit({"a": [0], "b": [0]}, weights=[-1.0]),
        lambda: network.fit({"a": [0], "b": [0]}, weights=[float("nan")]),
        lambda: network.fit(None),
        lambda: network.fit(3),
        lambda: network.fit([]),
        lambda: network.compile(3),
        lambda: network.compile("a", 3),
        lambda: network.explain(3),
        lambda: network.do({"a": None}),
        lambda: network.do({"a": [0, 1]}),
        lambda: network.do({"q": 0}),
        lambda: chain.do({"state": 0}),
        lambda: _field().do({"a": 0}),
        lambda: chain.smooth({"x": 3}),
        lambda: chain.smooth({"x": [0, 9]}),
        lambda: chain.smooth({"x": [[[0]]]}),
        lambda: chain.smooth(3),
        lambda: chain.smooth("x"),
        lambda: chain.smooth({"x": [0, 1], "T": "2"}),
        lambda: chain.smooth({"x": [0, 1], "T": -2}),
        lambda: chain.smooth({"x": [0, 1], "T": 2.5}),
        lambda: chain.fit({"x": []}),
        lambda: chain.sample(2),
        lambda: pgnn.OnlineFilter(network),
        lambda: pgnn.OnlineFilter(chain).update(3),
        lambda: pgnn.Program(3),
    ]
    for call in calls:
        _refused(call)
