"""Propagation in torch against enumeration on trees and plain loops on anything else."""

import numpy as np
import pytest
import torch

from pgnn.errors import ModelError
from pgnn.factors.elements import Elements
from pgnn.factors.groups.factor_group import TableGroup
from pgnn.factors.groups.group_messages import TableMessages
from pgnn.factors.groups.potts_group import PottsGroup, PottsMessages
from pgnn.factors.variable import Variable
from pgnn.inference.factor_graph import FactorGraph
from pgnn.inference.propagation.torch_propagation import TorchPropagation
from tests import oracle
from tests.inference.loopy_fields import LoopyField, PlainPropagation

TEMPERATURES = [1.0, 0.4, 2.5, 0.0]


def propagation(made: LoopyField, temperature=1.0, weights=None) -> TorchPropagation:
    weights = None if weights is None else torch.from_numpy(weights)
    return TorchPropagation(made.graph, made.log_field, temperature=temperature, weights=weights)


def some_weights(made: LoopyField) -> np.ndarray:
    return np.random.default_rng(made.seed).uniform(0.3, 1.0, size=made.graph.num_interactions)


@pytest.mark.parametrize("temperature", TEMPERATURES)
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(("zeros", "observe"), [(0.0, False), (0.25, True)])
def test_steps_equal_plain_loops(temperature, weighted, zeros, observe):
    made = LoopyField(3, rows=3, zeros=zeros, observe=observe)
    weights = some_weights(made) if weighted else None
    fast = propagation(made, temperature, weights)
    slow = [PlainPropagation(made, row, temperature, weights) for row in range(3)]
    messages = fast.init()
    for _ in range(4):
        want = np.stack([s.flat_messages() for s in slow])
        np.testing.assert_allclose(messages.exp().numpy(), want, rtol=1e-11, atol=1e-14)
        messages = fast.step(messages)
        for s in slow:
            s.step()
    beliefs = np.stack([np.concatenate(s.beliefs()) for s in slow])
    np.testing.assert_allclose(fast.beliefs(messages).exp().numpy(), beliefs, rtol=1e-11)
    joints = [table for t in fast.factor_beliefs(messages) for table in t.unbind(1)]
    for row, s in enumerate(slow):
        for ours, theirs in zip(joints, s.factor_beliefs(), strict=True):
            np.testing.assert_allclose(ours[row].exp().numpy(), theirs, rtol=1e-11)
    if zeros:
        assert bool(messages.isneginf().any())
    assert not bool(messages.isnan().any())


@pytest.mark.parametrize("temperature", TEMPERATURES)
@pytest.mark.parametrize(("zeros", "observe"), [(0.0, False), (0.25, True)])
@pytest.mark.parametrize("seed", [0, 1])
def test_trees_are_exact(temperature, zeros, observe, seed):
    made = LoopyField(seed, rows=3, zeros=zeros, observe=observe, tree=True)
    run = propagation(made, temperature)
    found = run.run(30, 1e-14, progress=False)
    assert bool(found.converged.all())
    log_z = run.bethe(found.messages)
    beliefs = run.beliefs(found.messages).exp().numpy()
    for row in range(3):
        joint = made.joint(row, 1.0 if temperature == 0 else 1 / temperature)
        if temperature == 0:
            marginals = [
                np.max(joint.table, axis=tuple(a for a in range(joint.table.ndim) if a != e))
                for e in joint.names
            ]
            want = [m / m.max() for m in marginals]
            value = np.log(joint.table.max())
        else:
            want = list(oracle.marginals(joint).values())
            value = oracle.log_evidence(joint)
        np.testing.assert_allclose(beliefs[row], np.concatenate(want), atol=1e-12)
        assert float(log_z[row]) == pytest.approx(value, abs=1e-11)


def test_factor_beliefs_of_a_tree_are_joint_marginals():
    made = LoopyField(5, tree=True, zeros=0.2)
    run = propagation(made)
    found = run.run(30, 1e-14, progress=False)
    joints = [t for group in run.factor_beliefs(found.messages) for t in group.unbind(1)]
    for row in range(made.rows):
        joint = made.joint(row)
        for (scope, _), table in zip(made.factors(row), joints, strict=True):
            want = oracle.marginal(joint, scope)
            np.testing.assert_allclose(table[row].exp().numpy(), want, atol=1e-12)


