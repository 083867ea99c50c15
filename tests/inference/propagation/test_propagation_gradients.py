"""Gradients through belief propagation: exact on trees, of the converged answer elsewhere."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

import pgnn
from pgnn import Factor, MarkovRandomField, Variable
from pgnn.inference.posterior import Posterior
from tests.inference.propagation.test_belief_propagation import EXACT, markov, propagation, tree

STEP = 1e-5


def ring() -> MarkovRandomField:
    """Four variables of three states in a ring with a chord."""
    rng = np.random.default_rng(3)
    xs = [Variable(n, 3) for n in "abcd"]
    scopes = [(0, 1), (1, 2), (2, 3), (3, 0), (0, 2)]
    tables = torch.from_numpy(0.6 * rng.normal(size=(5, 3, 3)))
    return MarkovRandomField(
        [Factor([xs[i], xs[j]], t) for (i, j), t in zip(scopes, tables, strict=True)]
    )


def learning(model: MarkovRandomField) -> list[Tensor]:
    """The parameters, which now want gradients."""
    return [p.requires_grad_(True) for p in model.parameters()]


def log_evidence(found: Posterior) -> Tensor:
    return found.log_evidence.sum()


def beliefs(found: Posterior) -> Tensor:
    weights = torch.from_numpy(np.random.default_rng(5).normal(size=(len(found), 3)))
    parts = [(found[n].probs * w).sum() for n, w in zip(found, weights, strict=True)]
    return torch.stack(parts).sum()


def differences(function: Callable[[Tensor], Tensor], at: Tensor) -> Tensor:
    """Central differences, one number after another."""
    found = torch.zeros_like(at).reshape(-1)
    with torch.no_grad():
        for k in range(at.numel()):
            step = torch.zeros_like(at).reshape(-1)
            step[k] = STEP
            step = step.reshape(at.shape)
            found[k] = (function(at + step) - function(at - step)) / (2 * STEP)
    return found.reshape(at.shape)


SETTINGS = [
    {},
    {"tree_reweighted": True, "num_forests": 4},
    {"temperature": 0.7},
    {"temperature": 2.0, "tree_reweighted": True, "num_forests": 4},
]


@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize("read", [log_evidence, beliefs])
def test_gradients_of_tables_in_loops(settings, read):
    engine = propagation(tolerance=1e-13, max_iterations=5000, **settings)
    model = ring()
    evidence = {"a": torch.tensor([-1, 2, -1]), "c": torch.tensor([-1, -1, 0])}
    (table,) = learning(model)
    (got,) = torch.autograd.grad(read(model.query(evidence=evidence, engine=engine)), table)

    def function(at: Tensor) -> Tensor:
        table.copy_(at)
        return read(model.query(evidence=evidence, engine=engine))

    want = differences(function, table.detach().clone())
    torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize("read", [log_evidence, beliefs])
def test_gradients_of_soft_evidence_in_loops(settings, read):
    engine = propagation(tolerance=1e-13, max_iterations=5000, **settings)
    model = ring()
    soft = torch.from_numpy(np.random.default_rng(1).random((2, 3)) + 0.2)

    def function(at: Tensor) -> Tensor:
        evidence = {"b": at, "d": torch.tensor([1, -1])}
        return read(model.query(evidence=evidence, engine=engine))

    live = soft.clone().requires_grad_()
    (got,) = torch.autograd.grad(function(live), live)
    torch.testing.assert_close(got, differences(function, soft), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("seed", range(5))
def test_gradients_on_trees_are_exact(seed):
    cards, tables = tree(seed, zeros=0.0)
    soft_of = tables[0][0][0]
    start = torch.from_numpy(np.random.default_rng(0).random(cards[soft_of]) + 0.1)
    results = []
    for engine in (propagation(), EXACT):
        model = markov(cards, [(s, t + 0.05) for s, t in tables])
        soft = start.clone().requires_grad_()
        parameters = learning(model)
        found = model.query(evidence={soft_of: soft}, engine=engine)
        weights = torch.arange(1.0, 4.0).double()
        loss = found.log_evidence + sum(
            (found[n].probs * weights[: cards[n]]).sum().square() for n in cards
        )
        results.append(torch.autograd.grad(loss, [*parameters, soft]))
    for got, want in zip(*results, strict=True):
        torch.testing.assert_close(got, want, rtol=1e-8, atol=1e-9)


def test_zeros_and_impossible_rows_have_finite_gradients():
    a, b = Variable("a", 2), Variable("b", 2)
    table = torch.tensor([[0.3, -torch.inf], [0.1, 0.7]]).double()
    other = torch.tensor([[0.3, 0.1], [0.4, 0.0]]).double()
    model = MarkovRandomField([Factor([a, b], table), Factor([b, a], other)])
    parameters = learning(model)
    evidence = {"a": torch.tensor([0, -1, 0]), "b": torch.tensor([-1, -1, 1])}
    found = model.query(evidence=evidence, engine=propagation(), errors="nan")
    assert np.isneginf(float(found.log_evidence[2].detach()))
    gradients = torch.autograd.grad(found.log_evidence[:2].sum(), parameters, retain_graph=True)
    assert all(bool(g.isfinite().all()) for g in gradients)
    # two rows, two factors: expected counts
    assert sum(float(g.sum()) for g in gradients) == pytest.approx(4.0)
    gradients = torch.autograd.grad(found["b"].probs[:2, 1].sum(), parameters)
    assert all(bool(g.isfinite().all()) for g in gradients)


def test_no_grad_and_plain_answers_are_the_same():
    live = ring()
    learning(live)
    plain = ring().query(engine=propagation())
    found = live.query(engine=propagation())
    assert found.log_evidence.requires_grad
    with torch.no_grad():
        silent = live.query(engine=propagation())
    assert not silent.log_evidence.requires_grad
    for other in (found, silent):
        torch.testing.assert_close(other.log_evidence.detach(), plain.log_evidence, rtol=0, atol=0)
        for n in "abcd":
            torch.testing.assert_close(other[n].probs.detach(), plain[n].probs, rtol=0, atol=0)


def test_couplings_of_a_grid_learn_what_marginals_say():
    """Descending on beliefs makes them what was asked for."""
    torch.manual_seed(0)
    model = MarkovRandomField.grid((3, 3), field=torch.zeros(3, 3, dtype=torch.float64))
    wanted = torch.linspace(0.3, 0.7, 9).double().reshape(3, 3)
    parameters = learning(model)
    optimizer = torch.optim.Adam(parameters, lr=0.1)
    losses = []
    for _ in range(100):
        optimizer.zero_grad()
        found = model.query(engine=propagation())
        loss = (found["x"].probs[..., 1] - wanted).square().sum()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 1e-3 * losses[0]
    assert isinstance(model, pgnn.Model)
