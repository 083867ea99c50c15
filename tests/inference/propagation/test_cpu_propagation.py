"""The propagation kernels against plain loops, torch, and enumeration."""

import itertools

import numpy as np
import pytest
import torch

from pgnn.factors.elements import Elements
from pgnn.factors.groups.factor_group import TableGroup
from pgnn.factors.groups.potts_group import PottsGroup
from pgnn.factors.variable import Variable
from pgnn.inference.factor_graph import FactorGraph
from pgnn.inference.propagation.cpu_propagation import Control, CpuPropagation
from pgnn.inference.propagation.propagation_plan import PropagationPlan
from pgnn.inference.propagation.schedules import Flooding, Residual, Sequential
from pgnn.inference.propagation.torch_propagation import TorchPropagation
from tests import oracle
from tests.inference.loopy_fields import LoopyField, PlainPropagation

TEMPERATURES = [1.0, 0.4, 2.5, 0.0]
ZEROS = [(0.0, False), (0.25, True)]
SCHEDULES = [Flooding(), Sequential(), Residual()]


def propagation(made: LoopyField, temperature=1.0, forests=0, log_messages=None) -> CpuPropagation:
    plan = PropagationPlan(made.graph, temperature, forests, seed=1)
    return CpuPropagation(plan, made.log_field.numpy(), log_messages=log_messages)


def weights_of(run: CpuPropagation) -> np.ndarray | None:
    return None if run.plan.forests is None else run.plan.forests.weights


def plain(made: LoopyField, run: CpuPropagation) -> list[PlainPropagation]:
    weights, temperature = weights_of(run), run.plan.temperature
    return [PlainPropagation(made, row, temperature, weights) for row in range(made.rows)]


def in_torch(made: LoopyField, run: CpuPropagation) -> TorchPropagation:
    weights = weights_of(run)
    return TorchPropagation(
        made.graph,
        made.log_field,
        temperature=run.plan.temperature,
        weights=None if weights is None else torch.from_numpy(weights),
    )


def flood(run: CpuPropagation, sweeps: int, damping: float = 0.0) -> None:
    run.row_progress.damping[:] = damping
    run.sweep(Control(Flooding(), adaptive=False, tolerance=0.0), sweeps)


def damped_step(slow: PlainPropagation, damping: float) -> float:
    """One step with damping; the largest distance of a message."""
    old = dict(slow.messages)
    slow.step()
    distance = 0.0
    for key, new in slow.messages.items():
        before = old[key]
        if slow.hard:
            with np.errstate(divide="ignore", invalid="ignore"):
                gap = np.abs(np.log(new) - np.log(before))
                mixed = np.exp((1 - damping) * np.log(new) + damping * np.log(before))
            alive = (new > 0) & (before > 0)
            distance = max(distance, gap[alive].max(initial=0.0))
            if ((new > 0) != (before > 0)).any():
                distance = max(distance, 1.0)
            slow.messages[key] = np.where(alive, mixed, new)
        else:
            distance = max(distance, np.abs(new - before).sum())
            slow.messages[key] = np.where(new > 0, (1 - damping) * new + damping * before, 0.0)
    return distance


# --- flooding, step by step -----------------------------------------------------------------------


@pytest.mark.parametrize("temperature", TEMPERATURES)
@pytest.mark.parametrize("forests", [0, 5])
@pytest.mark.parametrize("damping", [0.0, 0.3])
@pytest.mark.parametrize(("zeros", "observe"), ZEROS)
def test_flooding_equals_plain_loops_step_by_step(temperature, forests, damping, zeros, observe):
    made = LoopyField(3, rows=3, zeros=zeros, observe=observe)
    fast = propagation(made, temperature, forests)
    slow = plain(made, fast)
    history: list[float] = []
    fast.compute_beliefs()
    for _ in range(4):
        want = np.stack([s.flat_messages() for s in slow])
        np.testing.assert_allclose(np.exp(fast.log_messages), want, rtol=1e-11, atol=1e-14)
        flood(fast, 1, damping)
        distance = [damped_step(s, damping) for s in slow]
        np.testing.assert_allclose(fast.row_progress.residual, distance, rtol=1e-9)
        history.append(max(distance))
        beliefs = fast.numbers.belief if temperature else np.exp(fast.numbers.belief)
        want = np.stack([np.concatenate(s.beliefs()) for s in slow])
        np.testing.assert_allclose(beliefs, want, rtol=1e-10, atol=1e-14)
    assert fast.history == pytest.approx(history, rel=1e-9)
    assert fast.row_progress.iterations.tolist() == [4, 4, 4]
    if zeros:
        assert np.isneginf(fast.log_messages).any()
    assert not np.isnan(fast.log_messages).any()


