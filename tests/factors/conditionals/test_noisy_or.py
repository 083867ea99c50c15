"""Noisy gates against their definition: enumerate every cause's own effect, take the largest."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pgnn.errors import ModelError
from pgnn.factors import NoisyMax, NoisyOr, Variable
from tests import oracle

Y = Variable("y", 2)
FLU, COLD = Variable("flu", 2), Variable("cold", 2)


def max_of_effects(effects: list[np.ndarray], leak: np.ndarray) -> np.ndarray:
    """p(y | x) by summing over all combinations of the independent effects."""
    num_states = len(leak)
    sizes = [len(rows) + 1 for rows in effects]
    table = np.zeros((*sizes, num_states))
    neutral = np.eye(num_states)[0]
    for x in itertools.product(*(range(k) for k in sizes)):
        own = [
            rows[state - 1] if state else neutral for rows, state in zip(effects, x, strict=True)
        ]
        for z in itertools.product(range(num_states), repeat=len(own) + 1):
            chance = leak[z[-1]] * math.prod(q[k] for q, k in zip(own, z, strict=False))
            table[(*x, max(z))] += chance
    return table


@given(seed=st.integers(0, 10**6))
def test_noisy_max_is_the_maximum_of_independent_effects(seed: int) -> None:
    rng = np.random.default_rng(seed)
    num_states = int(rng.integers(1, 5))
    sizes = rng.integers(1, 4, size=int(rng.integers(0, 4)))
    effects = [oracle.random_table(rng, [k - 1], num_states, zeros=0.3) for k in sizes]
    leak = oracle.random_table(rng, [], num_states, zeros=0.3)
    parents = [Variable(f"x{i}", int(k)) for i, k in enumerate(sizes)]
    got = NoisyMax(Variable("y", num_states), parents, effects, leak).factor().values
    np.testing.assert_allclose(got, max_of_effects(effects, leak), atol=1e-14)


def test_noisy_or_is_the_textbook_formula() -> None:
    probs = NoisyOr(Y, [FLU, COLD], strengths={"cold": 0.4, "flu": 0.9}, leak=0.05).factor().values
    for a, b in itertools.product(range(2), repeat=2):
        absent = 0.95 * 0.1**a * 0.6**b
        np.testing.assert_allclose(probs[a, b], [absent, 1 - absent], rtol=1e-14)


def test_strengths_are_those_of_the_parents_alone() -> None:
    gate = NoisyOr(Y, [FLU, COLD], strengths=torch.tensor([0.9, 0.25]))
    np.testing.assert_allclose(gate.strengths, [0.9, 0.25], rtol=1e-6)
    np.testing.assert_allclose(gate.factor().values[1, 0, 1], 0.9, rtol=1e-6)
    assert NoisyOr(Y, []).strengths.shape == (0,)


def test_tiny_strengths_are_not_lost_to_rounding() -> None:
    log_values = NoisyOr(Y, [FLU, COLD], strengths=[1e-30, 1e-200]).factor().log_values
    assert log_values[1, 0, 1].item() == pytest.approx(math.log(1e-30), rel=1e-14)
    assert log_values[0, 1, 1].item() == pytest.approx(math.log(1e-200), rel=1e-14)
    many = [Variable(f"x{k}", 2) for k in range(1000)]
    gate = NoisyOr(Y, many, strengths=[1e-25] * 1000)
    dist = gate.distribution({v.name: torch.tensor([1]) for v in many})
    assert dist.logits[0, 1].item() == pytest.approx(math.log(1e-22), rel=1e-12)


def test_certain_causes_and_missing_leaks_are_zeros_not_nans() -> None:
    table = NoisyOr(Y, [FLU, COLD], strengths=[1.0, 0.0]).factor().values
    assert table.tolist() == [[[1, 0], [1, 0]], [[0, 1], [0, 1]]]


def test_multi_state_gate_with_binary_variables_is_noisy_or() -> None:
    general = NoisyMax(Y, [FLU, COLD], [[[0.1, 0.9]], [[0.6, 0.4]]], leak=[0.95, 0.05])
    special = NoisyOr(Y, [FLU, COLD], [0.9, 0.4], leak=0.05)
    torch.testing.assert_close(general.factor().log_values, special.factor().log_values)


def test_learnable_gates_fit_frequencies() -> None:
    """Maximum likelihood of one parent without leak is the observed frequency."""
    gate = NoisyOr(Y, [FLU])
    optimizer = torch.optim.Adam(gate.parameters(), lr=0.1)
    y = torch.tensor([1, 1, 1, 0])
    for _ in range(300):
        optimizer.zero_grad()
        loss = -gate.distribution({"flu": torch.ones(4, dtype=torch.int64)}).log_prob(y).mean()
        loss.backward()
        optimizer.step()
    assert gate.strengths.item() == pytest.approx(0.75, abs=1e-3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"strengths": [0.5]}, r"each of its 2 parents \['flu', 'cold'\], got shape \(1,\)"),
        ({"strengths": [0.5, 1.5]}, "strength of 'cold' .* between 0 and 1, got 1.5"),
        ({"strengths": [0.5, math.nan]}, "strength of 'cold' .* got nan"),
        ({"strengths": {"flu": 0.5}}, "miss its parent 'cold'"),
        ({"strengths": {"flu": 0.5, "colt": 0.5}}, "'colt' is not a parent; did you mean 'cold'"),
        ({"leak": -0.1}, "leak in the noisy gate of 'y' must be a probability"),
    ],
)
def test_wrong_strengths(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        NoisyOr(Y, [FLU, COLD], **arguments)  # type: ignore[arg-type]


def test_wrong_effects() -> None:
    pain = Variable("pain", ["none", "dull", "sharp"])
    with pytest.raises(ModelError, match="'pain' has 3; use NoisyMax or Tabular"):
        NoisyOr(Y, [pain])
    with pytest.raises(ModelError, match="one table for each of its 1 parents"):
        NoisyMax(Y, [pain], [])
    with pytest.raises(ModelError, match=r"shape \(2, 2\), axes \(pain: 2, y: 2\)"):
        NoisyMax(Y, [pain], [[[0.5, 0.5]]])
    with pytest.raises(ModelError, match=r"row P\(y \| pain=sharp\).*sums to 0.9"):
        NoisyMax(Y, [pain], [[[0.5, 0.5], [0.5, 0.4]]])
    with pytest.raises(ModelError, match=r"row P\(y\) of the table of 'y' must sum to 1"):
        NoisyMax(Y, [pain], leak=[0.5, 0.4])


@pytest.mark.parametrize("leak", [0.0, 0.3, 1.0])
def test_tables_are_recognised(leak: float) -> None:
    x = [Variable(f"x{k}", 2) for k in range(4)]
    y = Variable("y", 2)
    gate = NoisyOr(y, x, [0.0, 0.25, 1.0, 1e-7], leak)
    table = gate.factor().values
    again = NoisyOr.from_table(y, x, table)
    np.testing.assert_allclose(again.factor().values, table, atol=1e-15)
    if leak < 1.0:
        np.testing.assert_allclose(again.strengths, gate.strengths, rtol=1e-8)
    prior = NoisyOr.from_table(y, [], [0.8, 0.2])
    np.testing.assert_allclose(prior.factor().values, [0.8, 0.2], atol=1e-15)


@pytest.mark.parametrize(
    "table",
    [
        [[[1.0, 0.0], [0.0, 1.0]], [[0.0, 1.0], [1.0, 0.0]]],  # either but not both
        [[[0.5, 0.5], [0.6, 0.4]], [[0.4, 0.6], [0.48, 0.52]]],  # the second one prevents
        [[[0.9, 0.1], [0.45, 0.55]], [[0.18, 0.82], [0.0901, 0.9099]]],
    ],
)
def test_what_is_no_noisy_or_is_refused(table: list[list[list[float]]]) -> None:
    a, b, y = (Variable(n, 2) for n in "aby")
    with pytest.raises(ModelError, match=r"table of 'y' is no noisy-or: .* deviates by up to"):
        NoisyOr.from_table(y, [a, b], table)


def test_the_parameter_of_the_leak_has_a_name_of_its_own() -> None:
    gate = NoisyMax(Variable("y", 3), [Variable("x", 2)], leak=[0.5, 0.3, 0.2])
    names = dict(gate.named_parameters())
    assert list(names) == ["leak_logits", "effects.0"]
    for name, parameter in names.items():
        assert gate.get_parameter(name) is parameter
    torch.testing.assert_close(gate.leak, gate.leak_logits.softmax(0))
