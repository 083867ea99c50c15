"""Functions of graphs take the model that is on one."""

import networkx as nx
import pytest

from pgnn import BayesianNetwork, MarkovRandomField, ModelError, graphs

EDGES = [("a", "c"), ("b", "c"), ("c", "d")]
DIRECTED, UNDIRECTED = nx.DiGraph(), nx.Graph()
for drawn in (DIRECTED, UNDIRECTED):
    drawn.add_nodes_from("abcd")
    drawn.add_edges_from(EDGES)
NETWORK = BayesianNetwork(EDGES, states=dict.fromkeys("abcd", 2))
FIELD = MarkovRandomField(UNDIRECTED, states=dict.fromkeys("abcd", 2))


@pytest.mark.parametrize(
    "ask",
    [
        lambda g: graphs.is_d_separated(g, "a", "b"),
        lambda g: graphs.d_connected(g, "a", "d"),
        lambda g: list(graphs.active_trails(g, "a", "b", "c")),
        lambda g: graphs.markov_blanket(g, "a"),
        lambda g: graphs.ancestors(g, "d"),
        lambda g: graphs.barren_nodes(g, "a"),
        lambda g: set(graphs.moral_graph(g).edges),
    ],
)
def test_of_directed_models(ask):
    assert ask(NETWORK) == ask(DIRECTED)


@pytest.mark.parametrize(
    "ask",
    [
        lambda g: graphs.elimination_order(g).order,
        lambda g: graphs.evaluate_order(g, "abcd").width,
        lambda g: set(graphs.triangulate(g, "abcd").edges),
        lambda g: set(graphs.junction_tree(g)),
        lambda g: graphs.greedy_colouring(g),
        lambda g: graphs.saturation_colouring(g),
        lambda g: graphs.is_colouring(g, dict(zip("abcd", range(4), strict=True))),
        lambda g: graphs.is_junction_tree(graphs.junction_tree(g), g),
    ],
)
def test_of_undirected_graphs(ask):
    assert ask(FIELD) == ask(UNDIRECTED)
    assert ask(NETWORK) == ask(graphs.moral_graph(DIRECTED))


def test_what_is_neither_is_told():
    with pytest.raises(ModelError, match="a graph of networkx, or a model"):
        graphs.moral_graph("a -> b")
    with pytest.raises(ModelError, match="undirected graph"):
        graphs.junction_tree(DIRECTED)