@pytest.mark.parametrize("temperature", TEMPERATURES)
@pytest.mark.parametrize("forests", [0, 5])
@pytest.mark.parametrize(("zeros", "observe"), ZEROS)
def test_values_of_any_messages_equal_those_of_torch(temperature, forests, zeros, observe):
    made = LoopyField(7, rows=3, zeros=zeros, observe=observe)
    fast = propagation(made, temperature, forests)
    slow = in_torch(made, fast)
    fast.compute_beliefs()
    messages = slow.init()
    for _ in range(3):
        _, value = fast.bethe()
        np.testing.assert_allclose(value, slow.bethe(messages).numpy(), rtol=1e-11)
        beliefs = fast.numbers.belief if temperature else np.exp(fast.numbers.belief)
        np.testing.assert_allclose(beliefs, slow.beliefs(messages).exp().numpy(), atol=1e-12)
        flood(fast, 1)
        messages = slow.step(messages)


SHAPES = [
    ((2, 2), 3), ((3, 2), 3), ((4, 4), 3), ((16, 16), 2), ((5, 5), 4), ((2, 3, 2), 3),
    ((3, 1, 2, 2), 2), ((2, 2, 3, 1, 2), 2), ((1, 1), 2), ((1, 4), 2),
]  # fmt: skip


@pytest.mark.parametrize("hard", [False, True])
@pytest.mark.parametrize(("states", "count"), SHAPES)
def test_tables_of_every_shape(hard, states, count):
    """Kernels have paths of their own for two, four and sixteen states, and for many elements."""
    rng = np.random.default_rng(len(states))
    names = [Variable(k, n) for k, n in enumerate(states)]
    elements = Elements(names)
    scope = np.arange(len(states))
    table = rng.normal(size=(count, *states))
    table[rng.random(table.shape) < 0.15] = -np.inf
    table[(slice(None), *np.zeros(len(states), int))] = 0.0
    group = TableGroup(np.tile(scope, (count, 1)), torch.from_numpy(table))
    graph = FactorGraph(elements, (group,))
    field = rng.normal(size=(2, sum(states)))
    check_against_torch(graph, field, hard)


@pytest.mark.parametrize("hard", [False, True])
@pytest.mark.parametrize("states", [1, 2, 3, 4, 16])
@pytest.mark.parametrize("shared", [False, True])
def test_potts_factors_of_every_size(hard, states, shared):
    rng = np.random.default_rng(states)
    elements = Elements([Variable("x", states, shape=(4,))])
    scopes = [[0, 1], [2, 1], [2, 3], [3, 0]]
    coupling = torch.tensor([0.8] if shared else [1.5, -0.7, -torch.inf, -20.0]).double()
    if states == 1 and not shared:
        coupling[2] = 3.0
    graph = FactorGraph(elements, (PottsGroup(scopes, coupling, states),))
    check_against_torch(graph, rng.normal(size=(2, 4 * states)), hard)


