"""MCMC against closed forms, grids, a recursive twin, and its refusals."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.distributions import (
    Beta,
    Dirichlet,
    Distribution,
    Gamma,
    HalfNormal,
    Independent,
    Normal,
    Uniform,
)

import pgnn
from pgnn.errors import EvidenceError, ImpossibleEvidence, ModelError, NotConverged, Unsupported
from pgnn.factors.conditionals.neural import ByName
from pgnn.inference.continuous.potential_energy import PotentialEnergy
from pgnn.inference.continuous.real_posterior import RealMarginal, RealPosterior
from pgnn.inference.rank_diagnostics import (
    rank_effective_sample_size,
    rank_r_hat,
    tail_effective_sample_size,
)
from pgnn.tape.replay import recorded

# a figure of a few tens of them passes a bound of 4.5 standard errors but once in 10,000 runs
ERRORS = 4.5


class Made(nn.Module):
    """A distribution from the parents' values."""

    def __init__(self, make: Callable[[Mapping[str, Tensor]], Distribution]) -> None:
        super().__init__()
        self.make = make

    def forward(self, given: Mapping[str, Tensor]) -> Distribution:
        return self.make(given)


def neural(child, parents, make):
    return pgnn.Neural(child, parents, Made(make), features=ByName())


def engine(**settings) -> pgnn.MCMC:
    return pgnn.MCMC(**{"seed": 0, "progress": False, "warmup": 200, "samples": 250, **settings})


def check_mean(draws: Tensor, truth: Tensor | float) -> None:
    """Within 4.5 Monte Carlo standard errors, themselves estimated from the chains."""
    marginal = RealMarginal(draws)
    error = (marginal.mean - truth).abs()
    assert bool((error < ERRORS * marginal.standard_error).all()), (marginal.mean, truth)


def check_moments(draws: Tensor, mean: Tensor | float, variance: Tensor | float) -> None:
    check_mean(draws, mean)
    check_mean((draws - mean) ** 2, variance)


# --- closed forms ------------------------------------------------------------------------------


def test_conjugate_normal():
    mean, y = pgnn.Variable("mean"), pgnn.Variable("y", shape=(5,))
    model = pgnn.BayesianNetwork(
        [("mean", "y")],
        {
            "mean": pgnn.Gaussian(mean, mean=1.0, covariance=4.0),
            "y": neural(
                y, [mean], lambda v: Independent(Normal(v["mean"][:, None].expand(-1, 5), 2.0), 1)
            ),
        },
    )
    observed = torch.tensor([3.0, 5.0, -1.0, 2.0, 4.0]).double()
    posterior = model.query("mean", {"y": observed}, engine=engine())
    precision = 1 / 4 + 5 / 4
    check_moments(
        posterior["mean"].samples, (1 / 4 + float(observed.sum()) / 4) / precision, 1 / precision
    )
    told = posterior.diagnostics
    assert told["converged"]
    assert told["compiled"]
    assert told["r_hat"]["mean"] < 1.02


def test_constrained_variables():
    v = {n: pgnn.Variable(n, shape=s) for n, s in [("x", ()), ("g", ()), ("b", ()), ("d", (3,))]}
    D = pgnn.Distributional
    model = pgnn.BayesianNetwork(
        [],
        {
            "x": D(v["x"], [], HalfNormal, scale=2.0),
            "g": D(v["g"], [], Gamma, concentration=3.0, rate=2.0),
            "b": D(v["b"], [], Beta, concentration1=2.0, concentration0=3.0),
            "d": D(v["d"], [], Dirichlet, concentration=[1.0, 2.0, 3.0]),
        },
    )
    posterior = model.query(engine=engine())
    for name, dist in {
        "x": HalfNormal(2.0),
        "g": Gamma(3.0, 2.0),
        "b": Beta(2.0, 3.0),
        "d": Dirichlet(torch.tensor([1.0, 2.0, 3.0])),
    }.items():
        check_moments(posterior[name].samples, dist.mean, dist.variance)
        assert bool(dist.support.check(posterior[name].draws).all())
    assert set(posterior) == {"x", "g", "b", "d"}
    assert posterior.summary().shape == (6, 7)


