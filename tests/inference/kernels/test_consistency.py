"""States ruled out and assignments found, against all assignments written down."""

import itertools

import numpy as np
import pytest
import torch

from pgnn.factors.elements import Elements
from pgnn.factors.groups.factor_group import TableGroup
from pgnn.factors.groups.potts_group import PottsGroup
from pgnn.factors.variable import Variable
from pgnn.inference.factor_graph import FactorGraph
from pgnn.inference.kernels import consistency
from pgnn.inference.threads import never_stop


def search(graph: FactorGraph, alive: np.ndarray, budget: int) -> tuple[int, np.ndarray]:
    """Status and living states of one row, all factors looked at."""
    wiring = graph.wiring
    sizes = np.array([wiring.card.max(), np.diff(wiring.factor_ptr).max()])
    hard = np.ones(len(wiring.table), dtype=np.bool_)
    order = np.unique(wiring.slot_var)[None]
    status, alive = np.zeros(1, dtype=np.int64), alive[None].copy()
    liked = np.random.default_rng(0).random(alive.shape)
    tables = np.array(graph.log_tables, order="C")
    rows = np.zeros(1, dtype=np.int64)
    consistency.search(
        wiring, sizes, tables, hard, order, liked, budget, rows, alive, status, never_stop()
    )
    return int(status[0]), alive[0]


def random_constraints(seed: int, zeros: float) -> FactorGraph:
    """Tables over two and three elements of up to three states, and two Potts factors."""
    rng = np.random.default_rng(seed)
    card = rng.integers(1, 4, size=6)
    card[4:] = 3
    groups = [PottsGroup([(4, 5)], torch.tensor([-np.inf], dtype=torch.float64), 3)]
    for _ in range(7):
        scope = rng.permutation(6)[: rng.integers(2, 4)]
        table = np.where(rng.random(card[scope]) < zeros, -np.inf, 0.0)
        groups.append(TableGroup([scope], torch.from_numpy(table)[None]))
    variables = [Variable(k, int(n)) for k, n in enumerate(card)]
    return FactorGraph(Elements(variables), tuple(groups))


def solutions(graph: FactorGraph, alive: np.ndarray) -> list[tuple[int, ...]]:
    """All assignments of living states that no table forbids."""
    parts = np.split(alive, graph.elements.offset[1:-1])
    every = np.array([*itertools.product(*(np.flatnonzero(p) for p in parts))], dtype=np.int32)
    if not len(every):
        return []
    return [tuple(x) for x in every[graph.log_score(every).numpy() > -np.inf].tolist()]


@pytest.mark.parametrize("zeros", [0.3, 0.5, 0.6])
def test_small_problems(zeros) -> None:
    """Found means that it is one; impossible that there is none; what is ruled out is in none."""
    outcomes = set()
    for seed in range(60):
        graph = random_constraints(seed, zeros)
        alive = np.ones(int(graph.elements.offset[-1]), dtype=np.bool_)
        alive[np.random.default_rng(seed).integers(len(alive))] = False
        if not all(p.any() for p in np.split(alive, graph.elements.offset[1:-1])):
            continue
        expected = solutions(graph, alive)
        status, left = search(graph, alive, -1)
        assert (left <= alive).all()
        if expected:
            assert status == consistency.UNKNOWN
            assert solutions(graph, left) == expected
        status, left = search(graph, alive, 10_000)
        assert status == (consistency.FOUND if expected else consistency.IMPOSSIBLE)
        outcomes.add(status)
        if expected:
            found = solutions(graph, left)  # several where nothing constrains an element
            assert found
            assert set(found) <= set(expected)
            parts = np.split(left, graph.elements.offset[1:-1])
            assert all(parts[i].sum() == 1 for i in np.unique(graph.wiring.slot_var))
    assert len(outcomes) == 2


@pytest.mark.parametrize("seed", range(5))
def test_clauses_near_the_threshold(seed) -> None:
    """100 switches, 420 clauses over three, one assignment planted: needs fresh starts."""
    rng = np.random.default_rng(seed)
    planted = rng.integers(2, size=100)
    scopes = np.array([rng.permutation(100)[:3] for _ in range(420)])
    tables = np.zeros((420, 2, 2, 2))
    for f, scope in enumerate(scopes):
        wrong = rng.integers(2, size=3)
        while (wrong == planted[scope]).all():
            wrong = rng.integers(2, size=3)
        tables[(f, *wrong)] = -np.inf
    graph = FactorGraph(
        Elements([Variable("x", 2, shape=(100,))]), (TableGroup(scopes, torch.from_numpy(tables)),)
    )
    status, left = search(graph, np.ones(200, dtype=np.bool_), 1000)
    assert status == consistency.FOUND
    states = left.reshape(100, 2).argmax(axis=1)[None].astype(np.int32)
    assert left.sum() == 100
    assert graph.log_score(states).tolist() == [0.0]


@pytest.mark.parametrize("first", [0, 1])
def test_a_neighbour_that_is_known_rules_its_state_out(first) -> None:
    never = PottsGroup([(0, 1)], torch.tensor([-np.inf], dtype=torch.float64), 3)
    graph = FactorGraph(Elements([Variable("x", 3, shape=(2,))]), (never,))
    alive = np.ones((2, 3), dtype=np.bool_)
    alive[first] = [False, True, False]
    _, left = search(graph, alive.ravel(), -1)
    assert left.reshape(2, 3)[1 - first].tolist() == [True, False, True]
    always = PottsGroup([(0, 1)], torch.zeros(1, dtype=torch.float64), 3)
    free = FactorGraph(graph.elements, (always,))
    assert (search(free, alive.ravel(), -1)[1] == alive.ravel()).all()


def test_a_small_budget_gives_up() -> None:
    """Seven pigeons in six holes: none of few choices settles it."""
    pairs = [(i, j) for i in range(7) for j in range(i)]
    never = PottsGroup(pairs, torch.tensor([-np.inf], dtype=torch.float64), 6)
    graph = FactorGraph(Elements([Variable("pigeon", 6, shape=(7,))]), (never,))
    every = np.ones(42, dtype=np.bool_)
    assert search(graph, every, 3)[0] == consistency.UNKNOWN
    assert search(graph, every, 1_000_000)[0] == consistency.IMPOSSIBLE
