"""Chains over programs without tables: densities as of Pyro's traces, posteriors as on grids."""

import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine

import pgnn
from pgnn import MCMC, Program
from pgnn.errors import ImpossibleEvidence, Unsupported
from pgnn.inference.continuous.executed_density import ExecutedDensity
from pgnn.inference.continuous.potential_energy import PotentialEnergy
from pgnn.inference.continuous.real_posterior import RealMarginal

ERRORS = 4.5
SHORT = MCMC(chains=1, warmup=5, samples=5, seed=0, progress=False)


def double(x):
    return torch.tensor(x, dtype=torch.float64)


NORMAL = dist.Normal(double(0.0), double(1.0))


def bent():
    x = pyro.sample("x", NORMAL)
    s = pyro.sample("s", dist.Gamma(double(2.0), double(1.0)))
    with pyro.plate("data", 2):
        pyro.sample("y", dist.Normal(x if x > 0 else -2.0 * x, s), obs=double([1.0, 2.0]))


def pyros_density(program, values):
    held = poutine.condition(program, data=values)
    return poutine.trace(held).get_trace().log_prob_sum()


def test_density_and_gradients_are_those_of_pyros_trace():
    model = Program(bent)
    assert "'x'" in model.obstacle
    density = ExecutedDensity(model, [model.variables[n] for n in ("x", "s")], {})
    x = double([0.7, -0.3, 2.0]).requires_grad_()
    s = double([0.5, 1.0, 2.0]).requires_grad_()
    found = density.log_density({"x": x, "s": s})
    expected = torch.stack(
        [pyros_density(bent, {"x": a, "s": b}) for a, b in zip(x, s, strict=True)]
    )
    torch.testing.assert_close(found, expected)
    for one, other in zip(
        torch.autograd.grad(found.sum(), [x, s]),
        torch.autograd.grad(expected.sum(), [x, s]),
        strict=True,
    ):
        torch.testing.assert_close(one, other)
    terms = density.terms({"x": x, "s": s})
    torch.testing.assert_close(sum(terms.values()), found)
    wild = density.log_density({"x": double([math.nan, 1.0]), "s": double([1.0, 1.0])})
    assert wild.isnan().tolist() == [True, False]


def test_chains_find_the_posterior_of_a_grid():
    def program():
        x = pyro.sample("x", NORMAL)
        pyro.sample("y", dist.Normal(x if x > 0 else 0.5 * x, double(1.0)), obs=double(1.0))

    engine = MCMC(chains=2, warmup=40, samples=100, seed=0, progress=False)
    posterior = Program(program).query("x", engine=engine)
    grid = torch.linspace(-6.0, 6.0, 2001, dtype=torch.float64)
    mean = torch.where(grid > 0, grid, 0.5 * grid)
    log_p = NORMAL.log_prob(grid) + dist.Normal(mean, 1.0).log_prob(double(1.0))
    truth = (log_p.softmax(0) * grid).sum()
    marginal = posterior["x"]
    assert isinstance(marginal, RealMarginal)
    assert float((marginal.mean - truth).abs()) < ERRORS * float(marginal.standard_error)


def with_a_switch():
    on = pyro.sample("on", dist.Bernoulli(double(0.3)))
    x = pyro.sample("x", dist.Normal(double(2.0) if on else double(-2.0), double(1.0)))
    pyro.sample("y", dist.Normal(x, double(1.0)), obs=double(0.0))


def test_observed_states_decide_the_branch():
    model = Program(with_a_switch)
    potential = PotentialEnergy(model, {"on": 1})
    found = potential.density.log_density({"x": double([0.5])})
    expected = pyros_density(with_a_switch, {"on": double(1.0), "x": double(0.5)})
    torch.testing.assert_close(found[0], expected)
    engine = MCMC(chains=2, seed=0, progress=False)
    posterior = model.query(None, {"on": 1}, engine=engine)
    assert posterior["on"].probs.tolist() == [0.0, 1.0]
    # the mean is half way between that of x and what was observed of y
    x = posterior["x"]
    assert abs(float(x.mean) - 1.0) < ERRORS * float(x.standard_error)
    draws = model.sample(6, {"on": 1}, engine=engine)
    assert draws["on"].tolist() == [1] * 6
    assert draws["x"].shape == (6,)


def test_supports_are_read_off_the_sites():
    def program():
        w = pyro.sample("w", dist.Dirichlet(torch.ones(3).double()))
        with pyro.plate("rows", 2):
            pyro.sample("p", dist.Beta(double(2.0), double(2.0)))
        pyro.sample("y", dist.Normal(w[0] if w[0] > 0.5 else w[1], double(1.0)), obs=double(1.0))

    potential = PotentialEnergy(Program(program), None)
    values = potential.values(torch.randn(4, potential.coordinates.size).double().numpy())
    torch.testing.assert_close(values["w"].sum(-1), torch.ones(4).double())
    assert bool(((values["p"] > 0) & (values["p"] < 1)).all())
    assert values["p"].shape == (4, 2)


# --- refusals -----------------------------------------------------------------------------------


def test_latent_discrete_sites_are_named():
    with pytest.raises(Unsupported, match="'on' is discrete and latent, and cannot be summed out"):
        Program(with_a_switch).query("x", engine=SHORT)


def test_sites_that_come_and_go_are_named():
    def program():
        x = pyro.sample("x", NORMAL)
        if x > 0:
            pyro.sample("extra", NORMAL)
        pyro.sample("y", NORMAL, obs=double(0.0))

    with pytest.raises(Unsupported, match="'extra' is not in every execution"):
        Program(program).query("x", engine=SHORT)


def test_supports_that_move_are_named():
    def program():
        x = pyro.sample("x", NORMAL)
        pyro.sample("u", dist.Uniform(double(0.0), x.exp() if x > 0 else 1.0 + x.exp()))

    with pytest.raises(Unsupported, match="the support of site 'u' depends on latent sites"):
        Program(program).query("x", engine=SHORT)


def test_impossible_observations_are_named():
    def program():
        x = pyro.sample("x", NORMAL)
        low = double(1.0) if x > 0 else double(2.0)
        pyro.sample("y", dist.Uniform(double(0.0), low), obs=double(5.0))

    with pytest.raises(ImpossibleEvidence, match="'y'"):
        Program(program).query("x", engine=SHORT)


def test_random_state_is_left_alone():
    before = torch.random.get_rng_state()
    engine = MCMC(chains=1, warmup=5, samples=5, seed=1, progress=False)
    with pytest.warns(pgnn.NotConverged):
        Program(bent).query("x", engine=engine)
    assert torch.equal(before, torch.random.get_rng_state())
    assert not [*pyro.get_param_store().keys()]
