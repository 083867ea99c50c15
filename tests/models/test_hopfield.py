"""Memories: what is stored comes back, and the energy never rises on the way."""

import itertools

import numpy as np
import pytest
import torch

import pgnn
from pgnn.errors import DataError, EvidenceError, ModelError


def patterns(count: int, units: int, seed: int = 0) -> torch.Tensor:
    return (
        torch.randint(0, 2, (count, units), generator=torch.Generator().manual_seed(seed)) * 2 - 1
    )


@pytest.mark.parametrize("states", [(-1, 1), 2])
def test_stored_patterns_come_back(states: object) -> None:
    p = patterns(8, 100)
    rows = p if states == (-1, 1) else (p + 1) // 2
    net = pgnn.Hopfield(100, states=states).fit(rows)
    want = p.double().T @ p.double() / 100
    want.fill_diagonal_(0.0)
    scale = 1 if states == (-1, 1) else 4
    torch.testing.assert_close(net.couplings.detach(), scale * want)
    damaged = rows.clone()
    damaged[:, :10] = rows[:, :10].flip(0)
    found = net.recall(damaged)
    assert torch.equal(found.states, rows)
    assert bool(found.settled.all())
    for before, after in zip(found.energies, found.energies[1:], strict=False):
        assert bool((after <= before + 1e-9).all())
    torch.testing.assert_close(found.energies[-1], net.energy(rows))
    half = np.where(np.arange(100) < 50, rows.numpy(), np.nan)
    assert torch.equal(net.recall(half, hold_observed=True).states, rows)


def test_better_rules_hold_more() -> None:
    p = patterns(30, 80)
    share = {}
    for rule in (pgnn.Hebbian(), pgnn.PseudoInverse(), pgnn.Unlearning()):
        net = pgnn.Hopfield(80).fit(p, learner=rule)
        share[type(rule).__name__] = float((net.recall(p).states == p).double().mean())
    assert share["Hebbian"] < 0.95
    assert share["PseudoInverse"] == share["Unlearning"] == 1.0


def test_capacity() -> None:
    """At a load of 0.1 nearly everything is kept, at 0.2 nothing is."""
    overlap = {}
    for load in (0.1, 0.2):
        p = patterns(int(400 * load), 400, 1)
        found = pgnn.Hopfield(400).fit(p).recall(p[:20])
        overlap[load] = float((found.states * p[:20]).double().mean())
    assert overlap[0.1] > 0.97
    assert overlap[0.2] < 0.7


def test_one_layer_recalls_the_other() -> None:
    p = patterns(5, 60)
    rows = {"key": p[:, :40], "value": p[:, 40:].reshape(5, 4, 5)}
    net = pgnn.Hopfield({"key": 40, "value": (4, 5)}).fit(rows)
    found = net.recall({"key": rows["key"]}, hold="key")
    assert torch.equal(found["value"], rows["value"])
    together = net.recall({"key": rows["key"]}, synchronous=True, max_sweeps=50)
    assert torch.equal(together["value"], rows["value"])


def test_it_is_a_boltzmann_machine_near_zero() -> None:
    p = patterns(1, 8)
    net = pgnn.Hopfield(8, temperature=0.3).fit(p)
    best = torch.tensor(net.most_probable()["units"].astype(int))
    assert abs(int((best * p[0]).sum())) == 8
    cold = pgnn.Hopfield(8, weight=net.couplings.detach(), temperature=0.01)
    assert float(cold.query("units", {("units", 0): int(p[0, 0])}).log_evidence) > 0
    given = cold.query("units", {("units", 0): int(p[0, 0])})["units"].probs[..., 1]
    torch.testing.assert_close(given, (p[0].double() + 1) / 2)


def test_what_cannot_be_stored() -> None:
    with pytest.raises(DataError, match="complete"):
        pgnn.Hopfield(4).fit(np.array([[1, -1, np.nan, 1]]))
    with pytest.raises(ModelError, match="hidden layer 'hidden'"):
        pgnn.BoltzmannMachine(4, 2).fit(torch.zeros(1, 4).long(), learner=pgnn.Hebbian())
    with pytest.raises(EvidenceError):
        pgnn.Hopfield(4).recall([1, -1, 3, 1])
    with pytest.raises(EvidenceError, match="no variable 'x'"):
        pgnn.Hopfield(4).recall([1, -1, 1, 1], hold="x")
    with pytest.raises(EvidenceError, match="seed must not be negative"):
        pgnn.Hopfield(4).recall([1, -1, 1, 1], seed=-1)
    with pytest.raises(ModelError, match="noise must be in"):
        pgnn.Unlearning(noise=2.0)
    memory = pgnn.DenseHopfield(np.eye(3))
    for states in ("abc", None, [[1, 2], [1, 2, 3]], [1.0, 2.0]):
        with pytest.raises(EvidenceError, match="must be 3"):
            memory.recall(states)
    assert pgnn.Hopfield(np.int64(3)).variables["units"].shape == (3,)


def test_dense_memory_is_attention_and_a_mixture(tmp_path: object) -> None:
    rng = np.random.default_rng(0)
    x, xi = rng.normal(size=(40, 6)), rng.normal(size=(5, 6))
    memory = pgnn.DenseHopfield(x, beta=2.0)
    keys = torch.from_numpy(x)[None]
    want = torch.nn.functional.scaled_dot_product_attention(
        torch.from_numpy(xi)[None], keys, keys, scale=2.0
    )
    torch.testing.assert_close(memory.recall(xi, steps=1), want[0])
    attention = memory.query("pattern", {"units": xi})["pattern"].probs
    torch.testing.assert_close(attention @ torch.from_numpy(x), want[0])
    gap = memory.log_prob({"units": xi}) + 2.0 * memory.energy(xi)
    torch.testing.assert_close(gap, gap[:1].expand(5))
    energies = [memory.energy(memory.recall(xi, steps=k)) for k in range(6)]
    assert all(bool((b <= a + 1e-12).all()) for a, b in itertools.pairwise(energies))
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    sharp = pgnn.DenseHopfield(unit, beta=200.0)
    torch.testing.assert_close(sharp.recall(unit + 0.02), torch.from_numpy(unit), atol=1e-2, rtol=0)
    memory.save(f"{tmp_path}/m.safetensors")
    torch.testing.assert_close(pgnn.load(f"{tmp_path}/m.safetensors").recall(xi), memory.recall(xi))
    with pytest.raises(ModelError, match="beta must be positive"):
        pgnn.DenseHopfield(x, beta=0.0)


def test_patterns_in_lists_are_those_of_an_array() -> None:
    patterns = [[1, -1, 1, -1], [1, 1, -1, -1]]
    stored = pgnn.Hopfield(4).fit(np.array(patterns), progress=False).weight("units", "units")
    for given in (patterns, [np.array(p) for p in patterns], [tuple(p) for p in patterns]):
        found = pgnn.Hopfield(4).fit(given, progress=False).weight("units", "units")
        torch.testing.assert_close(found, stored)
    with pytest.raises(DataError, match=r"got list of numbers; a single row is .* \[\[\.\.\.\]\]"):
        pgnn.Hopfield(4).fit(patterns[0], progress=False)
