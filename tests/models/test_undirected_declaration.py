"""Graphs, cliques, tables and states: what a declaration means, and what is wrong with it."""

import functools
import itertools
import math

import networkx as nx
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import pgnn
from pgnn import (
    Factor,
    Ising,
    MarkovRandomField,
    ModelError,
    Potts,
    TabularPotential,
    Variable,
)
from pgnn.errors import Intractable
from tests import oracle

A, B, C = Variable("a", 2), Variable("b", ["x", "y", "z"]), Variable("c", 2)
AB = np.array([[1.0, 2, 3], [4, 5, 0]])


def log_z(model):
    """By enumeration of the model's own factors."""
    cards = {v.name: v.num_states for v in model.elements.singles}
    tables = [(f.names, f.values.detach().numpy()) for f in model.factors()]
    return oracle.log_evidence(oracle.joint(cards, tables))


def scopes(model):
    return [tuple(v.name for v in p.variables) for p in model.potentials]


def test_two_nodes():
    model = MarkovRandomField([("a", "b")], {("a", "b"): [[1, 1], [1, math.e]]})
    p = float(model.log_prob({"a": 1, "b": 1}).exp())
    assert p == pytest.approx(math.e / (3 + math.e), abs=1e-12)
    assert model.query("a")["a"].probs[1] == pytest.approx((1 + math.e) / (3 + math.e))


def test_nothing_declared():
    graph = nx.Graph([("a", "b"), ("b", "c"), ("c", "a"), ("c", "d")])
    graph.add_node("alone")
    model = MarkovRandomField(graph, states=dict.fromkeys(graph, 2))
    assert set(map(frozenset, scopes(model))) == {
        frozenset("abc"),
        frozenset("cd"),
        frozenset(["alone"]),
    }
    assert all(p.requires_grad for p in model.parameters())
    assert float(model.log_partition().detach()) == pytest.approx(5 * math.log(2))
    assert model.num_free_parameters == 7 + 3 + 1
    assert list(model.variables) == list(graph)


def test_what_is_declared_covers_its_edges():
    graph = nx.Graph([("a", "b"), ("b", "c"), ("c", "a"), ("c", "d")])
    states = dict.fromkeys(graph, 2)
    pair = np.ones((2, 2))
    model = MarkovRandomField(graph, {("a", "b"): pair, ("d", "c"): pair, "a": [1, 2]}, states)
    assert scopes(model) == [("a", "b"), ("d", "c"), ("a",), ("a", "b", "c")]
    model = MarkovRandomField(graph, [TabularPotential([Variable(n, 2) for n in "bca"])], states)
    assert scopes(model) == [("b", "c", "a"), ("c", "d")]
    unary = MarkovRandomField(nx.Graph([("a", "b")]), {"a": [1, 2]}, {"b": 2})
    assert scopes(unary) == [("a",), ("a", "b")]


def test_attributes_of_the_graph():
    graph = nx.Graph()
    graph.add_node("b", states=["x", "y", "z"])
    graph.add_node("a", states=2, potential=[1, 3])
    graph.add_edge("a", "b", potential=AB.T)  # in the order of the nodes: b, a
    model = MarkovRandomField(graph)
    assert scopes(model) == [("a",), ("b", "a")]
    assert float(model.log_score({"a": 1, "b": "y"})) == pytest.approx(math.log(3 * 5))
    instead = MarkovRandomField(graph, {("a", "b"): AB + 1, "a": [1, 1]})
    assert float(instead.log_score({"a": 1, "b": "y"})) == pytest.approx(math.log(6))
    assert "potential" in graph.nodes["a"]


def test_ways_to_give_a_potential():
    cliques = {
        ("a", "c"): functools.partial(Ising, coupling=0.5),
        ("a", "b"): AB,
        "c": TabularPotential(C, [1, 2]),
        ("b",): Factor([B], torch.zeros(3).double()),
        frozenset("bc"): np.ones((3, 2)),
    }
    model = MarkovRandomField([("a", "b"), ("a", "c"), ("b", "c")], cliques, {"b": B.states})
    assert [type(p).__name__ for p in model.potentials] == [
        "Ising",
        "TabularPotential",
        "TabularPotential",
        "FactorTables",
        "TabularPotential",
    ]
    assert model.variables["b"] == B
    assert float(model.log_score({"a": 0, "b": "y", "c": 1})) == pytest.approx(math.log(4) - 0.5)


