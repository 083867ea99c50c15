"""What a program tells about its sites, its guide and densities."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch.distributions import constraints

import pgnn
from pgnn import Program
from pgnn.errors import EvidenceError, Unsupported
from pgnn.inference.continuous.densities import log_density


def double(x):
    return torch.tensor(x, dtype=torch.float64)


def mixture(data):
    weights = pyro.sample("weights", dist.Dirichlet(torch.ones(3).double()))
    scale = pyro.sample("scale", dist.Gamma(double(2.0), double(1.0)))
    shift = pyro.sample("shift", dist.Uniform(-scale, scale))
    with pyro.plate("groups", 2, dim=-2), pyro.plate("data", len(data), dim=-1):
        z = pyro.sample("z", dist.Categorical(weights))
        pyro.sample("x", dist.Normal(z.double() + shift, scale), obs=data)


def guide(data):
    del data
    pyro.sample("weights", dist.Dirichlet(torch.ones(3).double()))
    pyro.sample("scale", dist.Gamma(double(2.0), double(1.0)))
    pyro.sample("shift", dist.Normal(double(0.0), double(0.1)))


def test_sites():
    program = Program(mixture, guide, args=(double([0.1, 0.2, 0.3]),))
    assert list(program.sites) == ["weights", "scale", "shift", "z", "x"]
    z, x = program.sites["z"], program.sites["x"]
    assert (z.parents, dict(z.plates), z.observed) == (
        ("weights",),
        {"groups": 2, "data": 3},
        False,
    )
    assert z.variable == program.variables["z"] == pgnn.Variable("z", 3, (2, 3))
    assert (x.parents, x.observed, x.variable) == (("scale", "shift", "z"), True, None)
    assert program.sites["scale"].plates == {}
    with pytest.raises(TypeError):
        program.sites["z"].plates["data"] = 4


def test_sites_of_a_graph_have_its_variables():
    model = pgnn.BayesianNetwork([(("a", 0), "b")], {("a", 0): [0.5, 0.5], "b": [[1, 0], [0, 1]]})
    program = Program(model.program())
    assert program.sites["('a', 0)"].variable == model.variables["a", 0]
    assert program.sites["b"].parents == ("('a', 0)",)


def test_supports_of_sites():
    program = Program(mixture, guide, args=(double([0.1, 0.2, 0.3]),))
    assert program.support("weights") is constraints.simplex
    assert isinstance(program.support("scale"), type(constraints.nonnegative))
    interval, scale = program.support("shift"), program.support("z")
    assert interval.lower_bound == -interval.upper_bound
    assert type(interval.upper_bound) is torch.Tensor
    assert (scale.lower_bound, scale.upper_bound) == (0, 2)
    with pytest.raises(EvidenceError, match="no site 'skale'; did you mean 'scale'"):
        program.support("skale")


def test_sites_of_control_flow():
    def branching():
        if pyro.sample("x", dist.Bernoulli(double(0.3))):
            pyro.sample("y", dist.Normal(double(0.0), double(1.0)))

    program = Program(branching)
    assert list(program.sites) == ["x", "y"]
    assert program.sites["y"].variable == pgnn.Variable("y")


def test_guides_are_given_with_their_arguments():
    program = Program(mixture, guide, args=(double([0.1]),))
    with torch.random.fork_rng(devices=[]):
        nodes = pyro.poutine.trace(program.guide).get_trace().nodes
    assert {"weights", "scale", "shift"} <= set(nodes)
    assert Program(mixture, args=(double([0.1]),)).guide is None


def regression():
    w, y = pgnn.Variable("w"), pgnn.Variable("y", 2)
    net = pgnn.Softmax(y, [], inputs={"u": 1})
    with torch.no_grad():
        for p in net.parameters():
            p.copy_(torch.linspace(-1.0, 1.0, p.numel()).reshape(p.shape))
    return pgnn.BayesianNetwork([], {"w": pgnn.Gaussian(w, mean=0.0, covariance=1.0), "y": net})


def test_log_densities_take_inputs():
    model = regression()
    u, w = double([[0.5], [-1.0], [2.0]]), double([0.3, 0.1, -0.2])
    observed = {"y": torch.tensor([0, 1, 1])}
    prior = dist.Normal(double(0.0), double(1.0)).log_prob(w)
    found = log_density(model, {"w": w}, observed, {"u": u})
    torch.testing.assert_close(found, prior + model.log_prob(observed, inputs={"u": u}))
    alike = log_density(model, {"w": w}, {"y": 1}, {"u": u[:1]})
    once = model.log_prob({"y": torch.tensor([1])}, inputs={"u": u[:1]})
    torch.testing.assert_close(alike, prior + once)
    with pytest.raises(EvidenceError, match="different numbers of rows"):
        log_density(model, {"w": w}, None, {"u": u[:2]})


def test_programs_have_no_inputs():
    program = Program(mixture, args=(double([0.1]),))
    reals = {"weights": double([[0.2, 0.3, 0.5]]), "scale": double([1.0]), "shift": double([0.0])}
    with pytest.raises(Unsupported, match="a program has no inputs"):
        program.log_density(reals, inputs={"u": double([1.0])})