def check_against_torch(graph: FactorGraph, field: np.ndarray, hard: bool) -> None:
    temperature = 0.0 if hard else 1.0
    for forests in (0, 3):
        plan = PropagationPlan(graph, temperature, forests, seed=1)
        fast = CpuPropagation(plan, field)
        weights = None if plan.forests is None else torch.from_numpy(plan.forests.weights)
        slow = TorchPropagation(
            graph, torch.from_numpy(field), temperature=temperature, weights=weights
        )
        fast.compute_beliefs()
        messages = slow.init()
        for _ in range(3):
            flood(fast, 1)
            messages = slow.step(messages)
            np.testing.assert_allclose(
                np.exp(fast.log_messages), messages.exp().numpy(), rtol=1e-10, atol=1e-15
            )
        np.testing.assert_allclose(fast.bethe()[1], slow.bethe(messages).numpy(), rtol=1e-10)


# --- schedules ------------------------------------------------------------------------------------


@pytest.mark.parametrize("temperature", [1.0, 0.4, 2.5])
@pytest.mark.parametrize("forests", [0, 5])
@pytest.mark.parametrize("damping", [0.0, 0.4])
@pytest.mark.parametrize(("zeros", "observe"), ZEROS)
def test_schedules_reach_the_same_fixed_point(temperature, forests, damping, zeros, observe):
    made = LoopyField(5, rows=3, zeros=zeros, observe=observe, strength=0.5)
    slow = in_torch(made, propagation(made, temperature, forests))
    fixed = slow.run(3000, 1e-14, 0.2, progress=False)
    assert bool(fixed.converged.all())
    for schedule in SCHEDULES:
        fast = propagation(made, temperature, forests)
        fast.run(Control(schedule, damping, tolerance=1e-13, max_iterations=3000))
        assert (fast.row_progress.state == CpuPropagation.CONVERGED).all()
        assert (fast.row_progress.residual <= 1e-13).all()
        np.testing.assert_allclose(
            np.exp(fast.log_messages), fixed.messages.exp().numpy(), atol=1e-11
        )
        assert len(fast.history) == fast.row_progress.iterations.max()
        assert fast.history[-1] <= 1e-13
        assert fast.history[0] > 1e-3
        np.testing.assert_allclose(fast.bethe()[1], slow.bethe(fixed.messages).numpy(), rtol=1e-11)


@pytest.mark.parametrize("schedule", [Sequential(), Residual()])
def test_schedules_reach_the_same_fixed_point_of_maxima(schedule):
    made = LoopyField(5, rows=3, strength=0.4)
    slow = in_torch(made, propagation(made, 0.0))
    fixed = slow.run(3000, 1e-13, 0.2, progress=False)
    fast = propagation(made, 0.0)
    fast.run(Control(schedule, tolerance=1e-12, max_iterations=3000))
    done = fixed.converged.numpy() & (fast.row_progress.state == CpuPropagation.CONVERGED)
    assert done.any()
    np.testing.assert_allclose(
        np.exp(fast.log_messages)[done], fixed.messages.exp().numpy()[done], atol=1e-10
    )


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("temperature", [1.0, 0.0])
def test_rows_do_not_depend_on_each_other(schedule, temperature):
    made = LoopyField(13, rows=4, observe=True)
    control = Control(schedule, 0.2, tolerance=1e-9, max_iterations=300)
    together = propagation(made, temperature)
    together.run(control)
    for row in range(4):
        plan = PropagationPlan(made.graph, temperature)
        rows = slice(row, row + 1)
        alone = CpuPropagation(plan, made.log_field[rows].numpy(), rows)
        alone.run(control)
        assert alone.row_progress.iterations[0] == together.row_progress.iterations[row]
        assert alone.row_progress.residual[0] == together.row_progress.residual[row]
        np.testing.assert_array_equal(alone.log_messages[0], together.log_messages[row])
    assert len(set(together.row_progress.iterations.tolist())) > 1


def test_pieces_of_work_do_not_change_the_answer(monkeypatch):
    """Whether the loop does one sweep at a time or fifty."""
    for schedule in SCHEDULES:
        found = []
        for step in (3e7, 1.0):
            monkeypatch.setattr("pgnn.inference.propagation.cpu_propagation._STEP", step)
            run = propagation(LoopyField(5, strength=0.5))
            run.run(Control(schedule, 0.1, tolerance=1e-10, max_iterations=77))
            found.append(run)
        np.testing.assert_array_equal(found[0].log_messages, found[1].log_messages)
        np.testing.assert_array_equal(
            found[0].row_progress.iterations, found[1].row_progress.iterations
        )
        assert found[0].history == found[1].history


