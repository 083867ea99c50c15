"""Which plan serves which rows, and that plans are kept and not confused."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgnn.inference.exact import planner as module
from pgnn.inference.exact.plan import Plan, make_task
from pgnn.inference.exact.planner import Ask, Planner
from pgnn.inference.exact.solver import Solver
from tests import oracle
from tests.inference.random_graphs import KINDS, RandomGraph, everything

SEEDS = st.integers(0, 2**31)


def spread(split: list[tuple[Plan, np.ndarray]]) -> list[int]:
    return sorted(np.concatenate([rows for _, rows in split]).tolist()) if split else []


@given(SEEDS, st.sampled_from(KINDS), st.integers(0, 30), st.sampled_from([0.0, 0.3, 1.0]))
def test_every_row_has_one_plan_that_fits(seed: int, kind: str, rows: int, share: float) -> None:
    case = RandomGraph(seed, kind, rows=rows, share=share)
    ask = Ask(wanted=everything(case.graph))
    for ratio in (0.0, 1.0, 1e9):  # planning is free; as it is; prohibitive
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(module, "_PLANNING", module._PLANNING * ratio)
            patch.setattr(module, "_PLANNING_AT_ALL", module._PLANNING_AT_ALL * ratio)
            split = Planner().split(case.graph, case.codes, ask)
        assert spread(split) == list(range(rows))
        for plan, mine in split:
            observed = case.codes[mine] >= 0
            assert observed[:, plan.task.observed].all()
            assert not (observed & ~(plan.task.observed | plan.task.unary)).any()


@given(SEEDS, st.sampled_from(KINDS), st.integers(1, 30))
def test_rows_together_or_apart_have_the_same_answers(seed: int, kind: str, rows: int) -> None:
    case = RandomGraph(seed, kind, rows=rows)
    counts = []
    for ratio in (0.0, 1e9):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(module, "_PLANNING", module._PLANNING * ratio)
            patch.setattr(module, "_PLANNING_AT_ALL", module._PLANNING_AT_ALL * ratio)
            patch.setattr(module, "_TILED", module._TILED * (1e6 if ratio == 0 else 1.0))
            patch.setattr(module, "_SINGLE", 1e-12 if ratio == 0 else module._SINGLE)
            solver = Solver(case.graph)
            ask = Ask(wanted=everything(case.graph))
            counts.append(len(solver.planner.split(case.graph, case.codes, ask)))
            log_z, out = solver.marginals(case.codes, None, everything(case.graph))
        np.testing.assert_allclose(log_z, case.log_evidence, atol=1e-9)
        np.testing.assert_allclose(out, case.marginals(), atol=1e-9)
    assert counts[1] == 1
    patterns = {tuple(row) for row in (case.codes >= 0).tolist()}
    assert counts[0] in (1, len(patterns))


def test_plans_are_remembered_up_to_a_number() -> None:
    case = RandomGraph(0, "loop", num_variables=8)
    planner = Planner()
    tasks = [
        make_task(case.graph, np.array([bool(k >> v & 1) for v in range(8)])) for k in range(100)
    ]
    plans = [planner.plan(case.graph, t) for t in tasks]
    assert planner.plan(case.graph, tasks[-1]) is plans[-1]
    assert planner.plan(case.graph, tasks[0]) is not plans[0]
    assert len(planner._plans) == 64
    kept = planner.plan(case.graph, tasks[50])
    for task in tasks[:40]:
        planner.plan(case.graph, task)
    assert planner.plan(case.graph, tasks[50]) is kept


def test_graphs_of_other_structure_do_not_share_plans() -> None:
    """Joints add a table of ones over a scope of their own to the same model."""
    case = RandomGraph(0, "loop", share=0.0)
    solver = Solver(case.graph)
    joint = case.joints[0]
    for a in range(6):
        for b in range(6):
            if a != b:
                table = solver.joint(case.codes[:1], None, [a, b])[0]
                expected = oracle.marginal(joint, [case.names[a], case.names[b]])
                np.testing.assert_allclose(table, expected, atol=1e-9)


def test_rowwise_tables_have_plans_of_their_own() -> None:
    case = RandomGraph(1, "loop", rows=1)
    planner, graph = Planner(), case.graph
    factor = graph.factors[0]
    own = type(factor)(factor.variables, factor.log_values[None], factor.child)
    rowwise = type(graph)(graph.variables, (own, *graph.factors[1:]))
    ask = Ask(wanted=everything(graph))
    first = planner.split(graph, case.codes, ask)[0][0]
    second = planner.split(rowwise, case.codes, ask)[0][0]
    assert first is not second
    again = type(graph)(graph.variables, graph.factors)
    assert planner.split(again, case.codes, ask)[0][0] is first
