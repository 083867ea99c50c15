"""Exact answers as arrays: against enumeration, by either executor, and at the edge of doubles."""

import itertools
import math
import threading
import time
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

import pgnn
from pgnn.errors import Intractable
from pgnn.factors import Factor, Variable
from pgnn.inference.exact.planner import REMEMBERED, Ask
from pgnn.inference.exact.solver import Solver
from pgnn.inference.factor_graph import FactorGraph
from pgnn.inference.model_graph import model_graph
from pgnn.inference.question import targets_of
from tests import oracle
from tests.inference.random_graphs import KINDS, RandomGraph, everything, graph_of, planning

SEEDS = st.integers(0, 2**31)
SHARES = st.sampled_from([0.0, 0.3, 1.0])


def by_torch(graph: FactorGraph) -> Solver:
    solver = Solver(graph)
    vars(solver)["cpu"] = None
    return solver


def both(graph: FactorGraph) -> list[Solver]:
    return [Solver(graph), by_torch(graph)]


# --- against enumeration ------------------------------------------------------------------------


@given(SEEDS, st.sampled_from(KINDS), SHARES, st.booleans(), st.booleans())
def test_marginals(seed: int, kind: str, share: float, soft: bool, free: bool) -> None:
    case = RandomGraph(seed, kind, share=share, soft=soft)
    wanted = case.rng.random(len(case.names)) < 0.6
    for solver in both(case.graph):
        with planning(free):
            log_z, out = solver.marginals(case.codes, case.likelihoods, wanted)
        np.testing.assert_allclose(log_z, case.log_evidence, atol=1e-9)
        np.testing.assert_allclose(out, case.marginals(wanted), atol=1e-9)
        alone = solver.log_evidence(case.codes, case.likelihoods)
        np.testing.assert_allclose(alone, case.log_evidence, atol=1e-9)


@given(SEEDS, st.sampled_from(KINDS), SHARES, st.booleans(), st.booleans())
def test_joints(seed: int, kind: str, share: float, soft: bool, free: bool) -> None:
    case = RandomGraph(seed, kind, share=share, soft=soft)
    scope = case.rng.permutation(len(case.names))[:3].tolist()
    for solver in both(case.graph):
        with planning(free):
            table = solver.joint(case.codes, case.likelihoods, scope)
        expected = [oracle.marginal(j, [case.names[v] for v in scope]) for j in case.joints]
        np.testing.assert_allclose(table, expected, atol=1e-9)


@given(SEEDS, st.sampled_from(KINDS), SHARES, st.booleans(), st.booleans())
def test_expected_counts(seed: int, kind: str, share: float, soft: bool, free: bool) -> None:
    case = RandomGraph(seed, kind, share=share, soft=soft)
    weights = case.rng.normal(size=3)
    expected = [
        sum(w * oracle.marginal(j, scope) for w, j in zip(weights, case.joints, strict=True))
        for scope, _ in case.tables
    ]
    for solver in both(case.graph):
        with planning(free):
            found = solver.expected(case.codes, case.likelihoods, weights)
        for got, want in zip(found, expected, strict=True):
            np.testing.assert_allclose(got, want[None], atol=1e-9)


@given(SEEDS, st.sampled_from(KINDS), SHARES, st.booleans(), st.booleans())
def test_best_states(seed: int, kind: str, share: float, soft: bool, free: bool) -> None:
    case = RandomGraph(seed, kind, share=share, soft=soft)
    maximize = case.rng.random(len(case.names)) < 0.7
    targets = [n for n, m in zip(case.names, maximize, strict=True) if m]
    for solver in both(case.graph):
        with planning(free):
            states, top = solver.best(case.codes, case.likelihoods, maximize)
        for b, joint in enumerate(case.joints):
            expected = (
                oracle.marginal_map(joint, targets)[1] if targets else oracle.log_evidence(joint)
            )
            assert top[b] == pytest.approx(expected, abs=1e-9)
            found = case.assignment(states[b])
            weight = oracle.weight(joint, {n: found[n] for n in targets})
            assert math.log(weight) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("free", [False, True])
