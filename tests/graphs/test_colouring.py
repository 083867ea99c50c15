import networkx as nx
import numpy as np
import torch
from hypothesis import given

from pgnn.factors.elements import Elements
from pgnn.factors.groups.factor_group import TableGroup
from pgnn.factors.groups.potts_group import PottsGroup
from pgnn.factors.variable import Variable
from pgnn.graphs import greedy_colouring, interaction_graph, is_colouring, saturation_colouring
from pgnn.inference.factor_graph import FactorGraph
from tests.graphs.graph_zoo import graphs


def colours(graph):
    from pgnn.inference.sampling.kernels.gibbs import colour

    found = np.empty(len(graph.wiring.card), dtype=np.int64)
    colour(graph.wiring, found)
    return found


def compiled(num, scopes):
    """Colours by the kernel, of elements whose factors have these scopes."""
    by_size = {}
    for scope in scopes:
        by_size.setdefault(len(scope), []).append(scope)
    groups = tuple(
        TableGroup(held, torch.zeros((1,) + (2,) * size)) for size, held in by_size.items()
    )
    graph = FactorGraph(Elements([Variable("x", 2, (num,))]), groups)
    return dict(enumerate(colours(graph).tolist()))


def most_neighbours(graph):
    return max((d for _, d in graph.degree), default=0)


@given(graphs())
def test_colourings_are_valid_and_small(graph):
    for found in (greedy_colouring(graph), saturation_colouring(graph)):
        assert is_colouring(graph, found)
        assert set(found.values()) == set(range(len(set(found.values()))))
        assert len(set(found.values())) <= most_neighbours(graph) + 1


@given(graphs(min_nodes=1))
def test_the_kernel_is_the_same_rule(graph):
    assert compiled(len(graph), graph.edges) == greedy_colouring(graph)


def test_factors_of_any_order_keep_their_elements_apart():
    rng = np.random.default_rng(0)
    scopes = [
        rng.choice(30, size, replace=False).tolist() for size in (2, 3, 3, 4, 5) for _ in "ab"
    ]
    graph = interaction_graph(scopes, range(30))
    found = compiled(30, scopes)
    assert is_colouring(graph, found)
    assert found == greedy_colouring(graph)


def test_order_is_the_callers():
    path = nx.path_graph(4)
    assert len(set(greedy_colouring(path).values())) == 2
    assert greedy_colouring(path, [0, 3, 1, 2]) == {0: 0, 3: 0, 1: 1, 2: 2}


def test_dsatur_needs_two_colours_for_what_is_bipartite():
    # a crown: greedy in the order of the nodes takes four
    crown = nx.Graph((f"a{i}", f"b{j}") for i in range(4) for j in range(4) if i != j)
    order = [f"{side}{i}" for i in range(4) for side in "ab"]
    assert len(set(greedy_colouring(crown, order).values())) == 4
    assert len(set(saturation_colouring(crown).values())) == 2


def test_wrong_colourings_are_observed():
    path = nx.path_graph(3)
    assert not is_colouring(path, {0: 0, 1: 0, 2: 1})
    assert not is_colouring(path, {0: 0, 1: 1})


def test_a_large_grid_has_two_colours():

    cell = np.arange(300 * 300).reshape(300, 300)
    pairs = np.concatenate(
        [np.stack([cell[:, :-1].ravel(), cell[:, 1:].ravel()], 1),
         np.stack([cell[:-1].ravel(), cell[1:].ravel()], 1)]
    )  # fmt: skip
    group = PottsGroup(pairs, torch.ones(1), 2)
    graph = FactorGraph(Elements([Variable("x", 2, (300, 300))]), (group,))
    found = colours(graph)
    assert found.max() == 1
    assert (found[pairs[:, 0]] != found[pairs[:, 1]]).all()