def test_limit_is_not_called_converged():
    for schedule in SCHEDULES:
        run = propagation(LoopyField(1))
        run.run(Control(schedule, tolerance=1e-12, max_iterations=2))
        assert (run.row_progress.state == CpuPropagation.ACTIVE).all()
        assert run.row_progress.iterations.tolist() == [2, 2]
        assert len(run.history) == 2


def test_residual_renews_what_has_changed_first():
    """A long chain that ends in a ring: only the ring needs more than a few renewals."""
    elements = Elements([Variable("x", 2, shape=(60,))])
    scopes = [[k, k + 1] for k in range(59)] + [[56, 59], [56, 58], [57, 59]]
    rng = np.random.default_rng(0)
    group = TableGroup(scopes, torch.from_numpy(1.0 * rng.normal(size=(len(scopes), 2, 2))))
    plan = PropagationPlan(FactorGraph(elements, (group,)))
    field = rng.normal(size=(1, 120))
    taken = {}
    for schedule in SCHEDULES:
        run = CpuPropagation(plan, field)
        run.run(Control(schedule, tolerance=1e-9))
        assert (run.row_progress.state == CpuPropagation.CONVERGED).all()
        taken[type(schedule)] = int(run.row_progress.iterations[0])
    assert taken[Residual] < taken[Sequential] < taken[Flooding]


# --- trees ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("temperature", TEMPERATURES)
@pytest.mark.parametrize(("zeros", "observe"), ZEROS)
@pytest.mark.parametrize("seed", [0, 1])
def test_trees_are_exact_after_two_sweeps(temperature, zeros, observe, seed):
    made = LoopyField(seed, rows=3, zeros=zeros, observe=observe, tree=True)
    run = propagation(made, temperature)
    assert run.plan.acyclic
    run.solve()
    assert (run.row_progress.iterations <= 2).all()
    _, value = run.bethe()
    states = run.decode()
    for row in range(3):
        joint = made.joint(row, 1.0 if temperature == 0 else 1 / temperature)
        got = np.split(run.numbers.belief[row], made.elements.offset[1:-1])
        if temperature == 0:
            assert value[row] == pytest.approx(np.log(joint.table.max()), abs=1e-11)
            assert joint.table[tuple(states[row])] == pytest.approx(joint.table.max())
        else:
            assert value[row] == pytest.approx(oracle.log_evidence(joint), abs=1e-11)
            for belief, want in zip(got, oracle.marginals(joint).values(), strict=True):
                np.testing.assert_allclose(belief, want, atol=1e-12)


@pytest.mark.parametrize("seed", range(6))
def test_ties_on_trees_are_decoded_jointly(seed):
    made = LoopyField(seed, rows=3, tree=True)
    rng = np.random.default_rng(seed)
    made.numbers = [
        torch.from_numpy(rng.integers(0, 2, t.shape).astype(float)) for t in made.numbers
    ]
    made.log_field = torch.zeros_like(made.log_field)
    run = propagation(made, 0.0)
    run.solve()
    states = run.decode()
    for row in range(3):
        joint = made.joint(row).table
        assert joint[tuple(states[row])] == pytest.approx(joint.max(), rel=1e-12)


def test_some_elements_are_decoded():
    made = LoopyField(2, tree=True)
    run = propagation(made, 0.0)
    run.solve()
    some = np.arange(len(made.elements)) % 2 == 0
    states = run.decode(np.flatnonzero(some))
    assert (states[:, ~some] == -1).all()
    assert (states[:, some] >= 0).all()


# --- upper bounds ---------------------------------------------------------------------------------