def test_draws_by_either_executor(free: bool) -> None:
    n = 4000
    case = RandomGraph(8, "loop", rows=3, soft=True, num_variables=5)
    for solver in both(case.graph):
        with planning(free):
            states, log_z = solver.draw(case.codes, case.likelihoods, n, 1)
        np.testing.assert_allclose(log_z, case.log_evidence, atol=1e-9)
        for b, joint in enumerate(case.joints):
            p = joint.table.ravel() / joint.table.sum()
            observed = np.ravel_multi_index(states[:, b].T, joint.table.shape)
            frequency = np.bincount(observed, minlength=p.size) / n
            assert (frequency[p == 0] == 0).all()
            # 5 sigma, and 3 / n where n p is small: 6e-7 for each state by chance
            assert (np.abs(frequency - p) <= 5 * np.sqrt(p * (1 - p) / n) + 3 / n).all()


def test_sliced_and_unary_evidence_are_the_same() -> None:
    """The same rows, once all alike (sliced), once beside a row that observes nothing."""
    case = RandomGraph(3, "dense", rows=1, share=0.6)
    wanted = everything(case.graph)
    many = np.repeat(case.codes, 2000, axis=0)
    many[1000:] = -1
    together = Solver(case.graph).marginals(many, None, wanted)
    alone = Solver(case.graph).marginals(many[:1000], None, wanted)
    np.testing.assert_allclose(together[0][:1000], alone[0], atol=1e-12)
    np.testing.assert_allclose(together[1][:1000], alone[1], atol=1e-12)


def test_rows_that_occur_again_are_answered_alike() -> None:
    case = RandomGraph(4, "loop", rows=7)
    pick = np.random.default_rng(0).integers(0, 7, 3000)
    log_z, out = Solver(case.graph).marginals(case.codes[pick], None, everything(case.graph))
    np.testing.assert_allclose(log_z, case.log_evidence[pick], atol=1e-9)
    np.testing.assert_allclose(out, case.marginals()[pick], atol=1e-9)


def test_impossible_rows_are_zeros() -> None:
    table = np.log([[0.5, 0.5], [1.0, 1.0]])
    table[1, 1] = -np.inf
    graph = graph_of([2, 2, 3], [([0, 1], table), ([2], np.zeros(3))])
    codes = np.array([[1, 1, -1], [1, -1, -1], [1, 1, 2]], np.int32)
    for solver in both(graph):
        log_z, out = solver.marginals(codes, None, everything(graph))
        assert np.isneginf(log_z).tolist() == [True, False, True]
        assert (out[[0, 2]] == 0).all()
        assert np.isfinite(out).all()
        with planning(free=True):  # alone, what is observed is sliced out of the tables
            for row in codes[[0, 2]]:
                assert (solver.marginals(row[None], None, everything(graph))[1] == 0).all()
        assert solver.joint(codes, None, [1, 2])[0].sum() == 0
        assert all(np.isfinite(t).all() for t in solver.expected(codes, None, np.ones(3)))


# --- the edge of doubles ------------------------------------------------------------------------


def log_sum(logs: np.ndarray, axes: Any = None) -> np.ndarray:
    top = logs.max(axis=axes, keepdims=True)
    top = np.where(np.isfinite(top), top, 0.0)
    with np.errstate(divide="ignore"):
        total = np.log(np.exp(logs - top).sum(axis=axes, keepdims=True)) + top
    return np.squeeze(total, axes)


