import itertools

import networkx as nx
from hypothesis import given
from hypothesis import strategies as st

from pgnn.graphs import interaction_graph, moral_graph
from tests.graphs.graph_zoo import dags


@given(st.lists(st.lists(st.integers(0, 9), max_size=4)))
def test_joins_exactly_the_pairs_of_a_scope(scopes):
    graph = interaction_graph(scopes)
    for a, b in itertools.combinations_with_replacement(range(10), 2):
        together = a != b and any({a, b} <= set(scope) for scope in scopes)
        assert graph.has_edge(a, b) is together
    assert set(graph) == set().union(*scopes)


@given(dags())
def test_scopes_give_the_moral_graph(graph):
    scopes = [[*graph.predecessors(node), node] for node in graph]
    ours = interaction_graph(scopes, graph)
    assert list(ours) == list(graph)
    assert nx.utils.edges_equal(ours.edges, moral_graph(graph).edges)


def test_nodes_without_a_factor_are_kept():
    assert list(interaction_graph([("b", "a"), ()], nodes="ca")) == ["c", "a", "b"]
