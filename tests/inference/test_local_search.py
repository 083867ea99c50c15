import itertools

import numpy as np
import pytest
import torch

from pgnn.factors import Variable
from pgnn.factors.elements import Elements
from pgnn.factors.groups.factor_group import TableGroup
from pgnn.factors.groups.potts_group import PottsGroup
from pgnn.inference.factor_graph import FactorGraph
from pgnn.inference.local_search import penalised, polish, score
from pgnn.inference.wiring import Neighbours

CARD = [2, 3, 1, 3, 2, 3, 3, 2]


def random_graph(seed: int, zeros: float = 0.0, rows: int = 0) -> FactorGraph:
    """Factors of two, three and four elements, Potts factors, a shared table; element 7 alone."""
    rng = np.random.default_rng(seed)
    elements = Elements([Variable(f"x{k}", n) for k, n in enumerate(CARD)])

    def table(*shape: int) -> torch.Tensor:
        values = rng.normal(size=shape)
        values[rng.random(shape) < zeros] = -np.inf
        return torch.from_numpy(values)

    batch = (rows,) if rows else ()
    return FactorGraph(
        elements,
        (
            TableGroup(np.array([[0, 1], [4, 5]]), table(*batch, 2, 2, 3)),
            TableGroup(np.array([[1, 2, 3]]), table(1, 3, 1, 3)),
            TableGroup(np.array([[3, 0, 5, 4]]), table(1, 3, 2, 3, 2)),
            PottsGroup(np.array([[1, 3], [3, 5], [6, 1]]), table(3), 3),
            TableGroup(np.array([[3, 6], [5, 6]]), table(1, 3, 3)),
            TableGroup(np.zeros((1, 0), np.int64), torch.tensor([0.3], dtype=torch.float64)),
            TableGroup(np.array([[0], [4]]), table(2, 2)),
        ),
    )