def test_support_depends_on_a_parent():
    """A uniform of random width: the mean of x is a quarter of the width's twice mean."""
    width, x = pgnn.Variable("width"), pgnn.Variable("x")
    model = pgnn.BayesianNetwork(
        [("width", "x")],
        {
            "width": pgnn.Distributional(width, [], Gamma, concentration=4.0, rate=2.0),
            "x": neural(x, [width], lambda v: Uniform(torch.zeros_like(v["width"]), v["width"])),
        },
    )
    posterior = model.query(engine=engine())
    check_mean(posterior["x"].samples, 1.0)
    # E[width^2] / 3 = (2^2 + 1) / 3
    check_mean(posterior["x"].samples ** 2, 5 / 3)
    assert bool((posterior["x"].draws < posterior["width"].draws).all())


def test_linear_gaussian_chain_equals_conditioning():
    names = ["a", "b", "c", "d"]
    v = {n: pgnn.Variable(n) for n in names}
    model = pgnn.BayesianNetwork(
        [("a", "b"), ("b", "c"), ("a", "d"), ("c", "d")],
        {
            "a": pgnn.Gaussian(v["a"], mean=1.0, covariance=2.0),
            "b": pgnn.LinearGaussian(v["b"], [v["a"]], [0.5], 1.0, 1.0),
            "c": pgnn.LinearGaussian(v["c"], [v["b"]], [-1.5], 0.0, 0.5),
            "d": pgnn.LinearGaussian(v["d"], [v["a"], v["c"]], [1.0, 1.0], 2.0, 0.25),
        },
    )
    weight = np.zeros((4, 4))
    weight[1, 0], weight[2, 1], weight[3, 0], weight[3, 2] = 0.5, -1.5, 1.0, 1.0
    inverse = np.linalg.inv(np.eye(4) - weight)
    mean = inverse @ np.array([1.0, 1.0, 0.0, 2.0])
    covariance = inverse @ np.diag([2.0, 1.0, 0.5, 0.25]) @ inverse.T
    gain = covariance[:3, 3] / covariance[3, 3]
    mean, covariance = (
        mean[:3] + gain * (3.0 - mean[3]),
        covariance[:3, :3] - np.outer(gain, covariance[3, :3]),
    )
    posterior = model.query(evidence={"d": 3.0}, engine=engine())
    for k, name in enumerate(names[:3]):
        check_moments(posterior[name].samples, mean[k], covariance[k, k])
    check_mean(
        (posterior["a"].samples - mean[0]) * (posterior["c"].samples - mean[2]), covariance[0, 2]
    )


def test_inputs_reach_the_density():
    w, y = pgnn.Variable("w", shape=(2,)), pgnn.Variable("y", shape=(3,))
    design = torch.tensor([[[1.0, 0.0], [1.0, 1.0], [1.0, 2.0]]]).double()

    def regression(v):
        return Independent(Normal((v["x"] @ v["w"][:, :, None])[..., 0], 1.0), 1)

    model = pgnn.BayesianNetwork(
        [("w", "y")],
        {
            "w": pgnn.Gaussian(w, mean=[0.0, 0.0], form=pgnn.Diagonal()),
            "y": pgnn.Neural(y, [w], Made(regression), inputs="x", features=ByName()),
        },
    )
    observed = torch.tensor([1.0, 2.0, 4.0]).double()
    posterior = model.query("w", {"y": observed}, inputs={"x": design}, engine=engine())
    covariance = torch.linalg.inv(torch.eye(2).double() + design[0].T @ design[0])
    check_moments(
        posterior["w"].samples, covariance @ design[0].T @ observed, covariance.diagonal().clone()
    )


# --- discrete variables ------------------------------------------------------------------------


