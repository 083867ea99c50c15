import networkx as nx
import pytest
from hypothesis import given

from pgnn.errors import ModelError
from pgnn.graphs import moral_graph
from tests.graphs.graph_zoo import dags, read_structure


@given(dags())
def test_equals_networkx(graph):
    ours, theirs = moral_graph(graph), nx.moral_graph(graph)
    assert list(ours) == list(graph)
    assert {frozenset(e) for e in ours.edges} == {frozenset(e) for e in theirs.edges}


def test_attributes_are_kept_and_copied():
    graph = nx.DiGraph([("a", "c", {"weight": 1.0}), ("b", "c")], name="drawing")
    graph.nodes["a"]["states"] = ["no", "yes"]
    moral = moral_graph(graph)
    assert moral.graph["name"] == "drawing"
    assert moral.nodes["a"] == {"states": ["no", "yes"]}
    assert moral.edges["a", "c"] == {}
    moral.nodes["a"]["states"] = 3
    moral.graph["name"] = "moral"
    moral.add_edge("a", "d")
    assert graph.nodes["a"]["states"] == ["no", "yes"]
    assert graph.graph["name"] == "drawing"
    assert "d" not in graph


def test_many_parents():
    star = nx.DiGraph([(i, "child") for i in range(30)])
    assert moral_graph(star).number_of_edges() == 30 * 31 // 2


def test_munin(data_dir):
    graph, _ = read_structure(data_dir / "bn" / "munin.bif.gz")
    moral = moral_graph(graph)
    assert len(moral) == 1041
    assert nx.utils.edges_equal(moral.edges, nx.moral_graph(graph).edges)


def test_wrong_graphs():
    with pytest.raises(ModelError, match="expected a directed graph"):
        moral_graph(nx.Graph([("a", "b")]))
    with pytest.raises(ModelError, match=r"cycle 'a' -> 'b' -> 'c' -> 'a'; remove one"):
        moral_graph(nx.DiGraph([("a", "b"), ("b", "c"), ("c", "a")]))
