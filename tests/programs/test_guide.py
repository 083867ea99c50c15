"""Guides that Pyro programs bring: automatic ones and hand-written ones, many at once."""

from __future__ import annotations

import dataclasses
import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import Trace_ELBO
from pyro.infer.autoguide import (
    AutoDelta,
    AutoLowRankMultivariateNormal,
    AutoMultivariateNormal,
    AutoNormal,
)

import pgnn
from pgnn.errors import ModelError
from pgnn.programs.guide import GuideExecutions

DATA = torch.tensor([0.3, 1.2, -0.4, 2.0]).double()


def double(x):
    return torch.tensor(x, dtype=torch.float64)


@pytest.fixture(autouse=True)
def nothing_global():
    """Neither random state nor Pyro's parameters are touched."""
    before = torch.random.get_rng_state()
    yield
    assert torch.equal(before, torch.random.get_rng_state())
    assert not [*pyro.get_param_store().keys()]


def rows():
    """A scale, two means in a plate, a number for each row."""
    scale = pyro.sample("scale", dist.Gamma(double(2.0), double(2.0)))
    with pyro.plate("parts", 2):
        mean = pyro.sample("mean", dist.Normal(double([-1.0, 1.0]), 1.0))
    share = pyro.sample("share", dist.Dirichlet(torch.ones(3).double()))
    with pyro.plate("rows", 4):
        own = pyro.sample("own", dist.Normal(double(0.0), 1.0))
        pyro.sample(
            "obs", dist.Normal(mean[..., :1] * own + mean[..., 1:] + share[..., 0], scale), obs=DATA
        )


def written():
    """By hand, with the plates of the program; the rows depend on what was drawn before."""
    loc = pyro.param("loc", double([-0.5, 1.5]))
    spread = pyro.param("spread", double(0.6), constraint=dist.constraints.positive)
    scale = pyro.sample("scale", dist.LogNormal(double(0.0), spread))
    with pyro.plate("parts", 2):
        pyro.sample("mean", dist.Normal(loc, 0.3))
    pyro.sample("share", dist.Dirichlet(double([1.0, 2.0, 3.0])))
    with pyro.plate("rows", 4):
        pyro.sample("own", dist.Normal(0.1 * scale, spread))


def matrix():
    """Multiplies by a matrix in a way that knows of no executions side by side."""
    scale = pyro.sample("scale", dist.LogNormal(double(0.0), 0.5))
    with pyro.plate("parts", 2):
        mean = pyro.sample("mean", dist.Normal(double([-0.5, 1.5]), 0.3))
    pyro.sample("share", dist.Dirichlet(double([1.0, 2.0, 3.0])))
    with pyro.plate("rows", 4):
        pyro.sample("own", dist.Normal(torch.ones(4, 2).double() @ mean, scale))


def silent():
    """As ``matrix``, but nothing fails: it is wrong side by side."""
    scale = pyro.sample("scale", dist.LogNormal(double(0.0), 0.5))
    with pyro.plate("parts", 2):
        mean = pyro.sample("mean", dist.Normal(double([-0.5, 1.5]), 0.3))
    pyro.sample("share", dist.Dirichlet(double([1.0, 2.0, 3.0])))
    with pyro.plate("rows", 4):
        pyro.sample("own", dist.Normal(mean.sum(), scale))


def automatic(kind):
    return lambda: kind(rows)


GUIDES = {
    "normal": (automatic(AutoNormal), True),
    "low rank": (automatic(AutoLowRankMultivariateNormal), True),
    "full rank": (automatic(AutoMultivariateNormal), True),
    "by hand": (lambda: written, True),
    "one by one": (lambda: matrix, False),
    "wrong together": (lambda: silent, False),
}


@pytest.mark.parametrize("case", GUIDES)
def test_many_at_once_are_as_one_by_one(case):
    make, together = GUIDES[case]
    executions = pgnn.Program(rows, make()).guide_executions()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        runs = executions.run(600)
        apart = GuideExecutions(executions.source)
        apart.together = False
        single = apart.run(300)
    assert executions.together is together
    assert runs.reparameterised
    shapes = {"scale": (), "mean": (2,), "share": (3,), "own": (4,)}
    assert {n: tuple(x.shape) for n, x in runs.values.items()} == {
        n: (600, *s) for n, s in shapes.items()
    }
    assert runs.log_q.shape == (600,)
    pairs = [(runs.log_q, single.log_q), *((runs.values[n], single.values[n]) for n in shapes)]
    for a, b in pairs:
        error = (a.var(0) / 600 + b.var(0) / 300).sqrt()
        assert bool(((a.mean(0) - b.mean(0)).abs() < 4.5 * error).all())


def numbers(case) -> tuple[float, float, float]:
    """Bound and standard error of ours, and the bound by Pyro's Trace_ELBO."""
    make, _ = GUIDES[case]
    guide = make()
    program = pgnn.Program(rows, guide)
    engine = pgnn.Variational(num_samples=1000, max_iterations=0, seed=0)
    found = program.query(engine=engine)
    with torch.random.fork_rng(devices=[]), pyro.get_param_store().scope():
        pyro.set_rng_seed(0)
        elbo = Trace_ELBO(num_particles=1000, vectorize_particles=True, max_plate_nesting=1)
        theirs = -elbo.loss(rows, guide)
    return float(found.log_evidence), float(found.diagnostics["standard_error"]), theirs


@pytest.mark.filterwarnings("ignore::pgnn.NotConverged")  # the one by hand is far off, as it says
@pytest.mark.parametrize("case", ["normal", "low rank", "by hand"])
def test_bounds_are_those_of_pyro(case):
    ours, error, theirs = numbers(case)
    assert abs(ours - theirs) < 4.5 * error * math.sqrt(2)