def mixture() -> pgnn.BayesianNetwork:
    k, mu, y = pgnn.Variable("k", ["left", "right"]), pgnn.Variable("mu"), pgnn.Variable("y")
    signs = torch.tensor([-1.0, 1.0]).double()
    return pgnn.BayesianNetwork(
        [("k", "y"), ("mu", "y")],
        {
            "k": [0.3, 0.7],
            "mu": pgnn.Gaussian(mu, mean=1.0, covariance=1.0),
            "y": neural(y, [k, mu], lambda v: Normal(signs[v["k"]] * v["mu"], 0.5)),
        },
        states={"k": ["left", "right"]},
    )


def test_discrete_latent_is_summed_out_as_on_a_grid():
    posterior = mixture().query(evidence={"y": 0.8}, engine=engine())
    mu = torch.linspace(-8, 8, 20001).double()
    each = torch.stack(
        [
            math.log(w) + Normal(s * mu, 0.5).log_prob(torch.tensor(0.8))
            for w, s in [(0.3, -1), (0.7, 1)]
        ]
    )
    joint = (each + Normal(1.0, 1.0).log_prob(mu)).exp()
    weight = joint.sum(dim=0) / joint.sum()
    mean = float((weight * mu).sum())
    check_moments(posterior["mu"].samples, mean, float((weight * (mu - mean) ** 2).sum()))
    right = torch.sigmoid(each[1] - each[0])
    spread = float((weight * (right - (weight * right).sum()) ** 2).sum()) ** 0.5
    size = posterior.diagnostics["effective_sample_size"]["mu"]
    error = abs(float(posterior["k"].probs[1]) - float((weight * right).sum()))
    assert error < ERRORS * spread / min(size, 400) ** 0.5
    assert posterior.probs("k").sum() == pytest.approx(1.0)
    assert posterior.kind == "estimate"
    assert "mu" in str(posterior)
    assert "right" in str(posterior)


@pytest.mark.filterwarnings("ignore::pgnn.errors.NotConverged")
def test_some_of_the_discrete_variables_in_any_order():
    x, z, w = pgnn.Variable("x"), pgnn.Variable("z", 2), pgnn.Variable("w", 3)
    means = [[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]]
    model = pgnn.BayesianNetwork(
        [("z", "x"), ("w", "x")],
        {"x": pgnn.Gaussian(x, [z, w], mean=means), "w": [0.2, 0.3, 0.5]},
        states={"z": 2, "w": 3},
    )
    whole = model.query(None, engine=engine(samples=50, warmup=50))
    for names in (["w"], ["w", "z"], ["z", "w"]):
        found = model.query(names, engine=engine(samples=50, warmup=50))
        for name in names:
            torch.testing.assert_close(found[name].probs, whole[name].probs)


def test_observed_and_soft_discrete_variables():
    model = mixture()
    hard = model.query("mu", {"y": 0.8, "k": "left"}, engine=engine())
    assert hard.diagnostics["compiled"]
    # y = -mu + noise: precision 1 + 4, mean (1 - 4 * 0.8) / 5
    check_moments(hard["mu"].samples, (1 - 3.2) / 5, 1 / 5)
    soft = model.query(["k", "mu"], {"y": 0.8, "k": pgnn.likelihood([1.0, 0.0])}, engine=engine())
    check_moments(soft["mu"].samples, (1 - 3.2) / 5, 1 / 5)
    assert soft["k"].probs.tolist() == pytest.approx([1.0, 0.0])


@pytest.mark.filterwarnings("ignore::pgnn.errors.NotConverged")
def test_sample_draws_all_variables():
    own = engine(samples=100, warmup=100)
    samples = mixture().sample(400, {"y": 0.8}, engine=own)
    assert set(samples) == {"k", "mu", "y"}
    assert bool((samples["y"] == 0.8).all())
    # which sign mu has all but decides the state
    same = (samples["mu"] > 0) == (samples["k"] == 1)
    assert float(same.double().mean()) > 0.9
    short = engine(samples=10, warmup=20)
    one, again = (mixture().sample(50, {"y": 0.8}, engine=short) for _ in range(2))
    assert torch.equal(one["mu"], again["mu"])
    assert torch.equal(one["k"], again["k"])
    assert mixture().sample(0, {"y": 0.8}, engine=short).num_samples == 0


