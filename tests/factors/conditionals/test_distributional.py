"""Any torch distribution as a conditional."""

import functools
import math

import networkx as nx
import numpy as np
import pytest
import torch
from scipy.stats import gamma, t
from torch.distributions import (
    Beta,
    Dirichlet,
    Distribution,
    Gamma,
    LogNormal,
    MultivariateNormal,
    RelaxedBernoulli,
    StudentT,
    Uniform,
    VonMises,
)

import pgnn
from pgnn.errors import ModelError, Unsupported
from pgnn.factors import Distributional, ExponentialFamily, Tabular, Variable
from tests import oracle

S, X, X3 = Variable("s", 2), Variable("x"), Variable("x", shape=(3,))


def test_density_is_that_of_scipy() -> None:
    p = Distributional(X, [S], StudentT, df=[3.0, 5.0], loc=[0.0, 1.0], scale=[1.0, 0.5])
    x = torch.tensor([0.3, -2.0, 8.0], dtype=torch.float64)
    expected = t([3.0, 5.0], [0.0, 1.0], [1.0, 0.5]).logpdf(x.numpy()[:, None])
    np.testing.assert_allclose(p.factor({"x": x}).log_values.detach(), expected, rtol=1e-10)
    at = p.factor({"x": x, "s": torch.tensor([1, 0, 1])}).log_values.detach()
    np.testing.assert_allclose(at, expected[[0, 1, 2], [1, 0, 1]], rtol=1e-10)


def test_dimensions_beyond_the_event_are_independent() -> None:
    p = Distributional(X3, [S], LogNormal, loc=np.zeros((2, 3)), scale=np.ones((2, 3)))
    x = torch.rand(4, 3, dtype=torch.float64)
    expected = LogNormal(0.0, 1.0).log_prob(x).sum(-1, keepdim=True).expand(4, 2)
    torch.testing.assert_close(p.factor({"x": x}).log_values.detach(), expected)
    q = Distributional(X3, [S], Dirichlet, concentration=np.ones((2, 3)))
    on = x / x.sum(-1, keepdim=True)
    torch.testing.assert_close(
        q.factor({"x": on}).values.detach(), torch.full((4, 2), 2.0).double()
    )


def test_gradient_steps_keep_the_constraints_and_climb() -> None:
    p = Distributional(X, [S], Beta, concentration1=[1.0, 2.0], concentration0=[1.0, 1.0])
    x = torch.rand(50, generator=torch.Generator().manual_seed(0), dtype=torch.float64) ** 3
    optimizer = torch.optim.Adam(p.parameters(), 0.5)
    losses = []
    for _ in range(40):
        optimizer.zero_grad()
        loss = -p.factor({"x": x}).log_values.logsumexp(-1).sum()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        assert all((v > 0).all() for v in p.values.values())
    assert losses[-1] < losses[0] - 1


def test_matrices_and_callables() -> None:
    scale = np.stack([np.eye(3), 2 * np.eye(3)])
    p = Distributional(X3, [S], MultivariateNormal, loc=np.zeros((2, 3)), scale_tril=scale)
    x = torch.zeros(1, 3, dtype=torch.float64)
    expected = -1.5 * math.log(2 * math.pi) - np.array([[0.0, 3 * math.log(2)]])
    np.testing.assert_allclose(p.factor({"x": x}).log_values.detach(), expected, atol=1e-12)

    def around(centre: torch.Tensor) -> Distribution:
        return Uniform(centre - 1.0, centre + 1.0)

    q = Distributional(X, [S], around, centre=[0.0, 5.0])
    assert q.factor({"x": torch.tensor([0.5])}).values.tolist() == [[0.5, 0.0]]


def test_rows_that_were_not_observed() -> None:
    p = Distributional(X3, [S], Gamma, concentration=np.ones((2, 3)), rate=np.ones((2, 3)))
    x = torch.ones(3, 3, dtype=torch.float64)
    x[1] = torch.nan
    table = p.factor({"x": x}).log_values
    assert table[1].tolist() == [0.0, 0.0]
    assert table[0].tolist() == table[2].tolist() == pytest.approx([-3.0, -3.0])
    assert p.factor({"x": x[1:2]}).log_values.tolist() == [[0.0, 0.0]]
    table.sum().backward()
    assert all(q.grad.isfinite().all() for q in p.parameters())
    x[0, 0] = torch.nan
    with pytest.raises(Unsupported, match="partially observed"):
        p.factor({"x": x})
    assert p.factor({"x": x[:0]}).log_values.shape == (0, 2)


def test_there_is_no_closed_form() -> None:
    p = Distributional(X, [S], VonMises, loc=[0.0, 1.0], concentration=[1.0, 2.0])
    assert not isinstance(p, ExponentialFamily)
    with pytest.raises(Unsupported, match="gradient"):
        p.statistics({"x": torch.zeros(1)}, torch.ones(1, 2))