def product_of_forest(made, run, row, member) -> np.ndarray:
    """One forest's part of the reparameterised distribution, written down."""
    cards, offset = made.elements.card, made.elements.offset
    wiring, power = run.plan.graph.wiring, 1.0 / (run.plan.temperature or 1.0)
    weights = weights_of(run)
    belief, message = run.numbers.belief[row], np.exp(run.log_messages[row])
    belief = np.exp(belief) if run.plan.max_product else belief
    total = np.ones(cards)
    for x in itertools.product(*(range(k) for k in cards)):
        value = np.prod([belief[offset[e] + x[e]] for e in range(len(cards))])
        for f, (scope, table) in enumerate(made.factors(row)):
            if not member[f] or value == 0:
                continue
            top = 0.0 if run.plan.max_product else table.max()  # which is in the scale
            value *= np.exp(power * (table[tuple(x[e] for e in scope)] - top) / weights[f])
            for slot in range(wiring.factor_ptr[f], wiring.factor_ptr[f + 1]):
                e = wiring.slot_var[slot]
                m = message[wiring.message[slot] + x[e]]
                value = value / m if m > 0 else 0.0
        total[x] = value
    return total


@pytest.mark.parametrize("temperature", [1.0, 0.5, 0.0])
def test_bound_is_the_mean_of_the_forests(temperature):
    made = LoopyField(4, rows=1, observe=True)
    run = propagation(made, temperature, forests=3)
    run.compute_beliefs()
    flood(run, 2)
    own, _ = run.bethe()
    got = run.upper_bound(own)
    parts = []
    for member in run.plan.forests:
        table = product_of_forest(made, run, 0, member)
        parts.append(np.log(table.max() if temperature == 0 else table.sum()))
    assert got[0] == pytest.approx(own[0] + np.mean(parts), rel=1e-10)


@pytest.mark.parametrize("temperature", [1.0, 0.5, 3.0, 0.0])
@pytest.mark.parametrize(("zeros", "observe"), ZEROS)
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_bound_holds_after_any_number_of_sweeps(temperature, zeros, observe, schedule):
    for seed in range(4):
        made = LoopyField(seed, rows=2, strength=1.5, zeros=zeros, observe=observe)
        run = propagation(made, temperature, forests=4)
        tables = [made.joint(row, 1.0 / (temperature or 1.0)).table for row in range(2)]
        exact = [np.log(t.max() if temperature == 0 else t.sum()) for t in tables]
        run.compute_beliefs()
        gaps = []
        for sweeps in (0, 1, 1, 3, 200):
            run.sweep(Control(schedule, tolerance=1e-9), sweeps)
            gaps.append(run.upper_bound(run.bethe()[0]) - exact)
            assert (gaps[-1] >= -1e-10).all()
        assert (gaps[-1] < gaps[0]).all()
        # at rest it is the reweighted value
        done = run.row_progress.state == CpuPropagation.CONVERGED
        if temperature:
            own, value = run.bethe()
            np.testing.assert_allclose(run.upper_bound(own)[done], value[done], rtol=1e-7)


# --- where to begin, and odd graphs ---------------------------------------------------------------


