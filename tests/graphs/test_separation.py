import itertools

import networkx as nx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pgnn.errors import ModelError
from pgnn.graphs import active_trails, d_connected, is_d_separated
from tests.graphs.graph_zoo import dags, three_sets

CHAIN = nx.DiGraph([("a", "b"), ("b", "c")])
FORK = nx.DiGraph([("b", "a"), ("b", "c")])
COLLIDER = nx.DiGraph([("a", "b"), ("c", "b")])
BELOW = nx.DiGraph([("a", "b"), ("c", "b"), ("b", "d")])


def brute_force_trails(graph, x, y, observed):
    """All active simple trails, by trying every simple path of the skeleton."""
    skeleton = graph.to_undirected()
    found = set()
    for start, end in itertools.product(x, y):
        for path in nx.all_simple_paths(skeleton, start, end):
            if all(
                opens(graph, *path[i : i + 3], observed) for i in range(len(path) - 2)
            ) and not observed & {start, end}:
                found.add(tuple(path))
    return found


def opens(graph, before, node, after, observed):
    if graph.has_edge(before, node) and graph.has_edge(after, node):
        return node in observed or bool(nx.descendants(graph, node) & observed)
    return node not in observed


@pytest.mark.parametrize(
    ("graph", "observed", "separated"),
    [
        (CHAIN, (), False),
        (CHAIN, "b", True),
        (FORK, (), False),
        (FORK, "b", True),
        (COLLIDER, (), True),
        (COLLIDER, "b", False),
        (BELOW, (), True),
        (BELOW, "d", False),
    ],
)
def test_three_nodes(graph, observed, separated):
    assert is_d_separated(graph, "a", "c", observed) is separated
    assert is_d_separated(graph, "c", "a", observed) is separated
    expected = [] if separated else [("a", "b", "c")]
    assert list(active_trails(graph, "a", "c", observed)) == expected
    assert ("c" in d_connected(graph, "a", observed)) is not separated


@given(st.data())
def test_equals_networkx_and_brute_force(data):
    graph = data.draw(dags())
    x, y, observed = data.draw(three_sets(graph))
    separated = is_d_separated(graph, x, y, observed)
    assert separated == nx.is_d_separator(graph, x, y, observed)
    trails = list(active_trails(graph, x, y, observed))
    assert set(trails) == brute_force_trails(graph, x, y, observed)
    assert len(trails) == len(set(trails))
    assert bool(trails) is not separated


@settings(max_examples=10)
@given(st.data())
def test_connected_set_equals_pgmpy(data):
    from pgmpy.base import DAG

    graph = data.draw(dags().filter(len))
    source = data.draw(st.sampled_from(list(graph)))
    _, _, observed = data.draw(three_sets(graph, need_both=False))
    observed -= {source}
    theirs = DAG()
    theirs.add_nodes_from(graph)
    theirs.add_edges_from(graph.edges)
    expected = theirs.active_trail_nodes([source], observed=list(observed))[source]
    assert d_connected(graph, source, observed) == expected


def test_observed_nodes_are_not_in_the_connected_set():
    assert d_connected(COLLIDER, "a", given="b") == {"a", "c"}
    assert d_connected(CHAIN, "a", given="b") == {"a"}


def test_several_sources_reach_what_each_reaches():
    graph = nx.DiGraph([("a", "b"), ("c", "d"), ("e", "f")])
    assert d_connected(graph, ["a", "d"]) == {"a", "b", "c", "d"}


def test_empty_side_is_separated():
    assert is_d_separated(CHAIN, (), "c")
    assert is_d_separated(CHAIN, "a", [])
    assert list(active_trails(CHAIN, "a", ())) == []


def test_tuple_nodes_are_single_nodes():
    graph = nx.DiGraph([(("z", 0), ("z", 1)), (("z", 1), ("z", 2))])
    assert is_d_separated(graph, ("z", 0), ("z", 2), given=("z", 1))
    assert not is_d_separated(graph, ("z", 0), (("z", 2), ("z", 1)))


def test_trails_are_lazy_and_dead_ends_are_skipped():
    # Every simple path of a dense part: far too many to list, and none leads to "end".
    graph = nx.DiGraph(itertools.combinations(range(40), 2))
    graph.add_edges_from([("start", 0), ("stop", 39), ("start", "end")])
    assert list(active_trails(graph, "start", "end")) == [("start", "end")]
    assert len(list(itertools.islice(active_trails(graph, 0, 39), 5))) == 5


def test_long_chain_needs_no_recursion():
    chain = nx.path_graph(5000, create_using=nx.DiGraph)
    assert next(active_trails(chain, 0, 4999)) == tuple(range(5000))
    assert is_d_separated(chain, 0, 4999, given=2500)


@pytest.mark.parametrize("function", [is_d_separated, active_trails])
def test_wrong_arguments(function):
    with pytest.raises(ModelError, match=r"both sides"):
        function(CHAIN, {"a", "b"}, {"b", "c"})
    with pytest.raises(ModelError, match=r"node 'b' is both a query node and given"):
        function(CHAIN, "a", "b", given={"b"})
    with pytest.raises(ModelError, match=r"given node 'bb' is not in the graph; did you mean 'b'"):
        function(CHAIN, "a", "c", given="bb")
    with pytest.raises(ModelError, match=r"expected a directed graph .* got an undirected Graph"):
        function(nx.Graph(CHAIN), "a", "c")
    with pytest.raises(ModelError, match=r"cycle 'a' -> 'b' -> 'a'"):
        function(nx.DiGraph([("a", "b"), ("b", "a"), ("b", "c")]), "a", "c")


def test_connected_set_refuses_an_observed_source():
    with pytest.raises(ModelError, match=r"'a' is both a query node and given"):
        d_connected(CHAIN, "a", given="a")
