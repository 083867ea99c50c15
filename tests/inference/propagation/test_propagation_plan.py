"""Spanning forests: forests indeed, as large as can be, every factor in some of them."""

import networkx as nx
import numpy as np
import pytest
import torch

from pgnn.factors.elements import Elements
from pgnn.factors.groups.factor_group import FactorGroup, TableGroup
from pgnn.factors.groups.potts_group import PottsGroup
from pgnn.factors.variable import Variable
from pgnn.inference.factor_graph import FactorGraph
from pgnn.inference.propagation.propagation_plan import PropagationPlan


def graph_of(num: int, scopes: list[tuple[int, ...]]) -> FactorGraph:
    """Factors of any sizes over binary elements, those of two as Potts factors."""
    groups: list[FactorGroup] = []
    for scope in scopes:
        if len(scope) == 2:
            groups.append(PottsGroup([scope], torch.zeros(1), 2))
        else:
            groups.append(TableGroup([scope], torch.zeros(1, *[2] * len(scope))))
    return FactorGraph(Elements([Variable("x", 2, shape=(num,))]), tuple(groups))


def factor_graph(num: int, scopes: list[tuple[int, ...]]) -> nx.Graph:
    graph = nx.Graph()
    graph.add_nodes_from(range(num))
    graph.add_edges_from((("f", k), v) for k, scope in enumerate(scopes) for v in scope)
    return graph


def random_scopes(seed: int, num: int = 9) -> list[tuple[int, ...]]:
    rng = np.random.default_rng(seed)
    sizes = rng.integers(2, 5, size=14)
    return [tuple(rng.permutation(num)[:n].tolist()) for n in sizes]


@pytest.mark.parametrize("seed", range(8))
def test_forests_have_no_loops_and_no_room_left(seed):
    scopes = random_scopes(seed)
    forests = PropagationPlan(graph_of(9, scopes), num_forests=6, seed=seed).forests
    assert forests is not None
    assert len(forests) >= 6
    for member in forests:
        chosen = [s for s, m in zip(scopes, member, strict=True) if m]
        assert nx.is_forest(factor_graph(9, chosen))
        for scope, m in zip(scopes, member, strict=True):
            assert m or not nx.is_forest(factor_graph(9, [*chosen, scope]))
    np.testing.assert_allclose(forests.weights, np.mean(list(forests), axis=0))
    assert (forests.weights > 0).all()
    assert (forests.weights <= 1).all()


def test_a_ring_leaves_out_each_edge_as_often():
    scopes = [(0, 1), (1, 2), (2, 3), (3, 0)]
    forests = PropagationPlan(graph_of(4, scopes), num_forests=8).forests
    assert forests is not None
    np.testing.assert_allclose(forests.weights, 0.75)


def test_bridges_are_in_all_forests():
    scopes = [(0, 1), (1, 2), (2, 0), (2, 3), (3, 4), (4, 5), (5, 3), (6, 7)]
    forests = PropagationPlan(graph_of(9, scopes), num_forests=9).forests
    assert forests is not None
    np.testing.assert_allclose(forests.weights[[3, 7]], 1.0)
    np.testing.assert_allclose(forests.weights[[0, 1, 2, 4, 5, 6]], 2 / 3)


def test_as_many_forests_as_it_takes_to_cover():
    scopes = [(0, 1)] * 7  # a forest has one of them
    forests = PropagationPlan(graph_of(2, scopes), num_forests=2).forests
    assert forests is not None
    assert len(forests) == 7
    np.testing.assert_allclose(forests.weights, 1 / 7)


def test_the_seed_decides():
    graph = graph_of(9, random_scopes(1))
    drawn = [PropagationPlan(graph, num_forests=4, seed=s).forests for s in (0, 0, 1)]
    first, again, other = (np.array(list(f or ())) for f in drawn)
    np.testing.assert_array_equal(first, again)
    assert first.shape != other.shape or (first != other).any()


def test_global_random_state_is_left_alone():
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    assert PropagationPlan(graph_of(9, random_scopes(1)), num_forests=4).forests
    np.testing.assert_array_equal(before, np.random.get_state()[1])  # noqa: NPY002


@pytest.mark.parametrize("scopes", [[], [(0, 1), (1, 2, 3)], [(4, 3), (0, 1)]])
def test_graphs_without_loops_need_none(scopes):
    plan = PropagationPlan(graph_of(5, scopes), num_forests=4)
    assert plan.acyclic
    assert plan.forests is None


@pytest.mark.parametrize("seed", range(8))
def test_whether_there_are_loops(seed):
    scopes = random_scopes(seed)
    for count in range(len(scopes)):
        plan = PropagationPlan(graph_of(9, scopes[:count]))
        assert plan.acyclic == nx.is_forest(factor_graph(9, scopes[:count]))


@pytest.mark.parametrize("seed", range(4))
def test_walks_reach_elements_next_to_those_before(seed):
    scopes = random_scopes(seed, 12)
    graph = graph_of(12, scopes)
    plan = PropagationPlan(graph, num_forests=3, seed=seed)
    assert plan.forests is not None
    for member in plan.forests:
        chosen = [s for s, m in zip(scopes, member, strict=True) if m]
        order, reached, through = plan.traverse(member)
        assert sorted(order.tolist()) == list(range(12))
        observed: set[int] = set()
        roots = 0
        slots = [(f, v) for f, s in enumerate(scopes) for v in s]
        for e in order.tolist():
            if reached[e] < 0:
                roots += 1
            else:
                f, v = slots[reached[e]]
                assert v == e
                assert observed & set(scopes[f])
                assert member[f]
            observed.add(e)
        components = nx.number_connected_components(factor_graph(12, chosen))
        assert roots == components
        assert len(through) == member.sum()
        assert sorted(slots[s][0] for s in through) == np.flatnonzero(member).tolist()


def test_depth_is_the_longest_way_from_a_root():
    assert PropagationPlan(graph_of(6, [(0, 1), (1, 2), (2, 3), (4, 5)])).depth == 3
    assert PropagationPlan(graph_of(6, [(5, 1, 2), (3, 2)])).depth == 2
    assert PropagationPlan(graph_of(3, [])).depth == 0