def field_of(graph: FactorGraph, rows: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return graph.log_field.numpy() + rng.normal(size=(rows, sum(CARD)))


def slow_score(graph: FactorGraph, field: np.ndarray, states: np.ndarray) -> np.ndarray:
    """The twin: factor by factor, in Python."""
    offset = graph.elements.offset
    total = []
    for r, x in enumerate(states):
        value = sum(field[r, offset[v] + k] for v, k in enumerate(x))
        for g in graph.groups:
            if g.arity == 1:
                continue
            tables = g.log_values.numpy()
            tables = tables[r] if g.batch_shape else tables
            for f, scope in enumerate(g.scopes):
                value += tables[0 if g.shared else f][tuple(x[v] for v in scope)]
        total.append(value)
    return np.array(total)


def all_states() -> np.ndarray:
    return np.array(list(itertools.product(*(range(n) for n in CARD))))


@pytest.mark.parametrize("rows", [0, 3])
def test_score_is_the_sum_of_the_factors(rows: int) -> None:
    graph = random_graph(0, 0.1, rows)
    field = field_of(graph, 3, 1)
    states = np.array([[k % n for n in CARD] for k in range(3)])
    np.testing.assert_allclose(score(graph, field, states), slow_score(graph, field, states))
    own = np.repeat(graph.log_field.numpy(), 3, axis=0)
    np.testing.assert_allclose(score(graph, own, states), graph.log_score(states).numpy())


def test_neighbours_are_those_that_share_a_factor() -> None:
    graph = random_graph(0)
    near = Neighbours.of(graph.local_wiring)
    expected = [set() for _ in CARD]
    for g in graph.interactions:
        for scope in g.scopes.tolist():
            for v in scope:
                expected[v] |= set(scope) - {v}
    for v in range(len(CARD)):
        found = near.var[near.ptr[v] : near.ptr[v + 1]].tolist()
        assert len(found) == len(set(found))
        assert set(found) == expected[v]
    for v, scope in enumerate(expected):
        for i in range(near.ptr[v], near.ptr[v + 1]):
            pairs = near.shared[near.shared_ptr[i] : near.shared_ptr[i + 1]]
            assert (graph.wiring.slot_var[pairs] == [v, near.var[i]]).all()
            both = [
                s
                for g in graph.interactions
                for s in g.scopes.tolist()
                if {v, near.var[i]} <= set(s)
            ]
            assert len(pairs) == len(both)
        assert v not in scope


def exchanges(graph: FactorGraph, x: np.ndarray, free: np.ndarray) -> np.ndarray:
    """Every assignment that differs in one free element, or in two of one factor."""
    scopes = [[v] for v in range(len(CARD))]
    scopes += [
        list(p) for g in graph.interactions for s in g.scopes for p in itertools.combinations(s, 2)
    ]
    found = []
    for scope in scopes:
        if free[scope].all():
            for states in itertools.product(*(range(CARD[v]) for v in scope)):
                found.append(x.copy())
                found[-1][scope] = states
    return np.array(found)


def violations(graph: FactorGraph, field: np.ndarray, states: np.ndarray) -> np.ndarray:
    """How many factors and own fields are minus infinity."""
    holes = FactorGraph(
        graph.elements,
        tuple(
            PottsGroup(g.scopes, torch.isinf(g.coupling).double(), g.num_states)
            if isinstance(g, PottsGroup)
            else TableGroup(g.scopes, torch.isinf(g.log_values).double())
            for g in graph.groups
        ),
    )
    return slow_score(holes, np.isinf(field).astype(float), states)


@pytest.mark.parametrize("zeros", [0.0, 0.3])
@pytest.mark.parametrize("rows", [0, 4])
def test_no_change_of_one_or_two_elements_helps(zeros: float, rows: int) -> None:
    for seed in range(8):
        graph = random_graph(seed, zeros, rows)
        rng = np.random.default_rng(seed)
        field = field_of(graph, 4, seed)
        field[rng.random(field.shape) < zeros / 3] = -np.inf
        states = rng.integers(0, CARD, (4, len(CARD)))
        free = rng.random((4, len(CARD))) < 0.8
        given = states.copy()
        found, value = polish(graph, field, states, free)
        assert (states == given).all()
        assert (found[~free] == given[~free]).all()
        np.testing.assert_allclose(value, slow_score(graph, field, found), rtol=1e-12)
        assert (value >= score(graph, field, given)).all()
        for r in range(4):
            others = exchanges(graph, found[r], free[r])
            rowwise = graph if not rows else _at_row(graph, r)
            repeated = np.repeat(field[r : r + 1], len(others), axis=0)
            mine = violations(rowwise, field[r : r + 1], found[r : r + 1])
            assert (violations(rowwise, repeated, others) >= mine).all()
            if mine == 0:
                assert (slow_score(rowwise, repeated, others) <= value[r] + 1e-12).all()


def _at_row(graph: FactorGraph, r: int) -> FactorGraph:
    return FactorGraph(
        graph.elements,
        tuple(TableGroup(g.scopes, g.log_values[r]) if g.batch_shape else g for g in graph.groups),
    )


def test_a_tree_is_solved_exactly() -> None:
    """A forest that the graph induces is a whole component, if that has no loops."""
    rng = np.random.default_rng(0)
    for _ in range(10):
        card = [3] * 8
        edges = np.array([[rng.integers(v), v] for v in range(1, 8) if v != 4])
        graph = FactorGraph(
            Elements([Variable("x", 3, shape=(8,))]),
            (TableGroup(edges, torch.from_numpy(3 * rng.normal(size=(len(edges), 3, 3)))),),
        )
        field = rng.normal(size=(1, 24))
        every = np.array(list(itertools.product(*(range(n) for n in card))))
        best = score(graph, np.repeat(field, len(every), axis=0), every).max()
        _, value = polish(graph, field, np.zeros((1, 8), int), np.ones(8, bool))
        np.testing.assert_allclose(value, best, rtol=1e-12)


def test_impossible_states_are_left() -> None:
    """A chain of equalities, all of them violated, one end pinned by its field."""
    n = 12
    table = torch.full((1, 2, 2), -torch.inf, dtype=torch.float64)
    table[0, 0, 0], table[0, 1, 1] = -700.0, 0.5
    edges = np.stack([np.arange(n - 1), np.arange(1, n)], axis=1)
    graph = FactorGraph(Elements([Variable("x", 2, shape=(n,))]), (TableGroup(edges, table),))
    field = np.zeros((1, 2 * n))
    field[0, 1] = -np.inf
    start = (np.arange(n) % 2)[None]
    found, value = polish(graph, field, start, np.ones(n, bool))
    assert (found == 0).all()
    assert value == pytest.approx(-700.0 * (n - 1))
    nothing = field.copy()
    nothing[0, 0] = -np.inf
    assert np.isneginf(polish(graph, nothing, start, np.ones(n, bool))[1])


def test_penalties_order_by_violations_first() -> None:
    for seed in range(4):
        graph = random_graph(seed, 0.3)
        field = field_of(graph, 1, seed)
        field[0, 3] = -np.inf
        tables, fields, _ = penalised(graph, field)
        assert np.isfinite(tables).all()
        assert np.isfinite(fields).all()
        every = all_states()
        many = np.repeat(field, len(every), axis=0)
        count = violations(graph, many, every)
        replaced = FactorGraph(graph.elements, graph.groups)
        replaced.__dict__["log_tables"] = tables
        value = score(replaced, np.repeat(fields, len(every), axis=0), every)
        order = np.argsort(-value, kind="stable")
        assert (np.diff(count[order]) >= 0).all()
        true = slow_score(graph, many, every)
        np.testing.assert_allclose(value[count == 0], true[count == 0], rtol=1e-9)


def test_nothing_to_do() -> None:
    graph = random_graph(0)
    none = np.zeros((0, len(CARD)), int)
    found, value = polish(graph, np.zeros((0, sum(CARD))), none, np.ones(len(CARD), bool))
    assert found.shape == (0, len(CARD))
    assert value.shape == (0,)
    lone = FactorGraph(Elements([Variable("a", 3)]), ())
    found, value = polish(lone, np.array([[0.0, 2.0, 1.0]]), np.array([[0]]), np.array([True]))
    assert (found[0, 0], value[0]) == (1, 2.0)
    empty = FactorGraph(Elements([]), ())
    assert polish(empty, np.zeros((1, 0)), np.zeros((1, 0), int), np.zeros(0, bool))[1] == 0.0


def test_the_same_input_gives_the_same_output() -> None:
    graph = random_graph(3)
    field = field_of(graph, 2, 0)
    start = np.zeros((2, len(CARD)), int)
    free = np.ones(len(CARD), bool)
    first, again = polish(graph, field, start, free), polish(graph, field, start, free)
    assert (first[0] == again[0]).all()
    assert (first[1] == again[1]).all()
