"""Components of a mixture have their variables in the same order, or are refused."""

import itertools

import networkx as nx
import pytest

import pgnn
from pgnn.errors import ModelError

A = {"a": [0.3, 0.7], "b": [[0.9, 0.1], [0.5, 0.5]]}
B = {"b": [0.6, 0.4], "a": [[0.1, 0.9], [0.8, 0.2]]}


def test_components_with_another_order_are_refused_or_right() -> None:
    first = pgnn.BayesianNetwork([("a", "b")], A)
    with pytest.raises(ModelError, match=r"same order: \['a', 'b'\] and \['b', 'a'\]; add the nod"):
        pgnn.ModelMixture([first, pgnn.BayesianNetwork([("b", "a")], B)], [0.5, 0.5])
    graph = nx.DiGraph()
    graph.add_nodes_from(["a", "b"])
    graph.add_edge("b", "a")
    model = pgnn.ModelMixture([first, pgnn.BayesianNetwork(graph, B)], [0.5, 0.5])
    for a, b in itertools.product(range(2), repeat=2):
        p = 0.5 * A["a"][a] * A["b"][a][b] + 0.5 * B["b"][b] * B["a"][b][a]
        assert float(model.log_prob({"a": a, "b": b}).exp()) == pytest.approx(p)


def test_components_without_states_are_checked_once_there_is_data() -> None:
    parts = [pgnn.BayesianNetwork([("a", "b")]), pgnn.BayesianNetwork([("b", "a")])]
    with pytest.raises(ModelError, match="in the same order"):
        pgnn.ModelMixture(parts).fit({"a": [0, 1, 1], "b": [0, 0, 1]}, seed=0, progress=False)


def test_other_variables_are_named() -> None:
    parts = [
        pgnn.BayesianNetwork([], {"a": [0.5, 0.5]}),
        pgnn.BayesianNetwork([], {"a": [0.2] * 5}),
    ]
    with pytest.raises(ModelError, match=r"same states: .*\[0, 1\]\) and .*3, 4\]"):
        pgnn.ModelMixture(parts)


def test_chains_may_have_their_emissions_in_any_order() -> None:
    def chain(*names: str) -> pgnn.HiddenMarkovModel:
        tables = {"x": [[0.9, 0.1], [0.2, 0.8]], "y": [[0.6, 0.4], [0.1, 0.9]]}
        moves = [[0.9, 0.1], [0.2, 0.8]]
        return pgnn.HiddenMarkovModel(2, {n: tables[n] for n in names}, [0.5, 0.5], moves)

    known = {"x": [0, 1, 1], "y": [1, 1, 0]}
    mixed = pgnn.SequenceMixture([chain("x", "y"), chain("y", "x")], [0.5, 0.5])
    assert float(mixed.log_prob(known)) == pytest.approx(float(chain("x", "y").log_prob(known)))
