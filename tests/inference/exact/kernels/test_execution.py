"""Programs run against enumeration: any order, either width, and the torch executor."""

from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pgnn.inference.exact import torch_executor
from pgnn.inference.exact.cpu_executor import CpuExecutor
from pgnn.inference.exact.plan import Plan, Task, make_task
from tests import oracle
from tests.inference.random_graphs import KINDS, RandomGraph, everything

SEEDS = st.integers(0, 2**31)
ROOM = 2**30


def plan_in_order(case: RandomGraph, task: Task) -> Plan:
    """A plan that eliminates in a random order (what is maximised still last)."""
    order = case.rng.permutation(np.flatnonzero(task.free))
    order = order[np.argsort(task.maximize[order], kind="stable")].astype(np.int64)
    return Plan(case.graph, task, order, 1.0, 1.0, len(order))


def observed_always(case: RandomGraph) -> np.ndarray:
    """Some of what all rows observe: these are sliced, the rest enters as likelihoods."""
    always = (case.codes >= 0).all(axis=0)
    return always & (case.rng.random(len(always)) < 0.6)


def unary(case: RandomGraph) -> np.ndarray:
    found = (case.codes >= 0).any(axis=0)
    if case.likelihoods is not None:
        softly = (case.likelihoods != 1).any(axis=0)
        found |= np.add.reduceat(softly, case.graph.offset[:-1]) > 0
    return found