def test_edges_that_are_all_alike():
    graph = nx.petersen_graph()
    variables = [Variable(n, 2) for n in graph]
    by_name = MarkovRandomField(graph, [Ising(variables, 0.4, 0.1, graph.edges)])
    one_by_one = MarkovRandomField(
        graph,
        {
            **dict.fromkeys(graph.edges, functools.partial(Ising, coupling=0.4)),
            **dict.fromkeys(graph, functools.partial(Ising, field=0.1)),
        },
        dict.fromkeys(graph, 2),
    )
    assert len(one_by_one.potentials) == 25
    assert len(one_by_one.factor_groups()) == 3
    s = np.array(list(itertools.product((-1, 1), repeat=10)))
    energy = 0.4 * sum(s[:, a] * s[:, b] for a, b in graph.edges) + 0.1 * s.sum(1)
    want = np.log(np.exp(energy).sum())
    for model in (by_name, one_by_one, MarkovRandomField(by_name.potentials)):
        assert float(model.log_partition()) == pytest.approx(want, abs=1e-9)
        assert nx.utils.graphs_equal(nx.Graph(model.graph.edges), nx.Graph(graph.edges))


def test_arrays_on_a_graph():
    graph = nx.Graph()
    graph.add_node("label", states=2)
    graph.add_node("pixel", states=2, shape=(2, 3))
    graph.add_edge("label", "pixel")
    pixel = Variable("pixel", 2, shape=(2, 3))
    model = MarkovRandomField(graph, {"pixel": Ising(pixel, 0.3), ("pixel", 0, 1): [1, 2]})
    assert set(model.graph) == {"label", "pixel"}
    assert scopes(model) == [("pixel",), (("pixel", 0, 1),), ("label", "pixel")]
    assert model.potentials[2].num_factors == 6
    assert float(model.log_partition().detach()) == pytest.approx(log_z(model), abs=1e-9)
    grown = model.element_graph()
    assert set(grown) == {"label", *(("pixel", i, j) for i in range(2) for j in range(3))}
    assert grown.has_edge(("pixel", 0, 1), ("pixel", 1, 1))
    assert grown.has_edge("label", ("pixel", 1, 2))
    assert grown.number_of_edges() == 7 + 6
    whole = MarkovRandomField([("a", "pixel")], states={"a": 2, "pixel": pixel})
    assert whole.variables["pixel"] == pixel


def test_elements_belong_to_the_array_that_is_there():
    x = Variable("x", 2, shape=(3,))
    model = MarkovRandomField(
        [TabularPotential([x.element(2), A], [[1, 2], [3, 4]]), Ising(x, 0.2)]
    )
    assert list(model.variables) == ["a", "x"]
    assert model.graph.has_edge("a", "x")
    assert float(model.log_partition()) == pytest.approx(log_z(model), abs=1e-9)
    with pytest.raises(ModelError, match=r"\('x', 0\)"):
        MarkovRandomField([Ising(x), TabularPotential(Variable(("x", 0), 3))])
    with pytest.raises(ModelError, match="is an element of the array"):
        MarkovRandomField([Ising(x), TabularPotential([x, x.element(1)])])


def test_grids():
    ising = MarkovRandomField.grid((2, 3), coupling=0.5, field=0.1, name="spin")
    assert isinstance(ising.potentials[0], Ising)
    assert list(ising.variables) == ["spin"]
    potts = MarkovRandomField.grid((2, 2), ["r", "g", "b"], 0.7)
    assert isinstance(potts.potentials[0], Potts)
    assert potts.variables["x"].states == ("r", "g", "b")
    learnable = MarkovRandomField.grid((2, 2))
    assert [p.requires_grad for p in learnable.parameters()] == [True]
    cube = MarkovRandomField.grid((2, 2, 2), 2, [0.1, 0.2, 0.3])
    for model in (ising, potts, cube):
        assert float(model.log_partition()) == pytest.approx(log_z(model), abs=1e-9)


@given(st.integers(0, 2**31))
def test_random_graphs(seed):
    rng = np.random.default_rng(seed)
    graph = nx.gnp_random_graph(int(rng.integers(1, 7)), float(rng.random()), seed=seed)
    states = {n: int(rng.integers(1, 4)) for n in graph}
    cliques = {}
    for clique in nx.find_cliques(graph):
        if rng.random() < 0.7:
            names = [clique[k] for k in rng.permutation(len(clique))[: rng.integers(1, 4)]]
            table = rng.gamma(1.0, size=[states[n] for n in names]) + 0.01
            table.ravel()[1:][rng.random(table.size - 1) < 0.2] = 0
            cliques[tuple(names) if len(names) > 1 else names[0]] = table
    cliques = {
        key: table
        for k, (key, table) in enumerate(cliques.items())
        if not any(_same(key, other) for other in list(cliques)[:k])
    }
    model = MarkovRandomField(graph, cliques, states)
    tables = [(key if isinstance(key, tuple) else (key,), t) for key, t in cliques.items()]
    joint = oracle.joint(states, tables)
    assert float(model.log_partition().detach()) == pytest.approx(
        oracle.log_evidence(joint), abs=1e-9
    )
    covered = {frozenset(e) for p in model.potentials for c in p.cliques
               for e in itertools.combinations(c, 2)}  # fmt: skip
    assert covered == {frozenset(e) for e in graph.edges}
    assert {v.name for p in model.potentials for v in p.variables} == set(graph)