def test_program_with_discrete_and_real_sites():
    import pyro
    import pyro.distributions as dist

    def program():
        scale = pyro.sample("scale", dist.Gamma(torch.tensor(3.0), torch.tensor(3.0)))
        with pyro.plate("rows", 3):
            z = pyro.sample("z", dist.Bernoulli(torch.tensor(0.5)))
            data = torch.tensor([0.5, 3.0, -1.0])
            pyro.sample("y", dist.Normal(2.0 * z, scale), obs=data)

    model = pgnn.Program(program)
    posterior = model.query(engine=engine(target_accept=0.95))
    scale = torch.linspace(1e-3, 20, 20001).double()
    data = torch.tensor([0.5, 3.0, -1.0]).double()
    each = torch.stack(
        [Normal(m, scale[:, None]).log_prob(data) + math.log(0.5) for m in (0.0, 2.0)]
    )
    density = (each.logsumexp(0).sum(1) + Gamma(3.0, 3.0).log_prob(scale)).exp()
    weight = density / density.sum()
    mean = float((weight * scale).sum())
    check_moments(posterior["scale"].samples, mean, float((weight * (scale - mean) ** 2).sum()))
    state = torch.sigmoid(each[1] - each[0])
    truth = (weight[:, None] * state).sum(dim=0)
    spread = (weight[:, None] * (state - truth) ** 2).sum(dim=0).sqrt()
    assert bool(((posterior["z"].probs[:, 1] - truth).abs() < ERRORS * spread / 20 + 1e-6).all())
    assert not [*pyro.get_param_store().keys()]


# --- what is told ------------------------------------------------------------------------------


def funnel() -> pgnn.BayesianNetwork:
    s, x = pgnn.Variable("s"), pgnn.Variable("x", shape=(9,))
    return pgnn.BayesianNetwork(
        [("s", "x")],
        {
            "s": pgnn.Gaussian(s, mean=0.0, covariance=9.0),
            "x": neural(
                x,
                [s],
                lambda v: Independent(
                    Normal(torch.zeros(1, 9), (v["s"] / 2).exp()[:, None].expand(-1, 9)), 1
                ),
            ),
        },
    )


def test_divergences_are_told():
    with pytest.warns(NotConverged, match="diverged"):
        posterior = funnel().query(
            engine=engine(warmup=50, samples=300, max_tree_depth=6, target_accept=0.5)
        )
    assert posterior.diagnostics["divergences"].sum() > 0
    assert not posterior.diagnostics["converged"]
    assert posterior.diagnostics["divergent_at"] in ("s", "x")


def test_chains_that_disagree_are_told():
    x, y = pgnn.Variable("x"), pgnn.Variable("y")
    model = pgnn.BayesianNetwork(
        [("x", "y")],
        {
            "x": pgnn.Gaussian(x, mean=0.0, covariance=1.0),
            "y": neural(y, [x], lambda v: Normal(v["x"] ** 2, 0.01)),
        },
    )
    with pytest.warns(NotConverged, match="disagree about 'x'"):
        posterior = model.query("x", {"y": 1.0}, engine=engine(warmup=200, samples=100))
    assert posterior["x"].r_hat > 1.05


@pytest.mark.filterwarnings("ignore::pgnn.errors.NotConverged")
def test_same_seed_same_draws_and_no_global_state():
    state = torch.random.get_rng_state()
    first, again, other = (
        mixture().query("mu", {"y": 0.8}, engine=engine(samples=20, warmup=20, seed=s))
        for s in (1, 1, 2)
    )
    assert torch.equal(first["mu"].samples, again["mu"].samples)
    assert not torch.equal(first["mu"].samples, other["mu"].samples)
    assert torch.equal(state, torch.random.get_rng_state())
    assert Distribution._validate_args