def answers(case: RandomGraph, plan: Plan, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Log evidence and the marginals of what the plan wants."""
    wanted = plan.task.wanted
    width = int(case.graph.card[wanted].sum())
    log_z, out = np.full(case.rows, 7.0), np.zeros((case.rows, width))
    CpuExecutor(case.graph, ROOM).answer(
        plan, case.codes, case.likelihoods, rows, wanted, log_z, out
    )
    return log_z[rows], out[rows]


def run(case: RandomGraph, wanted: np.ndarray, one_by_one: bool) -> tuple[Plan, Any, Any]:
    task = make_task(case.graph, observed_always(case), unary=unary(case), wanted=wanted)
    plan = plan_in_order(case, task)
    rows = np.arange(case.rows)
    pieces = np.split(rows, case.rows) if one_by_one else [rows]
    parts = [answers(case, plan, piece) for piece in pieces]
    return plan, np.concatenate([p[0] for p in parts]), np.concatenate([p[1] for p in parts])


@given(SEEDS, st.sampled_from(KINDS), st.sampled_from([0.0, 0.4, 1.0]), st.booleans())
def test_any_order_and_width_gives_the_same_numbers(
    seed: int, kind: str, share: float, soft: bool
) -> None:
    case = RandomGraph(seed, kind, rows=11, share=share, soft=soft)
    wanted = case.rng.random(len(case.names)) < 0.7
    for one_by_one in (False, True):
        plan, log_z, out = run(case, wanted, one_by_one)
        np.testing.assert_allclose(log_z, case.log_evidence, atol=1e-9)
        np.testing.assert_allclose(out, case.marginals(plan.task.wanted), atol=1e-9)


@given(SEEDS, st.sampled_from(KINDS))
def test_torch_walks_the_same_plan_to_the_same_numbers(seed: int, kind: str) -> None:
    case = RandomGraph(seed, kind, rows=9)
    wanted = everything(case.graph)
    plan, log_z, out = run(case, wanted, False)
    asked = np.flatnonzero(plan.task.wanted)
    table, log_again = torch_executor.marginals(
        case.graph, plan.order.tolist(), case.codes, None, asked.tolist(),
        sliced=plan.task.observed, used=plan.task.used,
    )  # fmt: skip
    np.testing.assert_allclose(log_again.numpy(), log_z, atol=1e-10)
    np.testing.assert_allclose(table.numpy(), out, atol=1e-10)


@given(SEEDS, st.sampled_from(KINDS), st.sampled_from([0.0, 0.4, 1.0]), st.booleans())
def test_expected_counts(seed: int, kind: str, share: float, soft: bool) -> None:
    case = RandomGraph(seed, kind, rows=10, share=share, soft=soft)
    belief = np.ones(len(case.tables), bool)
    task = make_task(
        case.graph, observed_always(case), unary=unary(case), belief=belief, prune=False
    )
    weights = case.rng.random(case.rows)
    per_row = case.rng.random(len(case.tables)) < 0.4
    executor = CpuExecutor(case.graph, ROOM)
    log_z, flat, joint, lost = executor.expect(
        plan_in_order(case, task), case.codes, case.likelihoods, weights, per_row
    )
    assert len(lost) == 0
    np.testing.assert_allclose(log_z, case.log_evidence, atol=1e-9)
    ends = [0, 0]
    for f, (scope, table) in enumerate(case.tables):
        start = ends[int(per_row[f])]
        ends[int(per_row[f])] += table.size
        rows = [oracle.marginal(j, scope) * w for j, w in zip(case.joints, weights, strict=True)]
        place = slice(start, start + table.size)
        if per_row[f]:
            got = joint[:, place].reshape(-1, *table.shape)
            np.testing.assert_allclose(got, rows, atol=1e-9)
        else:
            got = flat[place].reshape(table.shape)
            np.testing.assert_allclose(got, np.sum(rows, axis=0), atol=1e-9)


@given(SEEDS, st.sampled_from(["loop", "markov"]))
def test_rowwise_tables(seed: int, kind: str) -> None:
    case = RandomGraph(seed, kind, rows=10)
    rng = case.rng
    own = rng.random(len(case.tables)) < 0.5
    tables = [rng.random((case.rows, *t.shape)) + 0.01 for _, t in case.tables]
    joints = []
    for b, row in enumerate(case.evidence):
        mine = [(scope, tables[f][b] if own[f] else t) for f, (scope, t) in enumerate(case.tables)]
        joints.append(oracle.joint(case.cards, mine, row))
    factors = tuple(
        type(f)(f.variables, f.log_values.new_tensor(np.log(tables[k]))) if own[k] else f
        for k, f in enumerate(case.graph.factors)
    )
    case.graph = type(case.graph)(case.graph.variables, factors)
    wanted = everything(case.graph)
    for one_by_one in (False, True):
        plan, log_z, out = run(case, wanted, one_by_one)
        np.testing.assert_allclose(log_z, [oracle.log_evidence(j) for j in joints], atol=1e-9)
        asked = [case.names[v] for v in np.flatnonzero(plan.task.wanted)]
        expected = [[p for n in asked for p in oracle.marginal(j, [n])] for j in joints]
        np.testing.assert_allclose(out, expected, atol=1e-9)


def test_threads_give_the_same_numbers() -> None:
    """Rows are shared out in pieces that start at tiles."""
    import torch

    case = RandomGraph(3, "dense", rows=40, num_variables=8)
    wanted = everything(case.graph)
    task = make_task(case.graph, ~wanted, unary=unary(case), wanted=wanted)
    plan = plan_in_order(case, task)
    rows = np.random.default_rng(0).permutation(np.repeat(np.arange(40), 200))[:7001]
    case.codes, case.rows = case.codes[rows], len(rows)
    once = answers(case, plan, np.arange(len(rows)))
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        executor = CpuExecutor(case.graph, ROOM)
        assert executor._threads(plan, len(rows)) == 2
        twice = answers(case, plan, np.arange(len(rows)))
    finally:
        torch.set_num_threads(before)
    assert (once[0] == twice[0]).all()
    assert (once[1] == twice[1]).all()


def test_impossible_rows_do_not_spoil_their_tile() -> None:
    case = RandomGraph(5, "loop", rows=8, share=0.0)
    zeros = [(f, np.argwhere(t == 0)) for f, (_, t) in enumerate(case.tables)]
    factor, where = next((f, w) for f, w in zeros if len(w))
    for name, state in zip(case.tables[factor][0], where[0], strict=True):
        case.codes[[2, 5], case.names.index(name)] = state
    wanted = everything(case.graph)
    plan = plan_in_order(case, make_task(case.graph, ~wanted, unary=unary(case), wanted=wanted))
    log_z, out = answers(case, plan, np.arange(8))
    assert np.flatnonzero(np.isneginf(log_z)).tolist() == [2, 5]
    assert np.isfinite(out).all()
    good = [0, 1, 3, 4, 6, 7]
    np.testing.assert_allclose(out[good], case.marginals()[good], atol=1e-9)
