"""What a plan leaves out, what it costs, and that leaving out changes nothing."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgnn.inference.exact import plan as module
from pgnn.inference.exact.cpu_executor import CpuExecutor
from pgnn.inference.exact.plan import Plan, Task, make_plan, make_task
from pgnn.inference.factor_graph import FactorGraph
from tests.inference.random_graphs import KINDS, RandomGraph, everything, graph_of

SEEDS = st.integers(0, 2**31)


def mask(size: int, *which: int) -> np.ndarray:
    found = np.zeros(size, dtype=np.bool_)
    found[list(which)] = True
    return found


def chain(size: int = 4) -> FactorGraph:
    """0 -> 1 -> 2 -> ..., with children told."""
    graph = graph_of([2] * size, [([0], np.log([0.5, 0.5]))])
    factors = list(graph.factors)
    table = np.log([[0.9, 0.1], [0.2, 0.8]])
    factors[0] = type(factors[0])(factors[0].variables, factors[0].log_values, 0)
    for k in range(1, size):
        variables = [graph.variables[k - 1], graph.variables[k]]
        values = factors[0].log_values.new_tensor(table)
        factors.append(type(factors[0])(variables, values, k))
    return FactorGraph(graph.variables, tuple(factors))


def test_barren_variables_are_left_out() -> None:
    graph = chain(5)
    task = make_task(graph, mask(5, 1), wanted=mask(5, 2))
    assert task.dropped.tolist() == [False, False, False, True, True]
    assert task.used.tolist() == [True, True, True, False, False]
    assert task.free.tolist() == [True, False, True, False, False]
    nothing = make_task(graph, mask(5))
    assert nothing.dropped.all()
    assert not nothing.used.any()
    assert not make_task(graph, mask(5), prune=False).dropped.any()
    assert not make_task(graph, mask(5), maximize=mask(5, *range(5))).dropped.any()
    some = make_task(graph, mask(5), maximize=mask(5, 0, 1))
    assert some.dropped.tolist() == [False, False, True, True, True]
    believed = make_task(graph, mask(5), belief=mask(5, 3))
    assert believed.dropped.tolist() == [False, False, False, False, True]
    softly = make_task(graph, mask(5), unary=mask(5, 3))
    assert softly.dropped.tolist() == [False, False, False, False, True]


def test_undirected_tables_are_never_left_out() -> None:
    graph = graph_of([2, 2, 2], [([0, 1], np.zeros((2, 2))), ([1, 2], np.ones((2, 2)))])
    task = make_task(graph, mask(3), wanted=mask(3, 0))
    assert task.used.all()
    assert not task.dropped.any()


def test_what_is_observed_is_not_also_asked() -> None:
    graph = chain(3)
    task = make_task(
        graph, mask(3, 1), unary=mask(3, 0, 1), wanted=mask(3, 1, 2), maximize=mask(3, 1)
    )
    assert task.unary.tolist() == [True, False, False]
    assert task.wanted.tolist() == [False, False, True]
    assert not task.maximize.any()


@given(SEEDS, st.sampled_from(KINDS))
def test_pruning_does_not_change_anything(seed: int, kind: str) -> None:
    case = RandomGraph(seed, kind, rows=4)
    graph, rng = case.graph, case.rng
    wanted = rng.random(len(case.names)) < 0.4
    unary = (case.codes >= 0).any(axis=0)
    found = []
    for prune in (True, False):
        task = make_task(graph, ~everything(graph), unary=unary, wanted=wanted, prune=prune)
        log_z, out = np.zeros(4), np.zeros((4, int(graph.card[wanted].sum())))
        plan = make_plan(graph, task)
        CpuExecutor(graph, 2**30).answer(plan, case.codes, None, np.arange(4), wanted, log_z, out)
        found.append((log_z, out))
    np.testing.assert_allclose(found[0][0], found[1][0], atol=1e-10)
    np.testing.assert_allclose(found[0][1], found[1][1], atol=1e-10)


@given(SEEDS, st.sampled_from(KINDS), st.integers(1, 1000))
def test_costs_are_those_of_the_order(seed: int, kind: str, rows: int) -> None:
    case = RandomGraph(seed, kind)
    maximize = case.rng.random(len(case.names)) < 0.3
    observed = (case.rng.random(len(case.names)) < 0.3) & ~maximize
    task = make_task(case.graph, observed, maximize=maximize, prune=False)
    plan = make_plan(case.graph, task, rows)
    assert sorted(plan.order.tolist()) == np.flatnonzero(task.free).tolist()
    assert (np.diff(maximize[plan.order].astype(int)) >= 0).all()
    cliques = _cliques(plan)
    sizes = [float(np.prod(case.graph.card[list(c)])) for c in cliques]
    assert plan.total == pytest.approx(sum(sizes))
    assert plan.largest == pytest.approx(max(sizes, default=0.0))
    assert plan.width == max([len(c) - 1 for c in cliques], default=0)
    assert plan.compilable


def _cliques(plan: Plan) -> list[set[int]]:
    """Elimination cliques, by their definition."""
    free = plan.task.free
    scopes = [{v for v in plan.graph.scopes[f] if free[v]} for f in np.flatnonzero(plan.task.used)]
    found = []
    for v in plan.order.tolist():
        clique = set().union({v}, *(s for s in scopes if v in s))
        found.append(clique)
        scopes = [s for s in scopes if v not in s] + [clique - {v}]
    return found


def test_more_rows_are_worth_a_longer_search(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    tables = []
    for _ in range(60):
        scope = rng.permutation(40)[:3].tolist()
        tables.append((scope, np.zeros((2, 2, 2))))
    graph = graph_of([2] * 40, tables)
    task = make_task(graph, mask(40))
    monkeypatch.setattr(module, "_SHARE", 0.0)
    first = make_plan(graph, task)
    monkeypatch.setattr(module, "_SHARE", 1e9)
    best = make_plan(graph, task, 10**6)
    assert best.total <= first.total


def test_keys_tell_tasks_apart() -> None:
    graph = chain(9)
    nobody = mask(9)
    options = [
        {"observed": nobody},
        {"observed": mask(9, 8)},
        {"observed": mask(9, 7)},
        {"observed": nobody, "unary": mask(9, 8)},
        {"observed": nobody, "wanted": mask(9, 8)},
        {"observed": nobody, "belief": mask(9, 8)},
        {"observed": nobody, "maximize": mask(9, 8)},
        {"observed": nobody, "prune": False},
    ]
    tasks = [make_task(graph, **o) for o in options]
    assert len({t.key for t in tasks}) == len(tasks)
    assert [make_task(graph, **o).key for o in options] == [t.key for t in tasks]


@given(SEEDS, st.sampled_from(KINDS))
def test_orders_without_numba(seed: int, kind: str) -> None:
    case = RandomGraph(seed, kind)
    task = make_task(case.graph, case.rng.random(len(case.names)) < 0.3, prune=False)
    plan = module._plan_without_kernels(case.graph, task)
    cliques = _cliques(plan)
    assert sorted(plan.order.tolist()) == np.flatnonzero(task.free).tolist()
    assert plan.total == sum(float(np.prod(case.graph.card[list(c)])) for c in cliques)
    assert plan.width == max([len(c) - 1 for c in cliques], default=0)


def test_programs_are_assembled_once() -> None:
    graph = chain(4)
    plan = make_plan(graph, make_task(graph, mask(4), wanted=mask(4, 0)))
    assert plan.program(8) is plan.program(8)
    assert plan.program(8) is not plan.program(1)
    assert plan.multiply_adds == plan.program(8).once + plan.program(8).each


def test_plans_too_large_for_addresses() -> None:
    graph = graph_of([2] * 60, [([0], np.zeros(2))])
    task = Task(*(mask(60) for _ in range(5)), used=mask(1, 0), dropped=mask(60))
    assert not Plan(graph, task, np.arange(60), 2.0**44, 2.0**44, 59).compilable
