import networkx as nx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgnn.errors import ModelError
from pgnn.graphs import ancestors, barren_nodes, is_d_separated, markov_blanket, neighbourhood
from tests.graphs.graph_zoo import dags, graphs, three_sets

# spouse -> child <- node <- parent; child -> grandchild
FAMILY = nx.DiGraph(
    [("parent", "node"), ("node", "child"), ("spouse", "child"), ("child", "grandchild")]
)


def test_blanket_of_a_family():
    assert markov_blanket(FAMILY, "node") == {"parent", "child", "spouse"}
    assert markov_blanket(FAMILY, "grandchild") == {"child"}


@given(dags())
def test_blanket_separates_and_is_minimal(graph):
    for node in graph:
        blanket = markov_blanket(graph, node)
        rest = set(graph) - blanket - {node}
        assert is_d_separated(graph, node, rest, blanket)
        for member in blanket:
            assert not is_d_separated(graph, node, member, blanket - {member})


@given(graphs())
def test_undirected_blanket_is_the_neighbourhood(graph):
    for node in graph:
        assert markov_blanket(graph, node) == set(graph.neighbors(node))


@given(dags(), st.integers(0, 4))
def test_neighbourhoods_are_those_of_networkx(graph, radius):
    for node in graph:
        expected = nx.ego_graph(graph, node, radius, undirected=True)
        assert neighbourhood(graph, node, radius) == set(expected)
    if graph:
        parts = [neighbourhood(graph, node, radius) for node in list(graph)[:2]]
        assert neighbourhood(graph, list(graph)[:2], radius) == set().union(*parts)


def test_a_negative_radius_is_refused():
    with pytest.raises(ModelError, match="radius must not be negative, got -1"):
        neighbourhood(FAMILY, "node", -1)


@given(st.data())
def test_ancestors_equal_networkx(data):
    graph = data.draw(dags())
    nodes, _, _ = data.draw(three_sets(graph, need_both=False))
    expected = nodes.union(*(nx.ancestors(graph, node) for node in nodes))
    assert ancestors(graph, nodes) == expected


@given(st.data())
def test_barren_nodes_can_be_removed_one_leaf_after_another(data):
    graph = data.draw(dags())
    targets, evidence, _ = data.draw(three_sets(graph, need_both=False))
    pruned = graph.copy()
    while leaves := [n for n in pruned if not pruned.out_degree(n) and n not in targets | evidence]:
        pruned.remove_nodes_from(leaves)
    assert barren_nodes(graph, targets, evidence) == set(graph) - set(pruned)


def test_barren_of_a_family():
    assert barren_nodes(FAMILY, "node") == {"spouse", "child", "grandchild"}
    assert barren_nodes(FAMILY, "node", evidence="child") == {"grandchild"}


def test_results_are_new_sets():
    nodes = {"child"}
    assert len(ancestors(FAMILY, nodes)) == 4
    assert nodes == {"child"}


def test_wrong_arguments():
    with pytest.raises(ModelError, match=r"'grandchil' is not in the graph; did you mean 'grandch"):
        markov_blanket(FAMILY, "grandchil")
    with pytest.raises(ModelError, match="expected a directed graph"):
        ancestors(nx.Graph(FAMILY), "node")
    with pytest.raises(ModelError, match="target 'x' is not in the graph"):
        barren_nodes(FAMILY, "x")
    with pytest.raises(ModelError, match="evidence node 'x' is not in the graph"):
        barren_nodes(FAMILY, "node", {"x"})
    with pytest.raises(ModelError, match="cycle 'a' -> 'a'"):
        markov_blanket(nx.DiGraph([("a", "a")]), "a")
