import networkx as nx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgnn.errors import ModelError
from pgnn.graphs import (
    elimination_order,
    evaluate_order,
    is_junction_tree,
    junction_tree,
    moral_graph,
    triangulate,
)
from tests.graphs.graph_zoo import dags, graphs, read_structure


def holds_running_intersection(tree):
    """By its definition: the cliques that hold a node induce a connected subgraph."""
    nodes = frozenset().union(*tree)
    return all(nx.is_connected(tree.subgraph(c for c in tree if n in c)) for n in nodes)


def weighted_tree(*edges):
    tree = nx.Graph()
    for a, b in edges:
        a, b = frozenset(a), frozenset(b)
        tree.add_edge(a, b, separator=a & b)
    return tree


@given(st.data())
def test_tree_of_any_order(data):
    graph = data.draw(graphs())
    order = data.draw(st.permutations(list(graph)))
    tree = junction_tree(graph, order)
    chordal = triangulate(graph, order)
    assert set(tree) == {frozenset(c) for c in nx.find_cliques(chordal)}
    assert holds_running_intersection(tree)
    assert all(s == a & b and s for a, b, s in tree.edges(data="separator"))
    assert nx.number_connected_components(tree) == nx.number_connected_components(graph)
    assert tree.number_of_edges() == len(tree) - nx.number_connected_components(graph)
    assert is_junction_tree(tree, graph)
    assert is_junction_tree(tree, chordal)


@given(st.data())
def test_triangulation_is_chordal_and_contains_the_graph(data):
    graph = data.draw(graphs())
    order = data.draw(st.permutations(list(graph)))
    chordal = triangulate(graph, order)
    assert list(chordal) == list(graph)
    assert all(chordal.has_edge(*edge) for edge in graph.edges)
    assert len(chordal) == 0 or nx.is_chordal(chordal)


@given(dags())
def test_every_family_lies_in_a_clique(graph):
    tree = junction_tree(moral_graph(graph))
    for node in graph:
        family = {node, *graph.predecessors(node)}
        assert any(family <= clique for clique in tree)
    assert is_junction_tree(tree, graph)


@pytest.mark.parametrize(
    ("graph", "cliques"),
    [
        (nx.empty_graph(0), set()),
        (nx.empty_graph(2), {frozenset({0}), frozenset({1})}),
        (nx.complete_graph(5), {frozenset(range(5))}),
        (nx.Graph([(0, 1), (2, 3)]), {frozenset({0, 1}), frozenset({2, 3})}),
    ],
    ids=["empty", "isolated", "complete", "disconnected"],
)
def test_special_graphs(graph, cliques):
    tree = junction_tree(graph)
    assert set(tree) == cliques
    assert tree.number_of_edges() == 0
    assert is_junction_tree(tree, graph)


@pytest.mark.parametrize(("large", "kept"), [({0, 2}, {1, 3}), ({1, 3}, {0, 2})])
def test_default_order_joins_the_nodes_of_few_states(large, kept):
    counts = {node: 9 if node in large else 2 for node in range(4)}
    tree = junction_tree(nx.cycle_graph(4), num_states=counts)
    assert [separator for *_, separator in tree.edges(data="separator")] == [kept]


def test_attributes_survive_triangulation():
    graph = nx.cycle_graph(4)
    graph.nodes[0]["states"] = 3
    graph.edges[0, 1]["potential"] = "p"
    chordal = triangulate(graph, evaluate_order(graph, range(4)))
    assert chordal.nodes[0] == {"states": 3}
    assert chordal.edges[0, 1] == {"potential": "p"}
    assert chordal.has_edge(1, 3)
    assert not graph.has_edge(1, 3)


PATH = nx.path_graph("abcd")


@pytest.mark.parametrize(
    "tree",
    [
        weighted_tree(("ab", "cd"), ("cd", "bc")),  # b's cliques are apart
        weighted_tree(("ab", "bc"), ("bc", "cd"), ("cd", "ab")),  # a cycle
        weighted_tree(("ab", "bc")),  # d is nowhere
        weighted_tree(("ab", "bc"), ("bc", "d")),  # c - d is in no clique
        weighted_tree(("ab", "bc"), ("bc", "cde")),  # e is no node
        nx.Graph([(frozenset("ab"), frozenset("bc")), (frozenset("bc"), frozenset("cd"))]),
        nx.Graph([("ab", "bc"), ("bc", "cd")]),  # strings, not frozensets
        nx.Graph(),
    ],
    ids=["apart", "cycle", "node", "edge", "stranger", "no separators", "no sets", "empty"],
)
def test_check_refuses(tree):
    assert is_junction_tree(weighted_tree(("ab", "bc"), ("bc", "cd")), PATH)
    assert not is_junction_tree(tree, PATH)


def test_munin(data_dir):
    graph, counts = read_structure(data_dir / "bn" / "munin.bif.gz")
    moral = moral_graph(graph)
    tree = junction_tree(moral, elimination_order(moral, counts))
    assert is_junction_tree(tree, graph)


def test_wrong_arguments():
    with pytest.raises(ModelError, match="moral_graph"):
        junction_tree(nx.DiGraph([("a", "b")]))
    with pytest.raises(ModelError, match="3 are missing"):
        triangulate(PATH, "a")
    with pytest.raises(ModelError, match="occurs twice"):
        junction_tree(PATH, "abcda")
    with pytest.raises(ModelError, match="expected an undirected graph"):
        is_junction_tree(nx.DiGraph(), PATH)
