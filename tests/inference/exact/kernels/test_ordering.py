"""Compiled elimination orders are those of pgnn.graphs, node by node."""

import networkx as nx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgnn.graphs import MinFill, MinWeight, WeightedMinFill, elimination_order, evaluate_order
from pgnn.graphs.heuristics import Ranked
from pgnn.graphs.interaction import interaction_graph
from pgnn.inference.exact.kernels import ordering
from pgnn.inference.kernels import bitset

RULES = [
    (ordering.MIN_FILL, MinFill()),
    (ordering.WEIGHTED_MIN_FILL, WeightedMinFill()),
    (ordering.MIN_WEIGHT, MinWeight()),
]


class Problem:
    """Random scopes over numbered variables, some of them not free."""

    def __init__(self, seed: int, size: int = 12) -> None:
        rng = np.random.default_rng(seed)
        self.num_vars = int(rng.integers(1, size + 1))
        self.card = rng.integers(1, 6, self.num_vars)
        self.free = rng.random(self.num_vars) < 0.8
        self.stage = (rng.random(self.num_vars) < 0.3).astype(np.int64)
        count = int(rng.integers(0, 2 * self.num_vars + 1))
        self.scopes = [
            rng.permutation(self.num_vars)[: int(rng.integers(0, 5))].tolist() for _ in range(count)
        ]
        self.used = rng.random(count) < 0.9
        self.rank = rng.permutation(self.num_vars)

    @property
    def graph(self) -> nx.Graph:
        scopes = [
            [v for v in s if self.free[v]] for s, u in zip(self.scopes, self.used, strict=True) if u
        ]
        return interaction_graph(scopes, np.flatnonzero(self.free).tolist())

    @property
    def num_states(self) -> dict[int, int]:
        return {v: int(self.card[v]) for v in np.flatnonzero(self.free).tolist()}

    def eliminate(self, rule: int, staged: bool = False, noise: float = 0.0, seed: int = 0,
                  limit: float = np.inf):  # fmt: skip
        stage = self.stage > 0 if staged else np.zeros(len(self.stage), bool)
        ptr = np.concatenate([[0], np.cumsum([len(s) for s in self.scopes])]).astype(np.int64)
        var = np.array([v for s in self.scopes for v in s], dtype=np.int64)
        order, figures = np.empty(int(self.free.sum()), np.int64), np.empty(3)
        ordering.eliminate(
            ptr, var, self.used, self.free, self.card, stage, self.rank, rule, noise, seed, limit,
            order, figures,
        )  # fmt: skip
        return order, *figures.tolist()


@given(st.integers(0, 2**32), st.integers(0, len(RULES)), st.booleans())
def test_orders_are_those_of_the_twin(seed: int, which: int, staged: bool) -> None:
    problem = Problem(seed)
    ranked = Ranked(tuple(problem.rank[problem.free].tolist()))
    rule = [*RULES, (ordering.RANKED, ranked)][which]
    order, total, largest, width = problem.eliminate(rule[0], staged)
    last = np.flatnonzero(problem.free & (problem.stage > 0)).tolist() if staged else []
    twin = elimination_order(problem.graph, problem.num_states, heuristic=rule[1], last=last)
    assert order.tolist() == list(twin.order)
    if problem.free.any():
        assert (total, width) == (twin.total, twin.width)
        assert largest == pytest.approx(2.0**twin.largest)


def test_more_variables_than_a_word_has_bits() -> None:
    rng = np.random.default_rng(5)
    problem = Problem(0)
    problem.num_vars, problem.card = 200, rng.integers(2, 4, 200)
    problem.free, problem.stage = np.ones(200, bool), np.zeros(200, np.int64)
    problem.scopes = [rng.permutation(200)[:3].tolist() for _ in range(150)]
    problem.used = np.ones(150, bool)
    for rule, heuristic in RULES:
        order, total, _, width = problem.eliminate(rule)
        twin = elimination_order(problem.graph, problem.num_states, heuristic=heuristic)
        assert order.tolist() == list(twin.order)
        assert (total, width) == (twin.total, twin.width)


def graph_of(scopes: list[list[int]], card: np.ndarray) -> Problem:
    problem = Problem(0)
    problem.num_vars, problem.card, problem.scopes = len(card), card, scopes
    problem.free, problem.used = np.ones(len(card), bool), np.ones(len(scopes), bool)
    problem.stage = np.zeros(len(card), np.int64)
    return problem


def test_large_graphs_are_ordered_as_small_ones() -> None:
    """Beyond a few thousand variables, pairs stand in a hash table that grows."""
    rng = np.random.default_rng(6)
    scopes = [rng.permutation(200)[:4].tolist() for _ in range(200)]
    card = rng.integers(2, 4, 200)
    few = graph_of(scopes, card)
    many = graph_of([[30 * v for v in scope] for scope in scopes], np.repeat(card, 30))
    many.free = np.arange(6000) % 30 == 0
    for rule, _ in RULES:
        order, *figures = few.eliminate(rule)
        among, *others = many.eliminate(rule)
        assert (among // 30).tolist() == order.tolist()
        assert others == figures


@pytest.mark.parametrize("size", [3000, 50_000])
@pytest.mark.parametrize("rule", [rule for rule, _ in RULES])
def test_hubs_are_eliminated_last(rule: int, size: int) -> None:
    """Two hubs, each leaf on both; the cost of a hub is kept, not counted again for each leaf."""
    star = graph_of([[v, hub] for v in range(2, size) for hub in (0, 1)], np.full(size, 2))
    order, total, largest, width = star.eliminate(rule)
    assert sorted(order.tolist()) == list(range(size))
    assert sorted(order[-3:].tolist())[:2] == [0, 1]
    assert (total, largest, width) == (8.0 * (size - 2) + 4.0 + 2.0, 8.0, 2)


@given(st.integers(0, 2**32), st.integers(0, 99))
def test_random_orders_are_orders_and_cost_what_they_say(seed: int, attempt: int) -> None:
    problem = Problem(seed)
    for staged in (False, True):
        order, total, largest, width = problem.eliminate(1, staged, 0.5, attempt)
        assert sorted(order.tolist()) == np.flatnonzero(problem.free).tolist()
        again = problem.eliminate(1, staged, 0.5, attempt)
        assert again[0].tolist() == order.tolist()
        if staged:
            assert (np.diff(problem.stage[order]) >= 0).all()
        twin = evaluate_order(problem.graph, order.tolist(), problem.num_states)
        if len(order):
            assert (total, width) == (twin.total, twin.width)
            assert largest == pytest.approx(2.0**twin.largest)


def test_too_dear_orders_are_given_up() -> None:
    problem = Problem(0)
    problem.num_vars, problem.card = 6, np.full(6, 2)
    problem.free, problem.stage = np.ones(6, bool), np.zeros(6, np.int64)
    problem.scopes, problem.used = [[0, 1, 2, 3, 4, 5]], np.ones(1, bool)
    assert problem.eliminate(0)[1] == 126.0
    assert problem.eliminate(0, limit=126.0)[1] == 126.0
    assert problem.eliminate(0, limit=125.0)[1] == np.inf


@given(st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=3))
def test_bit_sets(words: list[int]) -> None:
    row = np.array(words, dtype=np.uint64)
    expected = [64 * w + k for w, x in enumerate(words) for k in range(64) if x >> k & 1]
    out = np.empty(64 * len(words), np.int64)
    assert bitset.members(row, out) == len(expected)
    assert out[: len(expected)].tolist() == expected
    assert [int(bitset.count_bits(x)) for x in row] == [x.bit_count() for x in words]