@pytest.mark.filterwarnings("ignore::pgnn.errors.NotConverged")
def test_the_answer_as_samples_and_for_arviz(monkeypatch):
    posterior = mixture().query(evidence={"y": 0.8}, engine=engine(samples=20, warmup=50))
    assert isinstance(posterior, RealPosterior)
    assert posterior.samples["mu"].shape == (80,)
    assert posterior.samples.frame().shape == (80, 1)
    assert posterior["mu"].quantile([0.1, 0.9]).shape == (2,)
    assert set(posterior) == {"k", "mu"}
    assert len(posterior) == 2
    assert "mu" in posterior
    table = posterior.frame()
    assert list(table.index) == [("k", "left"), ("k", "right"), ("mu", "")]
    assert table.loc[("mu", ""), "mean"] == pytest.approx(float(posterior["mu"].mean))
    assert table["probability"][:2].sum() == pytest.approx(1.0)
    monkeypatch.setitem(__import__("sys").modules, "arviz", None)
    with pytest.raises(Unsupported, match="pip install arviz"):
        posterior.to_arviz()


@pytest.mark.filterwarnings("ignore::pgnn.errors.NotConverged")
@pytest.mark.parametrize("version", ["0.23.4", "1.0.0"])
def test_arviz_gets_chains(monkeypatch, version):
    """A stand-in: groups by name before 1.0, in a mapping from then on."""
    import sys
    import types

    made = types.SimpleNamespace(__version__=version)
    made.from_dict = (lambda **given: given) if version[0] == "0" else (lambda given: given)
    monkeypatch.setitem(sys.modules, "arviz", made)
    posterior = mixture().query("mu", {"y": 0.8}, engine=engine(samples=20, warmup=20))
    given = posterior.to_arviz()
    assert given["posterior"]["mu"].shape == (4, 20)
    assert given["sample_stats"]["diverging"].shape == (4, 20)


@pytest.mark.filterwarnings("ignore")
def test_arviz_reads_what_it_is_given():
    arviz = pytest.importorskip("arviz")
    posterior = funnel().query(engine=engine(samples=200, warmup=100))
    data = posterior.to_arviz()
    assert dict(data.posterior["x"].sizes) == {"chain": 4, "draw": 200, "x_dim_0": 9}
    assert dict(data.posterior["s"].sizes) == {"chain": 4, "draw": 200}
    np.testing.assert_array_equal(data.posterior["x"].values, posterior["x"].samples.numpy())
    stats = data.sample_stats
    assert stats["diverging"].dtype == bool
    assert int(stats["diverging"].sum()) == posterior.diagnostics["divergences"].sum()
    assert int(stats["tree_depth"].max()) <= 10
    assert bool((stats["n_steps"] <= 2 ** stats["tree_depth"] * 2 - 1).all())
    assert bool(np.isfinite(stats["lp"]).all())
    # the energy is the potential of where it began and a kinetic part: chi-square of ten numbers
    kinetic = stats["energy"].values[:, 1:] + stats["lp"].values[:, :-1]
    assert kinetic.min() > 0
    error = math.sqrt(5.0 / kinetic.size)
    assert abs(kinetic.mean() - 5.0) < ERRORS * error
    assert arviz.bfmi(data).shape == (4,)
    # their figures of the chains are ours
    for name in ("s", "x"):
        own = posterior[name]
        size = arviz.ess(data, method="bulk")[name].values
        # at the end of Geyer's sum theirs adds one more term, and leaves out the last comparison
        np.testing.assert_allclose(own.effective_sample_size.numpy(), size, rtol=0.1)
        np.testing.assert_allclose(own.r_hat.numpy(), arviz.rhat(data)[name].values, rtol=1e-6)


def test_explain():
    text = str(mixture().explain(None, {"y": 0.8}, engine=engine()))
    assert "1 discrete variables summed out" in text


# --- refusals ----------------------------------------------------------------------------------


def test_bad_settings():
    for wrong in [{"chains": 0}, {"warmup": -1}, {"samples": 3}, {"target_accept": 1.0}]:
        with pytest.raises(ModelError):
            pgnn.MCMC(**wrong)


