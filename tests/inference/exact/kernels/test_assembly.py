"""Programs: what they contain, and that memory which is given away is given away in time."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgnn.inference.exact.kernels.assembly import assemble
from pgnn.inference.exact.kernels.program import LOOP, Decoder, Program, Structure
from pgnn.inference.exact.plan import make_task
from tests.inference.random_graphs import KINDS, RandomGraph, everything, graph_of

SEEDS = st.integers(0, 2**31)


def structure(case: RandomGraph, **masks: np.ndarray) -> Structure:
    graph = case.graph
    task = make_task(graph, masks.pop("observed", ~everything(graph)), prune=False, **masks)
    return Structure(
        graph.card, graph.scope_ptr, graph.scope_var, task.used, graph.rowwise, task.free,
        task.unary, task.wanted, task.belief, task.maximize,
    )  # fmt: skip


def instructions(code: np.ndarray) -> list[np.ndarray]:
    found, at = [], 0
    while at < len(code):
        found.append(code[at : code[at]])
        at = int(code[at])
    return found


def compiled(case: RandomGraph, width: int, **masks: np.ndarray) -> Program:
    made = structure(case, **masks)
    order = case.rng.permutation(np.flatnonzero(made.free)).astype(np.int64)
    return Program(*assemble(made, order, len(order) + 1, width)[0])


@given(SEEDS, st.sampled_from(KINDS), st.sampled_from([1, 8]), st.booleans())
def test_all_addresses_are_inside_the_memory(seed: int, kind: str, width: int, seen: bool) -> None:
    case = RandomGraph(seed, kind)
    some = case.rng.random(len(case.names)) < 0.4
    masks = {"observed": some} if seen else {"unary": some}
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
    assert (program.static_load[:0] == 0).all()
    assert len(program.marginal) == int((~(some & seen)).sum())
    assert set(program.unary[:, 0]) == (set() if seen else set(np.flatnonzero(some)))


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
    all_seen = compiled(case, 8, observed=everything(case.graph))
    assert len(all_seen.static) == len(all_seen.up) == 0
    assert len(all_seen.root) == 0
    assert len(all_seen.constant) > 0


def test_tables_without_evidence_are_static() -> None:
    """A chain observed at its end: only the messages after the evidence differ between rows."""
    tables = [([k, k + 1], np.zeros((2, 2))) for k in range(5)]
    graph = graph_of([2] * 6, tables)
    observed = np.arange(6) == 5
    task = make_task(graph, observed, prune=False)
    made = Structure(
        graph.card, graph.scope_ptr, graph.scope_var, task.used, graph.rowwise, task.free,
        task.unary, task.wanted, task.belief, task.maximize,
    )  # fmt: skip
    parts = assemble(made, np.arange(5), 3, 8)
    program, decoder = Program(*parts[0]), Decoder(*parts[1])
    kinds = [len(instructions(g)) for g in (program.static, program.up, program.down)]
    assert kinds == [4, 1, 0]
    assert decoder.order.tolist() == [0, 1, 2, 3, 4]
    assert (np.diff(decoder.ptr) == [1, 2, 2, 2, 2]).all()


@pytest.mark.parametrize("children", [2, 40])
def test_memory_of_a_star_is_reused(children: int) -> None:
    """Eliminating leaf after leaf needs room for a few messages, not for all of them at once."""
    size = 16
    tables = [([0, k], np.zeros((size, size))) for k in range(1, children + 1)]
    graph = graph_of([size] * (children + 1), tables)
    leaves = np.arange(children + 1) > 0
    task = make_task(graph, ~everything(graph), unary=leaves, prune=False)
    made = Structure(
        graph.card, graph.scope_ptr, graph.scope_var, task.used, graph.rowwise, task.free,
        task.unary, everything(graph), task.belief, task.maximize,
    )  # fmt: skip
    order = np.roll(np.arange(children + 1), -1)
    program = Program(*assemble(made, order, 3, 8)[0])
    tables_and_findings = children * (size * size + 8 * size)
    wide = 8 * size * (children + 1)
    assert program.sizes[0] <= tables_and_findings + 6 * wide