@pytest.mark.parametrize("temperature", [1.0, 0.0])
def test_warm_starts_rule_nothing_out(temperature):
    made = LoopyField(6, rows=2, zeros=0.2, observe=True, strength=0.4)
    run = propagation(made, temperature)
    run.run(Control(Sequential(), tolerance=1e-12))
    other = LoopyField(6, rows=2, zeros=0.2, strength=0.4)  # without the evidence
    fresh, warm = (
        propagation(other, temperature, log_messages=m) for m in (None, run.log_messages)
    )
    for r in (fresh, warm):
        r.run(Control(Sequential(), 0.2, tolerance=1e-12))
        assert (r.row_progress.state == CpuPropagation.CONVERGED).all()
    np.testing.assert_allclose(np.exp(warm.log_messages), np.exp(fresh.log_messages), atol=1e-9)


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("temperature", [1.0, 0.0])
def test_impossible_rows_stop_and_the_others_go_on(schedule, temperature):
    made = LoopyField(4, rows=3, strength=0.3)
    made.log_field[1, :3] = -torch.inf
    run = propagation(made, temperature)
    run.run(Control(schedule, 0.1, tolerance=1e-8))
    assert run.row_progress.state[1] == CpuPropagation.IMPOSSIBLE
    assert run.row_progress.iterations[1] == 1
    assert (run.row_progress.state[[0, 2]] == CpuPropagation.CONVERGED).all()
    _, value = run.bethe()
    assert np.isfinite(value[[0, 2]]).all()
    assert not np.isnan(run.numbers.belief).any()


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("temperature", [1.0, 0.0])
@pytest.mark.parametrize("forests", [0, 3])
def test_no_rows_no_factors_no_elements(schedule, temperature, forests):
    made = LoopyField(0)
    empty = [t[:0] if k in (1, 3) else t for k, t in enumerate(made.numbers)]
    bare = FactorGraph(made.elements, ())
    nothing = FactorGraph(Elements([]), ())
    cases = [
        (made.with_numbers(empty), made.log_field[:0]),
        (bare, made.log_field),
        (nothing, torch.zeros(2, 0, dtype=torch.float64)),
    ]
    for graph, field in cases:
        run = CpuPropagation(PropagationPlan(graph, temperature, forests), field.numpy())
        run.run(Control(schedule))
        own, value = run.bethe()
        assert value.shape == (len(field),)
        assert run.decode().shape == (len(field), len(graph.elements))
        assert run.plan.forests is None or run.upper_bound(own).shape == value.shape
    run = CpuPropagation(PropagationPlan(bare, 1.0, forests), made.log_field.numpy())
    run.run(Control(schedule))
    states = made.elements.offset
    want = sum(made.log_field[:, a:b].logsumexp(1) for a, b in itertools.pairwise(states))
    np.testing.assert_allclose(run.bethe()[1], want.numpy(), rtol=1e-12)


def test_threads_give_the_same_answer():
    made = LoopyField(8, rows=5, observe=True)
    found = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        try:
            run = propagation(made, 1.0, forests=3)
            run.run(Control(Residual(), tolerance=1e-9))
            own, value = run.bethe()
            found.append((run.log_messages, value, run.upper_bound(own), run.decode(), run.history))
        finally:
            torch.set_num_threads(1)
    for a, b in zip(*found, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_news_that_only_rule_states_out_are_news(schedule):
    """Zeros travel around a ring of maxima; nothing else changes."""
    elements = Elements([Variable("x", 2, shape=(8,))])
    same = torch.tensor([[[0.0, -torch.inf], [-torch.inf, 0.0]]]).double()
    graph = FactorGraph(elements, (TableGroup([[k, (k + 1) % 8] for k in range(8)], same),))
    field = np.zeros((1, 16))
    field[0, 7] = -np.inf
    run = CpuPropagation(PropagationPlan(graph, 0.0), field)
    run.run(Control(schedule, tolerance=1e-9))
    assert run.numbers.belief[0].tolist() == [0.0, -np.inf] * 8
    assert run.history[0] >= 1.0


def test_many_messages_into_one_element():
    """Products of very many small numbers: more than doubles hold."""
    leaves = 3000
    elements = Elements([Variable("x", 3, shape=(leaves + 1,))])
    rng = np.random.default_rng(0)
    table = torch.from_numpy(2 * rng.normal(size=(leaves, 3, 3)))
    scopes = [[0, k] for k in range(1, leaves + 1)]
    graph = FactorGraph(elements, (TableGroup(scopes, table),))
    run = CpuPropagation(PropagationPlan(graph), np.zeros((1, 3 * leaves + 3)))
    run.solve()
    centre = table.logsumexp(2).sum(0)
    np.testing.assert_allclose(run.bethe()[1], centre.logsumexp(0).numpy(), rtol=1e-12)
    np.testing.assert_allclose(
        run.numbers.belief[0, :3], centre.softmax(0).numpy(), rtol=1e-9, atol=1e-300
    )