@pytest.mark.parametrize("temperature", [1.0, 0.7])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("observe", [False, True])
def test_value_at_a_fixed_point_is_energy_plus_entropies(temperature, weighted, observe):
    made = LoopyField(7, strength=0.5, observe=observe, zeros=0.1)
    weights = some_weights(made) if weighted else None
    run = propagation(made, temperature, weights)
    found = run.run(2000, 1e-15, 0.3, progress=False)
    assert bool((found.residual < 1e-13).all())
    value = run.bethe(found.messages)
    for row in range(made.rows):
        slow = PlainPropagation(made, row, temperature, weights)
        for _ in range(80):
            slow.step()
        want = slow.free_energy(0.3 / temperature)
        assert float(value[row]) == pytest.approx(want, abs=1e-11)


def test_value_is_wrong_by_the_square_of_the_messages_error():
    made = LoopyField(11, strength=0.5)
    run = propagation(made)
    fixed = run.run(2000, 1e-15, progress=False).messages
    noise = torch.from_numpy(np.random.default_rng(0).normal(size=fixed.shape))
    off = [
        float((run.bethe(fixed + h * noise) - run.bethe(fixed)).abs().max()) for h in (1e-2, 1e-3)
    ]
    assert off[1] < 0.02 * off[0]


def test_reweighted_value_is_an_upper_bound():
    # a ring of four: each spanning tree leaves out one edge
    elements = Elements([Variable("x", 3, shape=(4,))])
    scopes = [[0, 1], [1, 2], [2, 3], [3, 0]]
    rng = np.random.default_rng(2)
    for _ in range(5):
        table = torch.from_numpy(2 * rng.normal(size=(4, 3, 3)))
        field = torch.from_numpy(rng.normal(size=(1, 12)))
        graph = FactorGraph(elements, (TableGroup(scopes, table),))
        run = TorchPropagation(graph, field, weights=torch.full((4,), 0.75))
        value = run.bethe(run.run(3000, 1e-12, 0.5, progress=False).messages)
        cards = dict.fromkeys(range(4), 3)
        tables = [(s, np.exp(t.numpy())) for s, t in zip(scopes, table, strict=True)]
        fields = [((e,), np.exp(field[0, 3 * e : 3 * e + 3].numpy())) for e in range(4)]
        exact = oracle.log_evidence(oracle.joint(cards, [*tables, *fields]))
        assert float(value[0]) > exact - 1e-9


def test_rows_do_not_depend_on_each_other():
    made = LoopyField(13, rows=3, observe=True)
    together = propagation(made).run(200, 1e-10, 0.2, progress=False)
    for row in range(3):
        alone = LoopyField(13, rows=3, observe=True)
        alone.rows = 1
        alone.log_field = made.log_field[row : row + 1]
        alone.numbers = [
            t[row : row + 1] if t.dim() == (2 if k == 1 else len(s[0]) + 2) else t
            for k, (t, s) in enumerate(zip(made.numbers, made.scopes, strict=True))
        ]
        found = propagation(alone).run(200, 1e-10, 0.2, progress=False)
        assert int(found.iterations[0]) == int(together.iterations[row])
        torch.testing.assert_close(found.messages[0], together.messages[row], rtol=0, atol=1e-13)
        assert float(found.residual[0]) == pytest.approx(float(together.residual[row]), abs=1e-14)
    assert len(set(together.iterations.tolist())) > 1


def test_limit_is_not_called_converged():
    found = propagation(LoopyField(1)).run(2, 1e-12, progress=False)
    assert not bool(found.converged.any())
    assert found.iterations.tolist() == [2, 2]
    assert len(found.history["residual"]) == 2


def test_warm_start_is_at_rest_at_once():
    run = propagation(LoopyField(1, strength=0.4))
    first = run.run(500, 1e-11, progress=False)
    again = run.run(500, 1e-10, messages=first.messages, progress=False)
    assert again.iterations.tolist() == [1, 1]


def test_impossible_rows_are_minus_infinity():
    made = LoopyField(4, tree=True)
    made.log_field[1, :3] = -torch.inf
    run = propagation(made)
    found = run.run(30, 1e-14, progress=False)
    value = run.bethe(found.messages)
    assert np.isneginf(float(value[1]))
    assert np.isfinite(float(value[0]))
    beliefs = run.beliefs(found.messages)
    assert not bool(beliefs.isnan().any())
    assert bool(beliefs[1, :3].isneginf().all())