def test_bad_questions():
    model = mixture()
    with pytest.raises(Unsupported, match="in a loop"):
        model.query("mu", {"y": [0.8, 0.9]}, engine=engine())
    with pytest.raises(Unsupported, match="requires a real variable that is not observed"):
        model.query("k", {"y": 0.8, "mu": 0.1}, engine=engine())
    with pytest.raises(EvidenceError, match="'y' is real and observed"):
        model.query("y", {"y": 0.8}, engine=engine())
    with pytest.raises(EvidenceError, match="m"):
        model.query("mu2", {"y": 0.8}, engine=engine())
    for verb in (model.most_probable, model.log_prob):
        with pytest.raises(Unsupported):
            verb({"y": 0.8}, engine=engine())
    with pytest.raises(Unsupported):
        model.compile(engine=engine())


def test_counts_are_refused():
    x = pgnn.Variable("x")
    model = pgnn.BayesianNetwork([], {"x": pgnn.Poisson(x, rate=3.0)})
    with pytest.raises(Unsupported, match="'x' is a count"):
        model.query("x", engine=engine())


def test_support_that_depends_on_a_state_is_refused():
    k, x = pgnn.Variable("k", 2), pgnn.Variable("x")
    model = pgnn.BayesianNetwork(
        [("k", "x")],
        {
            "k": [0.5, 0.5],
            "x": neural(x, [k], lambda v: Uniform(torch.zeros(len(v["k"])), 1.0 + v["k"])),
        },
    )
    with pytest.raises(Unsupported, match="'k'"):
        model.query("x", engine=engine())
    assert float(model.query("x", {"k": 1}, engine=engine())["x"].draws.max()) > 1.5


def of_x(make) -> pgnn.BayesianNetwork:
    x, y = pgnn.Variable("x"), pgnn.Variable("y")
    return pgnn.BayesianNetwork(
        [("x", "y")],
        {"x": pgnn.Gaussian(x, mean=0.0, covariance=1.0), "y": neural(y, [x], make)},
    )


def test_impossible_start_names_the_variable():
    model = of_x(lambda v: Uniform(torch.zeros_like(v["x"]), v["x"].exp()))
    with pytest.raises(ImpossibleEvidence, match="'y'"):
        model.query("x", {"y": -1.0}, engine=engine())


def test_gradient_that_is_no_number_names_the_variable():
    model = of_x(lambda v: Normal((v["x"] * 0.0).sqrt(), 1.0))
    with pytest.raises(ModelError, match="'x' is not finite"):
        model.query("x", {"y": 1.0}, engine=engine())


def test_density_that_is_not_differentiable_names_the_variable():
    model = of_x(lambda v: Normal(v["x"].detach(), 1.0))
    with pytest.raises(ModelError, match="with respect to 'x' disagrees with finite differences"):
        model.query("x", {"y": 1.0}, engine=engine())


def test_wrong_batch_shape_names_the_variable():
    model = of_x(lambda v: Normal(v["x"][:, None], 1.0))
    with pytest.raises(ModelError, match="'y'"):
        model.query("x", {"y": 1.0}, engine=engine())


# --- the parts ---------------------------------------------------------------------------------


def test_compiled_potential_equals_log_density():
    model = funnel()
    potential = PotentialEnergy(model, None)
    points = potential.start(4, 0)
    assert potential.compiled
    found, slopes = potential(points)
    q = torch.from_numpy(points).requires_grad_()
    plain = potential.potential(q)
    torch.testing.assert_close(torch.from_numpy(found), plain.detach(), rtol=1e-12, atol=1e-12)
    (gradient,) = torch.autograd.grad(plain.sum(), q)
    torch.testing.assert_close(torch.from_numpy(slopes), gradient, rtol=1e-12, atol=1e-12)


