"""The findings that are named cannot occur together, and none of them is superfluous."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import pgnn
from pgnn.inference.exact.conflict import impossible, minimal_conflict
from pgnn.inference.exact.solver import Solver
from tests import oracle
from tests.inference.random_graphs import KINDS, RandomGraph, graph_of

SEEDS = st.integers(0, 2**31)


@given(SEEDS, st.sampled_from(KINDS))
def test_conflicts_are_minimal(seed: int, kind: str) -> None:
    case = RandomGraph(seed, kind, num_variables=7)
    rng = case.rng
    joint = case.joint({})
    solver = Solver(case.graph)
    for _ in range(20):
        codes = np.where(rng.random(7) < 0.7, rng.integers(0, case.graph.card), -1)[
            : len(case.names)
        ]
        findings = case.assignment(codes)
        if oracle.weight(joint, findings) > 0:
            continue
        conflict = minimal_conflict(solver, codes.astype(np.int32))
        assert conflict == sorted(conflict)
        named = {case.names[v]: int(codes[v]) for v in conflict}
        assert named
        assert oracle.weight(joint, named) == 0
        for name in named:
            rest = {n: s for n, s in named.items() if n != name}
            assert oracle.weight(joint, rest) > 0
        return


def test_no_conflict_where_there_is_none() -> None:
    case = RandomGraph(0, "loop")
    solver = Solver(case.graph)
    assert minimal_conflict(solver, case.codes[0]) == []
    assert minimal_conflict(solver, np.full(6, -1, np.int32)) == []
    empty = Solver(graph_of([2, 2], [([0, 1], np.full((2, 2), -np.inf))]))
    assert minimal_conflict(empty, np.array([0, -1], np.int32)) == []


def xor() -> pgnn.BayesianNetwork:
    """c is the exclusive or of a and b: any two findings are possible, three may not be."""
    table = np.zeros((2, 2, 2))
    for a in (0, 1):
        for b in (0, 1):
            table[a, b, a ^ b] = 1.0
    return pgnn.BayesianNetwork(
        [("a", "c"), ("b", "c"), ("c", "d")],
        {"a": [0.5, 0.5], "b": [0.3, 0.7], "c": table, "d": [[0.9, 0.1], [0.2, 0.8]]},
        states={n: ["no", "yes"] for n in "abcd"},
    )


def test_messages_say_which_findings() -> None:
    model = xor()
    with pytest.raises(pgnn.ImpossibleEvidence) as caught:
        model.query("d", {"a": "yes", "b": "yes", "c": "yes", "d": "no"})
    assert caught.value.conflict == {"a": "yes", "b": "yes", "c": "yes"}
    assert caught.value.rows == (0,)
    assert "a=yes, b=yes, c=yes cannot occur together" in str(caught.value)
    never = pgnn.BayesianNetwork([], {"a": [1.0, 0.0], "b": [0.5, 0.5]})
    with pytest.raises(pgnn.ImpossibleEvidence, match="a=1 never occurs"):
        never.query("b", {"a": 1, "b": 0})


def test_many_rows_are_not_all_named() -> None:
    model = xor()
    batch = {n: torch.ones(30, dtype=torch.int64) for n in "abc"}
    with pytest.raises(
        pgnn.ImpossibleEvidence, match=r"30 of 30 rows .*8, 9, \.\.\..* Row 0"
    ) as caught:
        model.query("d", batch)
    assert caught.value.rows == tuple(range(30))


def test_soft_evidence_is_not_blamed_on_findings() -> None:
    model = xor()
    soft = {"c": pgnn.likelihood([0.0, 1.0])}
    with pytest.raises(pgnn.ImpossibleEvidence, match="soft evidence excludes") as caught:
        model.query("d", {"a": "yes", "b": "yes", **soft})
    assert caught.value.conflict == {}
    sure = pgnn.likelihood([1.0, 0.0])
    with pytest.raises(pgnn.ImpossibleEvidence, match="soft evidence excludes"):
        model.query("d", {"a": sure, "b": sure, **soft})


def test_a_model_without_any_possible_state() -> None:
    factor = pgnn.Factor([pgnn.Variable("a", 2)], torch.full((2,), -torch.inf))
    other = pgnn.Factor([pgnn.Variable("b", 2)], torch.zeros(2))
    model = pgnn.MarkovRandomField([factor, other])
    with pytest.raises(pgnn.ImpossibleEvidence, match="no state of the model") as caught:
        model.query("b", {"b": 1})
    assert caught.value.conflict == {}
    with pytest.raises(pgnn.ImpossibleEvidence, match="no state of the model"):
        model.query("b")


def test_conflicts_of_rowwise_tables_are_those_of_the_row() -> None:
    a, b = pgnn.Variable("a", 2), pgnn.Variable("b", 2)
    rows = torch.tensor([[[0.0, 0.0], [0.0, 0.0]], [[0.0, -torch.inf], [0.0, 0.0]]]).double()
    solver = Solver(type(graph_of([], []))((a, b), (pgnn.Factor([a, b], rows),)))
    codes = np.array([[0, 1], [0, 1]], np.int32)
    log_z = torch.from_numpy(solver.log_evidence(codes, None))
    assert log_z.isneginf().tolist() == [False, True]
    error = impossible(solver, codes, [1], True)
    assert (error.rows, error.conflict) == ((1,), {"a": 0, "b": 1})
