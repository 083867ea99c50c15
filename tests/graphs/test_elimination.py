import itertools
import math
import random

import networkx as nx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pgnn.errors import ModelError
from pgnn.graphs import (
    MinDegree,
    MinFill,
    MinWeight,
    WeightedMinFill,
    elimination_order,
    evaluate_order,
    moral_graph,
)
from tests.graphs.graph_zoo import graphs, read_structure, state_counts

HEURISTICS = [MinFill(), WeightedMinFill(), MinWeight(), MinDegree()]


def eliminate(graph, order):
    """Cliques of an order, by eliminating on a networkx graph."""
    left, cliques = graph.copy(), []
    for node in order:
        around = list(left[node])
        cliques.append(frozenset([node, *around]))
        left.add_edges_from(itertools.combinations(around, 2))
        left.remove_node(node)
    return cliques


def table_sizes(cliques, counts):
    return [math.prod(counts[n] for n in clique) for clique in cliques]


def slow_greedy(graph, counts, heuristic, last=()):
    """The documented rule, every cost computed afresh from its definition at every step."""
    left, order = graph.copy(), []

    def cost(node):
        around = list(left[node])
        pairs = [p for p in itertools.combinations(around, 2) if not left.has_edge(*p)]
        match heuristic:
            case MinFill():
                return len(pairs)
            case WeightedMinFill():
                return sum(counts[a] * counts[b] for a, b in pairs)
            case MinDegree():
                return len(around)
            case MinWeight():
                return math.prod(counts[n] for n in [node, *around])

    while left:
        early = [n for n in graph if n in left and n not in last]
        node = min(early or left, key=cost)
        order.append(node)
        left.add_edges_from(itertools.combinations(list(left[node]), 2))
        left.remove_node(node)
    return tuple(order)


@pytest.mark.parametrize("heuristic", HEURISTICS, ids=lambda h: type(h).__name__)
@given(data=st.data())
def test_follows_the_documented_rule(heuristic, data):
    graph = data.draw(graphs(max_nodes=12))
    counts = data.draw(state_counts(graph))
    last = data.draw(st.sets(st.sampled_from(list(graph)))) if graph else set()
    found = elimination_order(graph, counts, heuristic=heuristic, last=last)
    assert found.order == slow_greedy(graph, counts, heuristic, last)


@given(st.data())
def test_sizes_equal_recomputation(data):
    graph = data.draw(graphs())
    counts = data.draw(state_counts(graph))
    order = data.draw(st.permutations(list(graph)))
    found = evaluate_order(graph, order, counts)
    cliques = eliminate(graph, order)
    sizes = table_sizes(cliques, counts)
    assert found.order == tuple(order)
    assert list(found.cliques) == cliques
    assert found.width == max((len(c) for c in cliques), default=1) - 1
    assert found.total == sum(sizes)
    assert found.largest == pytest.approx(math.log2(max(sizes, default=1)))


@settings(max_examples=10)
@given(st.data())
def test_never_better_than_the_exhaustive_optimum(data):
    graph = data.draw(graphs(max_nodes=6, min_nodes=1))
    counts = data.draw(state_counts(graph))
    optimum = min(
        sum(table_sizes(eliminate(graph, order), counts)) for order in itertools.permutations(graph)
    )
    for heuristic in HEURISTICS:
        once = elimination_order(graph, counts, heuristic=heuristic)
        often = elimination_order(graph, counts, heuristic=heuristic, tries=8, seed=0)
        assert once.total >= often.total >= optimum
        assert evaluate_order(graph, often.order, counts) == often


def test_restarts_find_the_optimum_that_one_try_misses():
    graph = nx.grid_2d_graph(10, 10)
    once = elimination_order(graph)
    often = elimination_order(graph, tries=8, seed=1)
    assert often.total < once.total


def test_chordal_graphs_get_no_fill():
    tree = nx.random_labeled_tree(60, seed=3)
    assert elimination_order(tree).width == 1
    assert elimination_order(nx.complete_graph(7)).total == sum(2**k for k in range(1, 8))