def test_values_outside_of_the_support_have_density_zero() -> None:
    p = Distributional(X, [S], Gamma, concentration=[1.0, 2.0], rate=[1.0, 1.0])
    state = torch.get_rng_state()
    table = p.factor({"x": torch.tensor([-1.0, 1.0])}).log_values
    assert torch.equal(state, torch.get_rng_state())
    assert table[0].isneginf().all()
    table[1].sum().backward()
    assert all(q.grad.isfinite().all() for q in p.parameters())
    alone = Distributional(X, [], Gamma, concentration=2.0, rate=1.0)
    assert alone.factor({"x": torch.tensor([-1.0, 1.0])}).values.tolist() == pytest.approx(
        [0.0, math.exp(-1.0)]
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"make": Gamma, "concentration": [1.0, 2.0], "rate": [1.0, -1.0]}, "must satisfy"),
        ({"make": Gamma, "concentration": [1.0, 2.0], "rate": [1.0, 0.0]}, "must satisfy"),
        ({"make": Gamma, "concentration": [1.0, 2.0, 3.0], "rate": [1.0, 1.0]}, "axes"),
        ({"make": RelaxedBernoulli, "probs": [0.5, 0.5]}, "needs 'temperature'"),
        ({"make": Uniform, "low": [0.0, 0.0], "high": [1.0, 1.0]}, "depends on others"),
        ({"make": Dirichlet, "concentration": np.ones((2, 3))}, "distribution of vectors"),
        ({"make": Gamma, "concentration": np.ones((2, 3)), "rate": np.ones((2, 3))}, "event shape"),
    ],
)
def test_bad_parameters_are_refused(arguments: dict, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        Distributional(X, [S], **arguments)


def test_other_variables_are_refused() -> None:
    with pytest.raises(ModelError, match="single discrete parents"):
        Distributional(X, [Variable("u", 2, shape=(3,))], Gamma)
    with pytest.raises(ModelError, match="real child of known shape"):
        Distributional(Variable("x", 2), [S], Gamma)


def test_inside_a_network() -> None:
    prior = np.array([0.3, 0.7])
    shape, rate = np.array([1.0, 3.0]), np.array([2.0, 0.5])
    p = Distributional(X, [S], Gamma, concentration=shape, rate=rate)
    model = pgnn.BayesianNetwork(nx.DiGraph([("s", "x")]), {"s": Tabular(S, (), prior), "x": p})
    x = np.array([0.4, np.nan, 5.0])
    found = model.query("s", {"x": x})["s"].probs.detach()
    for n in range(3):
        density = np.ones(2) if np.isnan(x[n]) else gamma(shape, scale=1 / rate).pdf(x[n])
        joint = oracle.joint({"s": 2}, [(["s"], prior), (["s"], density)])
        np.testing.assert_allclose(found[n], oracle.marginal(joint, ["s"]), rtol=1e-9)
    assert (model.sample(50, seed=0)["x"] > 0).all()


@pytest.mark.parametrize(
    "make",
    [
        lambda probs: torch.distributions.Binomial(10, probs=probs),
        functools.partial(torch.distributions.Binomial, 10),
    ],
)
def test_a_callable_keeps_the_constraints_of_what_it_makes(make):
    s, x = Variable("s", 2), Variable("x")
    conditional = Distributional(x, [s], make, probs=[0.3, 0.6])
    assert conditional.constraints["probs"] is torch.distributions.constraints.unit_interval
    model = pgnn.BayesianNetwork(
        [("s", "x")], {"s": pgnn.Tabular(s, (), [0.5, 0.5]), "x": conditional}
    )
    rows = {"s": [0, 0, 1, 1], "x": torch.tensor([1.0, 2.0, 7.0, 9.0])}
    model.fit(rows, learner=pgnn.Gradient(), progress=False)
    found = conditional.values["probs"].detach()
    torch.testing.assert_close(found, torch.tensor([0.15, 0.8]).double(), rtol=1e-3, atol=1e-3)


def test_a_parameter_that_was_given_as_its_initial_value_was_given(caplog):
    kind, x = torch.distributions.Exponential, torch.tensor([1.0, 2.0])
    given = Distributional(X, [], kind, rate=1.0)
    found = pgnn.BayesianNetwork([], {"x": given}).log_prob({"x": x})
    torch.testing.assert_close(found.detach(), -x.double())
    assert not caplog.records
    pgnn.BayesianNetwork([], {"x": Distributional(X, [], kind)}).log_prob({"x": x})
    assert "neither given nor fitted" in caplog.text


def test_parameters_that_are_not_given_start_at_the_data_beside_given_ones():
    conditional = Distributional(X, [], torch.distributions.Normal, loc=5.0)
    rows = torch.tensor([3000.0, 5000.0, 7000.0], dtype=torch.float64)
    conditional.start_from({"x": rows}, torch.ones(3))
    assert float(conditional.values["loc"].detach()) == 5.0
    assert float(conditional.values["scale"].detach()) == pytest.approx(1633, rel=1e-3)