def test_what_looks_at_numbers_is_not_written_down():
    def branching(q: Tensor):
        return (q.sum(1), q) if float(q[0, 0]) > 0 else (q.sum(1), -q)

    points = [torch.ones(2, 2), -torch.ones(2, 2)]
    assert recorded(branching, points) is None
    counter = iter(range(100))

    def changing(q: Tensor):
        return q.sum(1) * next(counter), q * 1.0

    assert recorded(changing, points) is None
    fast = recorded(lambda q: ((q**2).sum(1), 2 * q), points)
    assert fast is not None
    assert torch.equal(fast(points[1])[0], torch.full((2,), 2.0))


def test_a_question_with_another_answer_is_noticed():
    def branching(q: Tensor):
        return (q.sum(1), q) if bool((q > 0).any()) else (q.sum(1), -q)

    up = torch.ones(2, 2)
    fast = recorded(branching, [up, 2 * up])
    assert fast is not None
    assert torch.equal(fast(3 * up)[1], 3 * up)
    assert fast(-up) is None  # whoever asked calls the function itself


def test_ranks_are_robust():
    rng = np.random.default_rng(0)
    cauchy = rng.standard_cauchy(size=(4, 1000))
    assert rank_r_hat(cauchy) < 1.02
    assert rank_effective_sample_size(cauchy) > 2000
    assert tail_effective_sample_size(cauchy) > 2000
    assert rank_r_hat(cauchy * np.array([[1.0], [1.0], [1.0], [9.0]])) > 1.1
    shifted = cauchy + np.array([[0.0], [0.0], [0.0], [9.0]])
    assert rank_r_hat(np.stack([cauchy, shifted], axis=-1)).shape == (2,)
    assert rank_r_hat(shifted) > 1.1


def test_nothing_is_warned_of_when_all_is_well():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = of_x(lambda v: Normal(v["x"], 1.0)).query("x", {"y": 1.0}, engine=engine())
    assert found.diagnostics["converged"]
    assert not found.diagnostics["divergences"].any()


# --- programs as they are written ---------------------------------------------------------------


@pytest.mark.filterwarnings("ignore::pgnn.errors.NotConverged")
def test_programs_of_single_precision_get_single_precision():
    import pyro

    X = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    y = torch.tensor([1.0, -1.0, 0.5])

    def regression(dtype):
        def program():
            prior = pyro.distributions.Normal(torch.zeros(2, dtype=dtype), 1.0)
            b = pyro.sample("b", prior.to_event(1))
            likelihood = pyro.distributions.Normal(X.to(dtype) @ b, 1.0)
            pyro.sample("y", likelihood.to_event(1), obs=y.to(dtype))

        return pgnn.Program(program)

    single, double = (regression(t) for t in (torch.float32, torch.float64))
    points = np.random.default_rng(0).normal(size=(4, 2))
    found, expected = (PotentialEnergy(m, {})(points) for m in (single, double))
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-5)
    np.testing.assert_allclose(found[1], expected[1], rtol=1e-4, atol=1e-5)
    posterior = single.query("b", engine=engine(samples=20, warmup=20))
    assert posterior.diagnostics["compiled"]
    assert posterior["b"].draws.dtype == torch.float32


@pytest.mark.filterwarnings("ignore::pgnn.errors.NotConverged")
def test_a_failed_decomposition_is_a_divergence():
    import pyro

    one = torch.ones(()).double()

    def correlated():
        r = pyro.sample("r", pyro.distributions.Normal(0.0 * one, 0.5 * one))
        matrix = torch.stack([torch.stack([one, r]), torch.stack([r, one])])
        normal = pyro.distributions.MultivariateNormal(torch.zeros(2).double(), matrix)
        pyro.sample("y", normal, obs=torch.tensor([0.5, 0.4]).double())

    model = pgnn.Program(correlated)
    potential, gradient = PotentialEnergy(model, {})(np.array([[0.3], [1.5]]))
    assert np.isfinite(potential[0])
    assert np.isposinf(potential[1])
    assert np.isfinite(gradient).all()
    found = model.query("r", engine=engine(chains=2, samples=30, warmup=20, max_tree_depth=3))
    assert float(found["r"].draws.abs().max()) < 1.0