@pytest.mark.parametrize("hard", [False, True])
@pytest.mark.parametrize("states", [1, 2, 5])
def test_potts_messages_are_those_of_the_written_table(hard, states):
    rng = np.random.default_rng(states)
    coupling = torch.tensor([1.5, -2.0, -torch.inf, 800.0, -800.0, 0.0]).double()
    cavities = []
    for _ in range(2):
        # some far apart, some ties, some impossible
        logs = rng.choice([0.0, 1.0, -900.0, 700.0, -np.inf, 0.3], size=(40, 6, states))
        cavities.append(torch.from_numpy(logs))
    group = PottsGroup(np.tile([0, 1], (6, 1)), coupling, states)
    fast = PottsMessages(coupling, 0.5, hard)
    slow = TableMessages(group.log_values, 2, 0.5, hard)
    for a, b in zip(fast.messages(cavities), slow.messages(cavities), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-13, atol=1e-13)
    torch.testing.assert_close(fast.beliefs(cavities), slow.beliefs(cavities))
    torch.testing.assert_close(fast.log_total(cavities), slow.log_total(cavities))
    if not hard:
        weights = torch.rand(40, dtype=torch.float64)
        same = torch.eye(states, dtype=torch.bool)
        want = torch.where(same, slow.gradient(cavities, weights), 0.0).sum((1, 2))
        got = fast.gradient(cavities, weights)
        assert not bool(want.isnan().any())
        torch.testing.assert_close(got, want, rtol=1e-11, atol=1e-13)


def test_no_rows_and_no_factors():
    made = LoopyField(0)
    run = TorchPropagation(
        made.with_numbers([t[:0] if k in (1, 3) else t for k, t in enumerate(made.numbers)]),
        made.log_field[:0],
    )
    found = run.run(3, 1e-9, progress=False)
    assert found.messages.shape == (0, run.init().shape[1])
    assert run.beliefs(found.messages).shape == (0, made.log_field.shape[1])
    assert run.bethe(found.messages).shape == (0,)
    bare = TorchPropagation(FactorGraph(made.elements, ()), made.log_field)
    found = bare.run(3, 1e-9, progress=False)
    assert found.messages.shape == (2, 0)
    assert bool(found.converged.all())
    want = sum(
        made.log_field[:, a:b].logsumexp(1)
        for a, b in zip(made.elements.offset[:-1], made.elements.offset[1:], strict=True)
    )
    torch.testing.assert_close(bare.bethe(found.messages), want)


def test_single_precision_stays_single():
    made = LoopyField(6, strength=0.4)
    run = TorchPropagation(made.graph, made.log_field.float())
    found = run.run(200, 1e-6, progress=False)
    assert run.beliefs(found.messages).dtype == torch.float32
    fine = propagation(made).run(200, 1e-12, progress=False)
    want = propagation(made).beliefs(fine.messages).float()
    torch.testing.assert_close(run.beliefs(found.messages), want, atol=2e-5, rtol=0)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_cuda_equals_cpu():
    made = LoopyField(6, strength=0.4, zeros=0.1, observe=True)
    want = propagation(made)
    graph = made.with_numbers([t.cuda() for t in made.numbers])
    run = TorchPropagation(graph, made.log_field.cuda())
    found = run.run(300, 1e-12, progress=False)
    fine = want.run(300, 1e-12, progress=False)
    torch.testing.assert_close(found.messages.cpu(), fine.messages)
    torch.testing.assert_close(run.bethe(found.messages).cpu(), want.bethe(fine.messages))


def test_wrong_settings_say_so():
    made = LoopyField(0)
    with pytest.raises(ModelError, match="temperature"):
        propagation(made, -1.0)
    with pytest.raises(ModelError, match="log_field"):
        TorchPropagation(made.graph, made.log_field[:, 1:])
    with pytest.raises(ModelError, match="weights"):
        propagation(made, weights=np.ones(3))
    with pytest.raises(ModelError, match="positive"):
        propagation(made, weights=0 * some_weights(made))
    with pytest.raises(ModelError, match="damping"):
        propagation(made).run(3, 1e-3, 1.0)