class Extreme:
    """Tables whose entries span many orders of magnitude, enumerated in logarithms."""

    def __init__(self, seed: int, decades: float, size: int = 5) -> None:
        rng = np.random.default_rng(seed)
        self.card = rng.integers(1, 4, size).tolist()
        self.tables: list[tuple[list[int], np.ndarray]] = []
        self.whole = np.zeros(self.card)
        for _ in range(7):
            scope = rng.permutation(size)[: int(rng.integers(1, 4))].tolist()
            logs = -decades * rng.random([self.card[v] for v in scope]) * math.log(10)
            logs[rng.random(logs.shape) < 0.1] = -np.inf
            self.tables.append((scope, logs))
            axes = sorted(range(len(scope)), key=lambda k, s=scope: s[k])
            shape = [self.card[v] if v in scope else 1 for v in range(size)]
            self.whole = self.whole + logs.transpose(axes).reshape(shape)
        possible = np.argwhere(np.isfinite(self.whole))
        picked = possible[rng.integers(0, len(possible), 4)] if len(possible) else possible
        observed = rng.random(picked.shape) < 0.4
        self.codes = np.where(observed, picked, -1).astype(np.int32)
        self.graph = graph_of(self.card, self.tables)

    def row(self, b: int) -> np.ndarray:
        logs = self.whole.copy()
        for v, state in enumerate(self.codes[b]):
            if state >= 0:
                gone = np.arange(self.card[v]) != state
                np.moveaxis(logs, v, 0)[gone] = -np.inf
        return logs

    def share(self, b: int, scope: list[int]) -> np.ndarray:
        logs = self.row(b)
        rest = tuple(v for v in range(logs.ndim) if v not in scope)
        table = (
            np.exp(log_sum(logs, rest) - log_sum(logs)) if rest else np.exp(logs - log_sum(logs))
        )
        return table.transpose([sorted(scope).index(v) for v in scope])


@settings(max_examples=60)
@example(4695702, 330, True)  # a component lost much before it met the rows
@given(SEEDS, st.sampled_from([20, 100, 200, 330, 600]), st.booleans())
def test_tables_that_span_more_than_doubles(seed: int, decades: float, one_by_one: bool) -> None:
    case = Extreme(seed, decades)
    solver = Solver(case.graph)
    rows = np.arange(len(case.codes))
    wanted = everything(case.graph)
    for part in np.split(rows, len(rows)) if one_by_one and len(rows) else [rows]:
        codes = case.codes[part]
        log_z, out = solver.marginals(codes, None, wanted)
        states, top = solver.best(codes, None, wanted)
        drawn, log_again = solver.draw(codes, None, 3, 0)
        joint = solver.joint(codes, None, [0, 2])
        counts = [np.zeros_like(t) for _, t in case.tables]
        assert np.isfinite(out).all()
        for k, b in enumerate(part):
            logs = case.row(b)
            expected = log_sum(logs)
            close = {"rel": 1e-12, "abs": 1e-9}
            assert log_z[k] == pytest.approx(expected, **close)
            assert log_again[k] == pytest.approx(expected, **close)
            assert top[k] == pytest.approx(logs.max(), **close)
            assert logs[tuple(states[k])] == pytest.approx(logs.max(), **close)
            assert all(np.isfinite(logs[tuple(s)]) for s in drawn[:, k])
            marginals = [case.share(b, [v]) for v in range(logs.ndim)]
            np.testing.assert_allclose(out[k], np.concatenate(marginals), atol=1e-9)
            np.testing.assert_allclose(joint[k], case.share(b, [0, 2]), atol=1e-9)
            for total, (scope, _) in zip(counts, case.tables, strict=True):
                total += case.share(b, scope)
        found = solver.expected(codes, None, np.ones(len(part)))
        for got, want in zip(found, counts, strict=True):
            np.testing.assert_allclose(got, want[None], atol=1e-8)


def test_rows_asked_again_in_log_space_keep_what_was_observed() -> None:
    """In the batch the findings are likelihoods; alone, the remembered plan slices them out."""
    tiny = np.array([[0.0, -800.0], [-800.0, 0.0]])
    graph = graph_of([2, 2, 2], [([0, 1], tiny), ([1, 2], tiny), ([0, 2], tiny)])
    codes = np.array([[0, 1, -1], [-1, -1, 0]], np.int32)
    solver = Solver(graph)
    with planning(free=True):
        first = solver.marginals(codes[:1], None, everything(graph))
    both_rows = solver.marginals(codes, None, everything(graph))
    for log_z, out in (first, both_rows):
        assert log_z[0] == pytest.approx(-1600.0 + math.log(2))
        np.testing.assert_allclose(out[0], [1.0, 0.0, 0.0, 1.0, 0.5, 0.5])


