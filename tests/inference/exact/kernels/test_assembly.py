"""Programs: what they contain, and that memory which is given away is given away in time."""

from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgnn.inference.exact.kernels import program as p
from pgnn.inference.exact.kernels.program import LOOP
from pgnn.inference.exact.plan import EliminationProgram, Task, make_task
from pgnn.inference.factor_graph import FactorGraph
from tests.inference.random_graphs import KINDS, RandomGraph, everything, graph_of

SEEDS = st.integers(0, 2**31)


class Compiled(NamedTuple):
    """A program's sections, as arrays."""

    static: np.ndarray
    up: np.ndarray
    down: np.ndarray
    belief: np.ndarray
    constant: np.ndarray
    unary: np.ndarray
    marginal: np.ndarray
    root: np.ndarray
    sizes: np.ndarray
    work: np.ndarray


def section(code: np.ndarray, number: int) -> np.ndarray:
    return code[code[number] : code[number + 1]]


def assembled(graph: FactorGraph, task: Task, order: np.ndarray, rank: int, width: int) -> Compiled:
    program = EliminationProgram.assemble(graph, task, order.astype(np.int64), rank, width)
    code = program.code
    assert code[p.END] == len(code)
    return Compiled(
        section(code, p.STATIC), section(code, p.UP), section(code, p.DOWN),
        section(code, p.READ_OUT), section(code, p.CONSTANT),
        section(code, p.LIKELIHOODS).reshape(-1, 4), section(code, p.MARGINALS).reshape(-1, 3),
        section(code, p.ROOTS).reshape(-1, 2),
        code[[p.MEMORY, p.STATIC_MEMORY, p.DEPTH]], np.array([program.once, program.each]),
    )  # fmt: skip


def instructions(code: np.ndarray) -> list[np.ndarray]:
    found, at = [], 0
    while at < len(code):
        found.append(code[at : at + code[at]])
        at += int(code[at])
    return found


def compiled(case: RandomGraph, width: int, **masks: np.ndarray) -> Compiled:
    graph = case.graph
    task = make_task(graph, masks.pop("observed", ~everything(graph)), prune=False, **masks)
    order = case.rng.permutation(np.flatnonzero(task.free)).astype(np.int64)
    return assembled(graph, task, order, len(order) + 1, width)


@given(SEEDS, st.sampled_from(KINDS), st.sampled_from([1, 8]), st.booleans())
def test_all_addresses_are_inside_the_memory(
    seed: int, kind: str, width: int, observed: bool
) -> None:
    case = RandomGraph(seed, kind)
    some = case.rng.random(len(case.names)) < 0.4
    masks = {"observed": some} if observed else {"unary": some}
    program = compiled(case, width, wanted=everything(case.graph), **masks)
    total, static, depth = program.sizes.tolist()
    assert 1 <= static <= total
    for group, lane in ((program.static, 1), (program.up, width), (program.down, width)):
        for code in instructions(group):
            start, size, rank = code[2], code[3], code[9]
            assert 1 <= start <= start + size * lane <= total
            loops = code[-LOOP * rank :].reshape(rank, LOOP)
            assert rank <= depth
            assert (loops[:, 0] >= 1).all()
            reach = (loops[:, :1] - 1) * loops[:, 1:]
            ends = code[[2, 4, 5, 6]] + reach.sum(axis=0)
            assert (ends < total).all()
    assert len(program.marginal) == int((~(some & observed)).sum())
    assert set(program.unary[:, 0]) == (set() if observed else set(np.flatnonzero(some)))


@given(SEEDS, st.sampled_from(KINDS))
def test_work_is_counted(seed: int, kind: str) -> None:
    case = RandomGraph(seed, kind)
    program = compiled(case, 8, unary=everything(case.graph), wanted=everything(case.graph))
    groups = [instructions(g) for g in (program.static, program.up, program.down)]
    work = [
        sum(float(np.prod(c[-LOOP * c[9] :].reshape(-1, LOOP)[:, 0])) for c in group)
        for group in groups
    ]
    assert program.work.tolist() == [work[0], work[1] + work[2]]


def test_nothing_is_made_that_nobody_asks_for() -> None:
    case = RandomGraph(0, "loop", num_variables=8)
    nothing = compiled(case, 8)
    assert len(nothing.down) == len(nothing.marginal) == len(nothing.up) == len(nothing.belief) == 0
    assert len(instructions(nothing.static)) >= 8
    one = np.zeros(8, bool)
    one[3] = True
    assert compiled(case, 8, wanted=one).marginal[:, 0].tolist() == [3]
    all_observed = compiled(case, 8, observed=everything(case.graph))
    assert len(all_observed.static) == len(all_observed.up) == 0
    assert len(all_observed.root) == 0
    assert len(all_observed.constant) > 0


def test_tables_without_evidence_are_static() -> None:
    """A chain observed at its end: only the messages after the evidence differ between rows."""
    tables = [([k, k + 1], np.zeros((2, 2))) for k in range(5)]
    graph = graph_of([2] * 6, tables)
    observed = np.arange(6) == 5
    task = make_task(graph, observed, prune=False)
    program = assembled(graph, task, np.arange(5), 3, 8)
    kinds = [len(instructions(g)) for g in (program.static, program.up, program.down)]
    assert kinds == [4, 1, 0]
    code = EliminationProgram.assemble(graph, task, np.arange(5), 3, 8).code
    records = [code[at : at + 4].tolist() for at in code[code[p.BUCKETS] : code[p.RECORDS]]]
    assert [r[0] for r in records] == [0, 1, 2, 3, 4]
    assert [r[3] for r in records] == [1, 2, 2, 2, 2]


@pytest.mark.parametrize("children", [2, 40])
def test_memory_of_a_star_is_reused(children: int) -> None:
    """Eliminating leaf after leaf needs room for a few messages, not for all of them at once."""
    size = 16
    tables = [([0, k], np.zeros((size, size))) for k in range(1, children + 1)]
    graph = graph_of([size] * (children + 1), tables)
    leaves = np.arange(children + 1) > 0
    wanted = everything(graph)
    task = make_task(graph, ~wanted, unary=leaves, wanted=wanted, prune=False)
    order = np.roll(np.arange(children + 1), -1)
    program = assembled(graph, task, order, 3, 8)
    tables_and_findings = children * (size * size + 8 * size)
    wide = 8 * size * (children + 1)
    assert program.sizes[0] <= tables_and_findings + 6 * wide