def _same(a, b):
    as_set = [frozenset(k if isinstance(k, tuple) else (k,)) for k in (a, b)]
    return as_set[0] == as_set[1]


# --- what is refused ----------------------------------------------------------------------------

TRIANGLE = [("a", "b"), ("b", "c"), ("a", "c")]
PATH = [("a", "b"), ("b", "c")]
TWO = dict.fromkeys("abc", 2)


@pytest.mark.parametrize(
    ("graph", "potentials", "states", "match"),
    [
        (nx.DiGraph(PATH), None, TWO, "from_bayesian"),
        (nx.MultiGraph(PATH), None, TWO, "use nx.Graph"),
        ([*PATH, ("a", "a")], None, TWO, "'a' is its own neighbour"),
        (PATH, {("a", "c"): np.ones((2, 2))}, TWO, "no edge between 'a' and 'c'"),
        (PATH, [TabularPotential([A, C])], {"b": 2}, "no edge between 'a' and 'c'"),
        (PATH, {(): 1.0}, TWO, "empty clique"),
        (PATH, {("a", "bb"): np.ones((2, 2))}, TWO, "did you mean 'b'"),
        (nx.Graph(PATH), {"aa": [1, 1]}, TWO, "'aa', which is not a node"),
        (PATH, {("a", "a"): np.ones((2, 2))}, TWO, "names a node twice"),
        (PATH, {("a", "b"): np.ones((2, 2)), ("b", "a"): np.ones((2, 2))}, TWO, "given twice"),
        (PATH, {("a", "b"): -np.ones((2, 2))}, TWO, "not below zero"),
        (PATH, {("a", "b"): np.ones((2, 3))}, TWO, r"shape \(2, 2\)"),
        (PATH, {("a", "b"): TabularPotential(A)}, TWO, r"is one over \('a',\)"),
        (PATH, {("a", "b"): lambda scope: 3}, TWO, "callable returned 3"),
        (PATH, {("a", "b"): lambda scope: TabularPotential(A)}, TWO, "callable returned Tab"),
        (PATH, None, {"a": 2, "b": 2}, "states of 'c' are not known"),
        (nx.Graph(PATH), None, {**TWO, "d": 2}, "not a node of the graph"),
        (PATH, [TabularPotential([A, B])], TWO, "'b' has two different declarations"),
        (PATH, [A], TWO, "Potential or Factor objects"),
        (PATH, 3.0, TWO, "mapping of cliques"),
        (PATH, None, {**TWO, "a": B}, "another name"),
        ([("a", "b", "c")], None, TWO, "pair of nodes"),
        (["ab"], None, TWO, "pair of nodes"),
        ("ab", None, TWO, "nx.Graph or edges"),
        (3, None, TWO, "nx.Graph or edges"),
        ([TabularPotential(A), ("a", "b")], None, TWO, "not a mixture"),
        ([TabularPotential(A)], {"a": [1, 1]}, None, "go with a graph"),
        ([TabularPotential(A), TabularPotential(Variable("a", 3))], None, None, "disagree"),
        (nx.Graph(), None, None, "at least one"),
        ([], None, None, "at least one"),
        ([Factor([], torch.zeros(()))], None, None, "at least one"),
        (pgnn.BayesianNetwork([], {"a": [0.5, 0.5]}), None, None, "from_bayesian"),
    ],
)
def test_wrong_declarations(graph, potentials, states, match):
    with pytest.raises(ModelError, match=match):
        MarkovRandomField(graph, potentials, states)


def test_real_nodes():
    graph = nx.Graph()
    graph.add_node("w", shape=(2,))
    with pytest.raises(ModelError, match="no real variables"):
        MarkovRandomField(graph)


def test_large_cliques_are_not_written_down():
    with pytest.raises(Intractable, match="such as the edges"):
        MarkovRandomField(nx.complete_graph(30), states=dict.fromkeys(range(30), 2))


def test_the_callers_graph_is_theirs():
    graph = nx.Graph(PATH)
    model = MarkovRandomField(graph, states=TWO)
    graph.remove_edge("a", "b")
    assert model.graph.has_edge("a", "b")
    with pytest.raises(nx.NetworkXError):
        model.graph.add_edge("a", "c")


def test_generators_are_read_once():
    assert len(MarkovRandomField((e for e in PATH), states=TWO).graph) == 3
    assert len(MarkovRandomField(TabularPotential(v) for v in (A, B)).potentials) == 2
    assert MarkovRandomField([], states={"a": 2}).potentials[0].cliques == (("a",),)


def test_a_misspelled_name_is_told():
    with pytest.raises(ModelError, match="'Rain' is given a table or states but has no edges"):
        MarkovRandomField(
            [("rain", "wet")], {("rain", "wet"): [[1, 2], [3, 4]]}, {"Rain": 2, "wet": 2}
        )
    table = {("rain", "wet"): [[1, 2], [3, 4]], "lone": [1, 2]}
    assert list(MarkovRandomField([("rain", "wet")], table).variables) == ["lone", "rain", "wet"]