@pytest.mark.parametrize("kind", [AutoNormal, AutoLowRankMultivariateNormal])
def test_automatic_guides_learn(kind):
    """A conjugate posterior: of precision 1 + 4, that of the mean of four numbers."""

    def model():
        mean = pyro.sample("mean", dist.Normal(double(0.0), 1.0))
        with pyro.plate("rows", 4):
            pyro.sample("obs", dist.Normal(mean, 1.0), obs=DATA)

    program = pgnn.Program(model, kind(model))
    learner = pgnn.Variational(
        objective=pgnn.Elbo(20),
        optimizer=lambda p: torch.optim.Adam(p, lr=0.1),
        scheduler=lambda o: torch.optim.lr_scheduler.ExponentialLR(o, 0.98),
        max_iterations=200,
        tolerance=0.0,
        seed=0,
        progress=False,
    )
    program.fit(learner=learner, progress=False)
    found = program.query(engine=pgnn.Variational(max_iterations=0, num_samples=2000, seed=1))
    sd = 5**-0.5
    # the noise of 2000 draws, and of the last steps
    assert abs(float(found["mean"].mean) - float(DATA.sum()) / 5) < 4 * sd / math.sqrt(2000) + 0.03
    assert abs(float(found["mean"].std) / sd - 1) < 4 / math.sqrt(4000) + 0.05
    covariance = torch.eye(4).double() + 1.0
    truth = dist.MultivariateNormal(torch.zeros(4).double(), covariance).log_prob(DATA)
    assert float(truth - found.log_evidence) + 4 * float(found.diagnostics["standard_error"]) > 0
    assert float(truth - found.log_evidence) < 0.05
    assert found.kind == "lower bound"


def test_a_point_mass_is_no_bound():
    program = pgnn.Program(rows, AutoDelta(rows))
    found = program.query(engine=pgnn.Variational(max_iterations=0, num_samples=2, seed=0))
    assert found.kind == "estimate"
    assert bool(found.log_evidence.isnan())


# --- asked without a fit, or about evidence -------------------------------------------------------


def normal_of(y=None):
    def model():
        m = pyro.sample("m", dist.Normal(double(0.0), 1.0))
        pyro.sample("y", dist.Normal(m, 1.0), obs=y)

    return model


def own_guide():
    loc = pyro.param("loc", double(-9.0))
    scale = pyro.param("scale", double(0.3), constraint=dist.constraints.positive)
    pyro.sample("m", dist.Normal(loc, scale))


ENGINE = pgnn.Variational(
    seed=0,
    optimizer=lambda p: torch.optim.Adam(p, lr=0.05),
    objective=pgnn.Elbo(10, path_only=True),
    progress=False,
)
TRUTH = float(dist.Normal(0.0, 2**0.5).log_prob(torch.tensor(2.0)))


@pytest.mark.parametrize(
    ("model", "evidence"), [(normal_of(double(2.0)), None), (normal_of(), {"y": 2.0})]
)
def test_questions_train_the_guide_for_their_answer(model, evidence):
    program = pgnn.Program(model, own_guide)
    before = {n: p.clone() for n, p in program.state_dict().items()}
    found = program.query("m", evidence, engine=ENGINE)
    assert float(found["m"].mean) == pytest.approx(1.0, abs=0.1)
    assert float(found.log_evidence) == pytest.approx(TRUTH, abs=0.05)
    assert found.diagnostics["iterations"] > 0
    for name, p in program.state_dict().items():
        assert torch.equal(p, before[name])
    as_it_is = dataclasses.replace(ENGINE, max_iterations=0)
    with pytest.warns(pgnn.NotConverged, match="draws are equivalent to"):
        again = program.query("m", evidence, engine=dataclasses.replace(as_it_is, num_samples=200))
    assert float(again["m"].mean) == pytest.approx(-9.0, abs=0.1)


def test_a_failed_question_leaves_the_guide_as_it_was():
    program = pgnn.Program(normal_of(), own_guide)
    before = {n: p.clone() for n, p in program.state_dict().items()}

    def broken(parameters):
        parameters = list(parameters)
        with torch.no_grad():
            parameters[0].fill_(7.0)
        raise RuntimeError

    with pytest.raises(RuntimeError):
        program.query("m", {"y": 2.0}, engine=dataclasses.replace(ENGINE, optimizer=broken))
    for name, p in program.state_dict().items():
        assert torch.equal(p, before[name])


def test_parameters_of_the_model_stay_in_a_question():
    def model():
        shift = pyro.param("shift", double(1.0))
        m = pyro.sample("m", dist.Normal(shift, 1.0))
        pyro.sample("y", dist.Normal(m, 1.0), obs=double(2.0))

    found = pgnn.Program(model, own_guide).query("m", engine=ENGINE)
    expected = float(dist.Normal(1.0, 2**0.5).log_prob(torch.tensor(2.0)))
    assert float(found.log_evidence) == pytest.approx(expected, abs=0.05)


def test_sites_that_the_guide_misses_are_named_when_asked():
    def model():
        x = pyro.sample("x", dist.Normal(double(0.0), 1.0))
        m = pyro.sample("m", dist.Normal(x, 1.0))
        pyro.sample("y", dist.Normal(m, 1.0))

    program = pgnn.Program(model, own_guide)
    with pytest.raises(ModelError, match="the guide has no site 'x'"):
        program.query("m", {"y": 2.0}, engine=ENGINE)
    found = program.query("m", {"x": 0.0, "y": 2.0}, engine=ENGINE)
    expected = TRUTH + float(dist.Normal(0.0, 1.0).log_prob(torch.tensor(0.0)))
    assert float(found.log_evidence) == pytest.approx(expected, abs=0.05)