def bayes(first: np.ndarray) -> tuple[FactorGraph, np.ndarray]:
    """Naive Bayes with two classes; each child is in state 1 with probability first[k, class]."""
    tables = [([0], np.log([0.5, 0.5]))]
    for k, p in enumerate(first):
        tables.append(([0, k + 1], np.log(np.stack([1 - p, p], axis=1))))
    graph = graph_of([2] * (len(first) + 1), tables)
    codes = np.ones((1, len(first) + 1), np.int32)
    codes[0, 0] = -1
    return graph, codes


@pytest.mark.parametrize("rows", [1, 20])
def test_naive_bayes_with_two_thousand_children(rows: int) -> None:
    rng = np.random.default_rng(0)
    graph, codes = bayes(rng.random((2000, 2)) * 0.98 + 0.01)
    codes = np.repeat(codes, rows, axis=0)
    codes[1::2, 1:] = np.where(rng.random((rows // 2, 2000)) < 0.5, -1, codes[1::2, 1:])
    log_z, out = Solver(graph).marginals(codes, None, everything(graph))
    tables = np.stack([f.log_values.numpy() for f in graph.factors[1:]])
    for b in range(rows):
        logs = math.log(0.5) + tables[codes[b, 1:] == 1, :, 1].sum(axis=0)
        assert log_z[b] == pytest.approx(log_sum(logs), rel=1e-12)
        np.testing.assert_allclose(out[b, :2], np.exp(logs - log_sum(logs)), atol=1e-9)


@pytest.mark.parametrize("ratio", [1e-2, 1e-30, 1e-160])
def test_evidence_that_turns_round(ratio: float) -> None:
    """Half of the children speak against a class by far more than a double holds, half for it."""
    against, for_it = np.array([0.5, 0.5 * ratio]), np.array([0.5 * ratio, 0.5])
    first = np.concatenate([np.tile(against, (200, 1)), np.tile(for_it, (200, 1))])
    graph, codes = bayes(first)
    expected = math.log(0.5) + 400 * math.log(0.5) + 200 * math.log(ratio) + math.log(2.0)
    for rows in (codes, np.repeat(codes, 9, axis=0)):
        log_z, out = Solver(graph).marginals(rows, None, everything(graph))
        np.testing.assert_allclose(log_z, expected, rtol=1e-12)
        np.testing.assert_allclose(out[:, :2], 0.5, atol=1e-9)


def test_a_chain_of_five_thousand() -> None:
    size = 5000
    rng = np.random.default_rng(1)
    start, steps = rng.random(3), rng.random((size - 1, 3, 3)) * 1e-3
    tables = [([0], np.log(start))]
    tables += [([k, k + 1], np.log(t)) for k, t in enumerate(steps)]
    graph = graph_of([3] * size, tables)
    codes = np.full((2, size), -1, np.int32)
    codes[1, ::7] = rng.integers(0, 3, len(codes[1, ::7]))
    log_z, out = Solver(graph).marginals(codes, None, everything(graph))
    for b in range(2):
        findings = np.where(codes[b] >= 0, codes[b], -1)
        observed = np.where(
            (findings[:, None] < 0) | (np.arange(3) == findings[:, None]), 0.0, -np.inf
        )
        forward = np.empty((size, 3))
        forward[0] = np.log(start) + observed[0]
        for k in range(1, size):
            forward[k] = log_sum(forward[k - 1][:, None] + np.log(steps[k - 1]), 0) + observed[k]
        backward = np.zeros((size, 3))
        for k in range(size - 2, -1, -1):
            after = np.log(steps[k]) + observed[k + 1] + backward[k + 1]
            backward[k] = log_sum(after, 1)
        expected = log_sum(forward[-1])
        assert log_z[b] == pytest.approx(expected, rel=1e-12)
        np.testing.assert_allclose(
            out[b].reshape(size, 3), np.exp(forward + backward - expected), atol=1e-9
        )


def test_unnormalised_tables_of_any_size() -> None:
    tables = [([0, 1], np.array([[700.0, -700.0], [-3000.0, 690.0]])), ([1], np.array([5e4, 5e4]))]
    graph = graph_of([2, 2], tables)
    codes = np.array([[-1, -1], [1, 0], [0, 1]], np.int32)
    expected = [5e4 + 700.0 + math.log1p(math.exp(-10.0)), 47000.0, 49300.0]
    for solver in both(graph):
        np.testing.assert_allclose(solver.log_evidence(codes, None), expected, rtol=1e-12)


# --- cost ---------------------------------------------------------------------------------------


def clique(size: int, states: int = 2) -> FactorGraph:
    tables = [([a, b], np.zeros((states, states))) for a in range(size) for b in range(a)]
    return graph_of([states] * size, tables)


def test_too_large_is_said_before_memory_is_touched(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = clique(50)
    codes = np.full((1, 50), -1, np.int32)
    solver = Solver(graph)

    def forbidden(*_: Any) -> Any:
        raise AssertionError("memory was touched")

    assert solver.cpu is not None
    monkeypatch.setattr(type(solver.cpu), "take", forbidden)
    questions = (
        lambda s: s.marginals(codes, None, everything(graph)),
        lambda s: s.log_evidence(codes, None),
        lambda s: s.joint(codes, None, [0, 1]),
        lambda s: s.expected(codes, None, np.ones(1)),
        lambda s: s.best(codes, None, everything(graph)),
        lambda s: s.draw(codes, None, 1, 0),
    )
    for question in questions:
        with pytest.raises(Intractable) as caught:
            question(solver)
        message = str(caught.value)
        assert "treewidth 49" in message
        assert "1.13e+15 entries" in message
        assert "PiB" in message
        assert "4.0 GiB" in message
        assert "max_bytes" in message
        assert "JunctionTree" not in message  # no machine has so much


def test_budgets() -> None:
    graph = clique(18)
    codes = np.full((1, 18), -1, np.int32)
    solver = Solver(graph)
    ((plan, rows),) = solver.plans(codes, module_ask(graph))
    needed = solver.check(plan, len(rows))
    assert Solver(graph, max_bytes=needed).log_evidence(codes, None)[0] == pytest.approx(
        18 * math.log(2)
    )
    with pytest.raises(Intractable, match=rf"or use JunctionTree\(max_bytes={needed}\)"):
        Solver(graph, max_bytes=needed // 100).log_evidence(codes, None)
    observed = codes.copy()
    observed[0, :14] = 0
    small = Solver(graph, max_bytes=needed // 100)
    assert small.log_evidence(observed, None)[0] == pytest.approx(4 * math.log(2))
    with pytest.raises(Intractable, match="joint of 18 variables"):
        Solver(graph, max_bytes=2**12).joint(observed, None, range(18))


def module_ask(graph: FactorGraph) -> Any:
    from pgnn.inference.exact.planner import Ask

    return Ask()


def test_a_batch_needs_no_more_than_the_plan_says() -> None:
    """Memory is that of a tile for each thread, however many rows there are."""
    graph = clique(10)
    solver = Solver(graph)
    rng = np.random.default_rng(0)
    codes = np.where(rng.random((5000, 10)) < 0.3, rng.integers(0, 2, (5000, 10)), -1)
    codes = codes.astype(np.int32)
    plans = solver.plans(codes, module_ask(graph))
    needed = max(solver.check(plan, len(rows)) for plan, rows in plans)
    single = Solver(graph, max_bytes=needed)
    np.testing.assert_allclose(
        single.log_evidence(codes, None), (codes < 0).sum(axis=1) * math.log(2), rtol=1e-12
    )
    assert sum(len(m) * 8 for m in single.cpu._pool) <= needed * 1.5


def test_answers_are_float64_whatever_the_tables_are() -> None:
    case = RandomGraph(0, "loop")
    factors = tuple(
        type(f)(f.variables, f.log_values.to(torch.float32), f.child) for f in case.graph.factors
    )
    graph = FactorGraph(case.graph.variables, factors)
    log_z, out = Solver(graph).marginals(case.codes, None, everything(graph))
    assert log_z.dtype == out.dtype == np.float64
    np.testing.assert_allclose(out, case.marginals(), atol=1e-5)


# --- threads ------------------------------------------------------------------------------------


@pytest.fixture
def two_threads() -> Any:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("roomy", [True, False])
def test_threads_together_stay_within_the_budget(
    two_threads: None, monkeypatch: pytest.MonkeyPatch, roomy: bool
) -> None:
    """Rows with plans of their own: those that need more than a thread's share run alone."""
    case = RandomGraph(5, "loop", rows=12, share=0.4, num_variables=9)
    wanted = everything(case.graph)
    with planning(free=True):
        expected = by_torch(case.graph).marginals(case.codes, None, wanted)
        solver = Solver(case.graph)
        parts = solver.planner.parts(case.graph, case.codes, Ask(wanted=wanted))
        assert len(parts) > 2
        assert solver.cpu is not None
        needs = [solver.cpu.bytes_needed(make(), len(rows)) for make, rows in parts]
        solver.max_bytes = solver.cpu.max_bytes = (2 if roomy else 1) * max(needs)
        running, most, answer = [0], [0], type(solver.cpu).answer
        guard = threading.Lock()

        def watched(cpu: Any, plan: Any, *args: Any) -> None:
            needed = cpu.bytes_needed(plan, len(args[2]))
            with guard:
                running[0] += needed
                most[0] = max(most[0], running[0])
            time.sleep(0.01)  # long enough for another thread to come along
            answer(cpu, plan, *args)
            with guard:
                running[0] -= needed

        monkeypatch.setattr(type(solver.cpu), "answer", watched)
        got = solver.marginals(case.codes, None, wanted)
    np.testing.assert_allclose(got[0], expected[0], atol=1e-12)
    np.testing.assert_allclose(got[1], expected[1], atol=1e-12)
    assert most[0] <= solver.max_bytes
    assert not roomy or most[0] > max(needs)  # two did run at once


def test_tables_of_rows_that_do_not_matter_leave_no_scale_behind() -> None:
    a, b = Variable("a", 2), Variable("b", 2)
    rng = np.random.default_rng(0)
    prior = torch.from_numpy(rng.dirichlet(np.ones(2), size=3)).log()
    barren = torch.from_numpy(rng.dirichlet(np.ones(2), size=(3, 2))).log()
    graph = FactorGraph((a, b), (Factor([a], prior, "a"), Factor([a, b], barren, "b")))
    nothing = np.full((3, 2), -1, dtype=np.int32)
    observed = nothing.copy()
    observed[:, 0] = [0, 1, 1]
    expected = prior.numpy()[np.arange(3), observed[:, 0]]
    for solver in both(graph):
        for wanted in ([False, False], [True, False], [True, True]):
            log_z, _ = solver.marginals(nothing, None, np.array(wanted))
            np.testing.assert_allclose(log_z, 0.0, atol=1e-12)
        np.testing.assert_allclose(solver.log_evidence(observed, None), expected)


def test_answers_are_kept_for_a_bounded_number_of_targets() -> None:
    names = [f"x{k}" for k in range(8)]
    model = pgnn.BayesianNetwork([*itertools.pairwise(names)], states=dict.fromkeys(names, 2))
    solver = Solver(model_graph(model.requires_grad_(False)))
    codes = np.full((1, 8), -1, np.int32)
    sets = [s for size in (1, 2, 3) for s in itertools.combinations(names, size)]
    assert len(sets) > REMEMBERED
    for chosen in [*sets, sets[0]]:
        found = solver.row(codes, targets_of(model, list(chosen)))
        assert found is not None
        expected = solver.marginals(codes, None, targets_of(model, list(chosen)).mask)[1]
        np.testing.assert_allclose(found[1].ravel(), expected.ravel())
    assert len(solver._row_answers) <= REMEMBERED
