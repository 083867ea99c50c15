"""The k most probable states, all of them, each once, in order."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgnn.inference.exact.k_best import k_best
from pgnn.inference.exact.solver import Solver
from tests import oracle
from tests.inference.random_graphs import KINDS, RandomGraph, everything, graph_of

SEEDS = st.integers(0, 2**31)


@given(SEEDS, st.sampled_from(KINDS), st.sampled_from([2, 5, 40]), st.booleans())
def test_the_first_k_in_order(seed: int, kind: str, k: int, soft: bool) -> None:
    case = RandomGraph(seed, kind, rows=2, share=0.2, soft=soft, num_variables=5)
    states, logs = k_best(
        Solver(case.graph), case.codes, case.likelihoods, everything(case.graph), k
    )
    for b, joint in enumerate(case.joints):
        expected = [value for _, value in oracle.k_best(joint, k)]
        np.testing.assert_allclose(logs[b, : len(expected)], expected, atol=1e-9)
        assert (logs[b, len(expected) :] == -np.inf).all()
        assert (states[b, len(expected) :] == -1).all()
        assert len({tuple(s) for s in states[b, : len(expected)].tolist()}) == len(expected)
        for s, value in zip(states[b], expected, strict=False):
            weight = oracle.weight(joint, case.assignment(s))
            assert math.log(weight) == pytest.approx(value, abs=1e-9)


@given(SEEDS, st.sampled_from(["loop", "tree", "markov"]))
def test_some_variables_summed_out(seed: int, kind: str) -> None:
    case = RandomGraph(seed, kind, rows=2, share=0.2, num_variables=5)
    maximize = case.rng.random(5) < 0.6
    targets = [n for n, m in zip(case.names, maximize, strict=True) if m]
    states, logs = k_best(Solver(case.graph), case.codes, None, maximize, 4)
    for b, joint in enumerate(case.joints):
        rest = oracle.Joint(tuple(targets), oracle._sum_to(joint, targets))
        expected = [value for _, value in oracle.k_best(rest, 4)]
        np.testing.assert_allclose(logs[b, : len(expected)], expected, atol=1e-9)
        summed = [v for v, n in enumerate(case.names) if not maximize[v] and case.codes[b, v] < 0]
        assert (states[b][:, summed] == -1).all()


def test_ties_are_different_states() -> None:
    graph = graph_of([2, 3], [([0, 1], np.zeros((2, 3)))])
    codes = np.full((1, 2), -1, np.int32)
    states, logs = k_best(Solver(graph), codes, None, everything(graph), 10)
    assert len({tuple(s) for s in states[0, :6].tolist()}) == 6
    assert (logs[0, :6] == 0.0).all()
    assert (logs[0, 6:] == -np.inf).all()


def test_an_impossible_row_has_none() -> None:
    table = np.log([[0.5, 0.5], [1.0, 1e-300]])
    table[1, 1] = -np.inf
    graph = graph_of([2, 2], [([0, 1], table)])
    codes = np.array([[1, 1], [-1, 1], [1, -1]], np.int32)
    states, logs = k_best(Solver(graph), codes, None, everything(graph), 3)
    assert np.isneginf(logs).tolist() == [[True] * 3, [False, True, True], [False, True, True]]
    assert states[1, 0].tolist() == [0, 1]
    assert states[2, 0].tolist() == [1, 0]


def test_tables_that_differ_from_row_to_row() -> None:
    case = RandomGraph(2, "loop", rows=3, share=0.2, num_variables=5)
    rng = np.random.default_rng(0)
    tables = [rng.random((3, *t.shape)) + 0.01 for _, t in case.tables]
    factors = tuple(
        type(f)(f.variables, f.log_values.new_tensor(np.log(t)))
        for f, t in zip(case.graph.factors, tables, strict=True)
    )
    graph = type(case.graph)(case.graph.variables, factors)
    _, logs = k_best(Solver(graph), case.codes, None, everything(graph), 6)
    for b, row in enumerate(case.evidence):
        mine = [(s, t[b]) for (s, _), t in zip(case.tables, tables, strict=True)]
        best = oracle.k_best(oracle.joint(case.cards, mine, row), 6)
        np.testing.assert_allclose(logs[b, : len(best)], [v for _, v in best], atol=1e-9)
