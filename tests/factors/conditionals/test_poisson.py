"""Counts as emissions."""

import math

import networkx as nx
import numpy as np
import pytest
import torch
from scipy.stats import poisson

import pgnn
from pgnn.errors import EvidenceError, ModelError
from pgnn.factors import Gamma, Poisson, Tabular, Variable
from tests import oracle

S, X, X2 = Variable("s", 2), Variable("x"), Variable("x", shape=(2,))


def test_density_is_that_of_scipy() -> None:
    rate = np.array([[0.5, 3.0], [7.0, 1e-3]])
    x = np.array([[0.0, 4.0], [12.0, 1.0], [300.0, 0.0]])
    table = Poisson(X2, [S], rate).factor({"x": torch.from_numpy(x)}).log_values
    expected = poisson(rate).logpmf(x[:, None, :]).sum(axis=-1)
    np.testing.assert_allclose(table, expected, rtol=1e-12)


def test_a_rate_of_zero_forbids_counts() -> None:
    p = Poisson(X2, [S], [[0.0, 2.0], [1.0, 0.0]])
    x = torch.tensor([[0.0, 1.0], [3.0, 0.0], [2.0, 2.0], [math.nan, 0.0]])
    table = p.factor({"x": x}).values
    expected = [[2 * math.exp(-2), 0], [0, math.exp(-1) / 6], [0, 0], [math.exp(-2), 1]]
    torch.testing.assert_close(table, torch.tensor(expected, dtype=torch.float64))
    assert p.log_prior(Gamma()).isfinite()
    assert p.distribution({"s": torch.tensor([0])}).sample()[0, 0] == 0


def test_missing_counts_of_a_vector_do_not_count() -> None:
    p = Poisson(X2, [S])
    x = torch.tensor([[2.0, math.nan], [4.0, 9.0], [math.nan, math.nan]])
    p.maximize(p.statistics({"x": x}, torch.tensor([[1.0, 3.0], [1.0, 1.0], [5.0, 5.0]])))
    torch.testing.assert_close(p.rate, torch.tensor([[3.0, 9.0], [2.5, 9.0]]).double())


def test_all_zeros_stop_at_the_floor_or_the_prior() -> None:
    p = Poisson(X, [S], min_rate=0.01)
    statistics = p.statistics({"x": torch.zeros(10)}, torch.ones(10, 2))
    p.maximize(statistics)
    assert p.rate.tolist() == pytest.approx([0.01, 0.01])
    p.maximize(statistics, Gamma(3.0, 5.0))
    assert p.rate.tolist() == pytest.approx([0.2, 0.2])


@pytest.mark.parametrize("bad", [-1.0, 0.5, math.inf])
def test_what_is_no_count_is_refused(bad: float) -> None:
    p = Poisson(X, [S])
    with pytest.raises(EvidenceError, match="Poisson variable 'x' cannot be"):
        p.factor({"x": torch.tensor([1.0, bad])})
    with pytest.raises(EvidenceError, match="Poisson variable 'x' cannot be"):
        p.statistics({"x": torch.tensor([1.0, bad])}, torch.ones(2, 2))


def test_bad_settings_are_refused() -> None:
    with pytest.raises(ModelError, match="rate of 'x' must not be negative"):
        Poisson(X, [S], [1.0, -1.0])
    with pytest.raises(ModelError, match=r"rate of 'x' must have shape \(2, 2\)"):
        Poisson(X2, [S], [1.0, 1.0])
    with pytest.raises(ModelError, match="min_rate must be positive"):
        Poisson(X, min_rate=0.0)
    for bad in (-1.0, math.inf):
        with pytest.raises(ModelError, match="Gamma must be finite"):
            Gamma(bad)


def test_inside_a_network_of_many_sensors() -> None:
    prior, rates = np.array([0.3, 0.7]), [[1.0, 4.0], [2.0, 2.0], [6.0, 0.5]]
    names = ["x", "y", "z"]
    model = pgnn.BayesianNetwork(
        nx.DiGraph([("s", n) for n in names]),
        {"s": Tabular(S, (), prior)}
        | {n: Poisson(Variable(n), [S], r) for n, r in zip(names, rates, strict=True)},
    )
    observed = {"x": 2.0, "y": math.nan, "z": 1.0}
    tables = [(["s"], prior)]
    tables += [
        (["s"], poisson(r).pmf(observed[n]))
        for n, r in zip(names, rates, strict=True)
        if observed[n] == observed[n]
    ]
    joint = oracle.joint({"s": 2}, tables)
    found = model.query("s", observed)["s"].probs
    np.testing.assert_allclose(np.ravel(found), oracle.marginal(joint, ["s"]), rtol=1e-12)
    assert float(model.log_prob(observed)) == pytest.approx(oracle.log_evidence(joint), abs=1e-12)
    draws = model.sample(200, seed=1)
    assert set(draws["z"].unique().tolist()) <= set(map(float, range(30)))