@pytest.mark.parametrize("size", [0, 1, 3])
def test_without_edges(size):
    found = elimination_order(nx.empty_graph(size))
    assert found.order == tuple(range(size))
    assert found.width == 0
    assert found.total == 2 * size
    assert found.largest == (1 if size else 0)


def test_ties_go_to_the_first_node():
    assert elimination_order(nx.cycle_graph("dbca")).order == ("d", "b", "c", "a")


def test_last_nodes_stay_last_and_cost_what_they_cost():
    star = nx.star_graph(5)  # hub 0
    free = elimination_order(star)
    bound = elimination_order(star, last=[1, 2, 3, 4, 5])
    assert free.width == 1
    assert bound.order == (0, 1, 2, 3, 4, 5)
    assert bound.width == 5
    assert elimination_order(star, last=0).order[-1] == 0


def test_several_heuristics_return_the_cheapest():
    graph = nx.convert_node_labels_to_integers(nx.grid_2d_graph(5, 5))
    counts = {n: 2 + n % 4 for n in graph}
    each = [elimination_order(graph, counts, heuristic=h).total for h in HEURISTICS]
    assert elimination_order(graph, counts, heuristic=HEURISTICS).total == min(each)


def test_seed_decides_and_global_state_stays():
    graph = nx.grid_2d_graph(5, 5)
    state = random.getstate()
    first, second = (elimination_order(graph, tries=6, seed=4) for _ in range(2))
    assert first == second
    assert random.getstate() == state


def test_no_time_still_gives_the_first_try():
    graph = nx.grid_2d_graph(10, 10)
    hurried = elimination_order(graph, tries=8, seed=1, budget_seconds=0.0)
    assert hurried == elimination_order(graph)
    assert hurried.total > elimination_order(graph, tries=8, seed=1, budget_seconds=60.0).total


def test_sizes_beyond_floats():
    found = elimination_order(nx.complete_graph(1100))
    assert found.total == math.inf
    assert found.largest == 1100


def test_graph_is_not_changed():
    graph = nx.cycle_graph(5)
    elimination_order(graph, tries=3, seed=0)
    assert nx.utils.graphs_equal(graph, nx.cycle_graph(5))


@pytest.mark.parametrize(("name", "width"), [("andes.bif", 17), ("munin.bif.gz", 8)])
def test_real_networks_reach_the_published_widths(data_dir, name, width):
    graph, counts = read_structure(data_dir / "bn" / name)
    found = elimination_order(moral_graph(graph), counts)
    assert found.width <= width
    assert sorted(found.order) == sorted(graph)


def test_wrong_arguments():
    square = nx.cycle_graph(["a", "b", "c", "d"])
    with pytest.raises(ModelError, match=r"expected an undirected graph .* moral_graph"):
        elimination_order(nx.DiGraph([("a", "b")]))
    with pytest.raises(ModelError, match="'a' is its own neighbour"):
        elimination_order(nx.Graph([("a", "a")]))
    with pytest.raises(ModelError, match="num_states lacks node 'c'"):
        elimination_order(square, {"a": 2, "b": 2})
    with pytest.raises(ModelError, match="node 'b' has 0 states"):
        elimination_order(square, {"a": 2, "b": 0, "c": 2, "d": 2})
    with pytest.raises(ModelError, match="last node 'e' is not in the graph"):
        elimination_order(square, last=["a", "e"])
    with pytest.raises(ModelError, match="expected tries >= 1"):
        elimination_order(square, tries=0)
    with pytest.raises(ModelError, match="and a heuristic"):
        elimination_order(square, heuristic=[])
    with pytest.raises(ModelError, match="must list all 4 nodes once, 1 are missing: 'd'"):
        evaluate_order(square, "abc")
    with pytest.raises(ModelError, match="'a' occurs twice"):
        evaluate_order(square, "abca")
    with pytest.raises(ModelError, match="'x' is not in the graph"):
        evaluate_order(square, "abcx")
