"""Zeros and ones as emissions."""

import math

import networkx as nx
import numpy as np
import pytest
import torch
from scipy.stats import bernoulli

import pgnn
from pgnn.errors import EvidenceError, ModelError, Unsupported
from pgnn.factors import Bernoulli, Beta, Tabular, Variable

S, X = Variable("s", 2), Variable("x")
IMAGE, BITS = Variable("x", shape=(2, 2)), Variable("x", 2, shape=(2, 2))
PROBS = np.array([[[0.1, 0.5], [0.9, 0.3]], [[0.7, 0.2], [0.5, 1e-9]]])


@pytest.mark.parametrize("child", [IMAGE, BITS])
def test_density_is_that_of_scipy(child: Variable) -> None:
    x = np.random.default_rng(0).integers(0, 2, (20, 2, 2))
    table = Bernoulli(child, [S], PROBS).factor({"x": torch.from_numpy(x)}).log_values
    expected = bernoulli(PROBS).logpmf(x[:, None]).sum(axis=(-1, -2))
    np.testing.assert_allclose(table, expected, rtol=1e-9)


@pytest.mark.parametrize("child", [IMAGE, BITS])
def test_missing_bits_are_left_out(child: Variable) -> None:
    x = torch.tensor([[[1, -1], [-1, -1]], [[0, 1], [-1, -1]]])
    if not child.is_discrete:
        x = x.double().masked_fill(x < 0, torch.nan)
    p = Bernoulli(child, [S], PROBS)
    expected = torch.tensor([[0.1, 0.7], [0.9 * 0.5, 0.3 * 0.2]])
    torch.testing.assert_close(p.factor({"x": x}).values, expected.double())
    p.requires_grad_()
    p.maximize(p.statistics({"x": x}, torch.tensor([[1.0, 3.0], [1.0, 1.0]])))
    torch.testing.assert_close(p.probs[:, 0, 0].detach(), torch.tensor([0.5, 0.75]).double())
    assert p.probs[:, 0, 1].tolist() == pytest.approx([1 - 1e-6, 1 - 1e-6])
    torch.testing.assert_close(p.probs[:, 1].detach(), torch.from_numpy(PROBS[:, 1]))


def test_certain_bits_forbid_the_other_value() -> None:
    p = Bernoulli(Variable("x", shape=(2,)), [S], [[0.0, 0.5], [1.0, 0.5]])
    x = torch.tensor([[0.0, 1.0], [1.0, 1.0], [math.nan, 0.0]])
    expected = [[0.5, 0.0], [0.0, 0.5], [0.5, 0.5]]
    torch.testing.assert_close(p.factor({"x": x}).values, torch.tensor(expected).double())
    draws = p.distribution({"s": torch.tensor([0, 1])}).sample((50,))
    assert draws[:, 0, 0].eq(0).all()
    assert draws[:, 1, 0].eq(1).all()
    p.requires_grad_()
    p.factor({"x": torch.tensor([[0.0, 1.0]])}).log_values[0, 0].backward()
    assert p.natural.grad.isfinite().all()


def test_floors_and_the_prior() -> None:
    p = Bernoulli(X, [S], min_prob=0.01)
    statistics = p.statistics({"x": torch.ones(8)}, torch.ones(8, 2))
    p.maximize(statistics)
    assert p.probs.tolist() == pytest.approx([0.99, 0.99])
    p.maximize(statistics, Beta(1.0, 1.0))
    assert p.probs.tolist() == pytest.approx([0.9, 0.9])


def test_a_single_state_has_a_table_too() -> None:
    p = Bernoulli(Variable("x", 2), [S], [0.25, 0.5])
    expected = torch.tensor([[0.75, 0.25], [0.5, 0.5]]).double()
    torch.testing.assert_close(p.factor().values, expected)
    torch.testing.assert_close(p.factor({"x": torch.tensor([1])}).values, expected[:, 1][None])
    model = pgnn.BayesianNetwork(
        nx.DiGraph([("s", "x")]), {"s": Tabular(S, (), [0.5, 0.5]), "x": p}
    )
    assert model.query("s", {"x": 1})["s"].probs.ravel().tolist() == pytest.approx([1 / 3, 2 / 3])
    assert model.query("x")["x"].probs.ravel().tolist() == pytest.approx([0.625, 0.375])
    with pytest.raises(Unsupported, match="array"):
        Bernoulli(BITS, [S]).factor()


def test_what_is_no_bit_is_refused() -> None:
    for child in (X, Variable("x", 2)):
        with pytest.raises(EvidenceError, match="Bernoulli variable 'x' cannot be 2"):
            Bernoulli(child, [S]).factor({"x": torch.tensor([0, 2])})
    with pytest.raises(EvidenceError, match="must be observed with shape"):
        Bernoulli(BITS, [S]).factor({"x": torch.tensor([0, 1])})


def test_bad_settings_are_refused() -> None:
    with pytest.raises(ModelError, match="probs of 'x' must be between 0 and 1"):
        Bernoulli(X, [S], [0.5, 1.5])
    with pytest.raises(ModelError, match="needs a real child"):
        Bernoulli(Variable("x", 3), [S])
    with pytest.raises(ModelError, match="min_prob"):
        Bernoulli(X, [S], min_prob=0.5)
    with pytest.raises(ModelError, match="Beta must be finite"):
        Beta(ones=-1.0)
