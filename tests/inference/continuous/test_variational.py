"""Variational inference: against closed forms, quadrature, enumeration and Pyro's own."""

import math
from typing import Any

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import Trace_ELBO, TraceEnum_ELBO, config_enumerate
from torch import nn

import pgnn
from pgnn import BayesianNetwork, Gaussian, LinearGaussian, Program, Variable
from pgnn.errors import (
    EvidenceError,
    ImpossibleEvidence,
    ModelError,
    NotConverged,
    PgnnError,
    Unsupported,
)
from pgnn.inference.continuous.densities import SummedDensity, log_density
from pgnn.inference.continuous.flow import Flow
from pgnn.inference.continuous.guides import (
    Amortised,
    At,
    Delta,
    FullRankNormal,
    Guide,
    LowRankNormal,
    MeanFieldNormal,
)
from pgnn.inference.continuous.model_and_guide import ModelAndGuide, make_generator
from pgnn.inference.continuous.objective import (
    Elbo,
    ImportanceWeighted,
    Objective,
    Renyi,
    ScoreFunction,
)
from pgnn.inference.continuous.variational import Variational
from pgnn.inference.learning.control_variates import ControlVariates
from pgnn.inference.model_reader import reader_of

X, Y, W = Variable("x"), Variable("y"), Variable("w", None, (2,))
PATH = Elbo(10, path_only=True)


@pytest.fixture(autouse=True)
def nothing_global():
    """Neither random state nor Pyro's parameters are touched."""
    before = torch.random.get_rng_state()
    yield
    assert torch.equal(before, torch.random.get_rng_state())
    assert not [*pyro.get_param_store().keys()]


def double(x):
    return torch.tensor(x, dtype=torch.float64)


def close(got, expected, tolerance=1e-9):
    torch.testing.assert_close(got, expected, rtol=tolerance, atol=tolerance, check_dtype=False)


def quick(**settings) -> Variational:
    """Converges fast where its gradients have no noise."""
    rest = {
        "max_iterations": 160,
        "tolerance": 0.0,
        "seed": 0,
        "progress": False,
        **settings,
    }
    return Variational(optimizer=lambda p: torch.optim.Adam(p, lr=0.1), **rest)


def slowing(factor: float = 0.98) -> Any:
    """Steps that become smaller, against noise."""
    return lambda o: torch.optim.lr_scheduler.ExponentialLR(o, factor)


def line() -> BayesianNetwork:
    """x ~ N(1, 2), y | x ~ N(0.5 x, 0.5)."""
    return BayesianNetwork(
        [("x", "y")],
        {
            "x": Gaussian(X, mean=1.0, covariance=2.0),
            "y": LinearGaussian(Y, [X], [0.5], 0.0, covariance=0.5),
        },
    )


def line_posterior(y):
    """Mean, variance of x and log p(y)."""
    precision = 1 / 2 + 0.25 / 0.5
    mean = (1.0 / 2 + 0.5 * y / 0.5) / precision
    variance = 0.25 * 2 + 0.5
    log_p = -0.5 * (y - 0.5) ** 2 / variance - 0.5 * math.log(2 * math.pi * variance)
    return mean, 1 / precision, log_p


def regression() -> tuple[BayesianNetwork, torch.Tensor]:
    """A vector w, correlated given one number, and its posterior precision."""
    model = BayesianNetwork(
        [("w", "y")],
        {
            "w": Gaussian(W, mean=[0.0, 0.0], covariance=[[1.0, 0.0], [0.0, 1.0]]),
            "y": LinearGaussian(Y, [W], [1.0, 2.0], 0.0, covariance=0.5),
        },
    )
    a = double([1.0, 2.0])
    precision = torch.eye(2, dtype=torch.float64) + torch.outer(a, a) / 0.5
    return model, precision


def mixture() -> BayesianNetwork:
    """z -> x -> y <- z with z of three states; x is real and latent."""
    z = Variable("z", ["a", "b", "c"])
    return BayesianNetwork(
        [("z", "x"), ("z", "y"), ("x", "y")],
        {
            "z": [0.5, 0.3, 0.2],
            "x": Gaussian(X, [z], mean=[-1.0, 0.5, 1.0], covariance=[0.5, 0.4, 0.3]),
            "y": LinearGaussian(
                Y, [z, X], [[1.0], [0.8], [0.9]], [0.0, 0.1, 0.2], covariance=[0.5, 0.6, 0.7]
            ),
        },
        states={"z": ["a", "b", "c"]},
    )


def mixture_by_quadrature(y: float):
    """log p(y), posterior of z, mean and standard deviation of x, on a fine grid."""
    x = np.linspace(-9, 9, 20001)
    prior, mean, var = np.array([0.5, 0.3, 0.2]), [-1.0, 0.5, 1.0], [0.5, 0.4, 0.3]
    slope, bias, noise = [1.0, 0.8, 0.9], [0.0, 0.1, 0.2], [0.5, 0.6, 0.7]

    def normal(v, m, s):
        return np.exp(-0.5 * (v - m) ** 2 / s) / np.sqrt(2 * np.pi * s)

    joint = np.stack(
        [
            prior[k] * normal(x, mean[k], var[k]) * normal(y, slope[k] * x + bias[k], noise[k])
            for k in range(3)
        ]
    )
    mass = joint.sum(1) * (x[1] - x[0])
    density = joint.sum(0) / joint.sum()
    m = (density * x).sum()
    return np.log(mass.sum()), mass / mass.sum(), m, np.sqrt((density * (x - m) ** 2).sum())


def model_and_guide(model, evidence, guide: Guide | None = None, **rest) -> ModelAndGuide:
    density = SummedDensity(model, reader_of(model).read(evidence), rest.pop("inputs", None))
    with torch.random.fork_rng(devices=[]):
        return ModelAndGuide.of(density, guide, rest.pop("shared", ()), **rest)


def linear(inputs: int, outputs: int) -> nn.Linear:
    """An encoder."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Linear(inputs, outputs).double()


# --- answers --------------------------------------------------------------------------------------


@pytest.mark.parametrize("guide", [MeanFieldNormal(), FullRankNormal(), LowRankNormal(1)])
def test_a_normal_posterior_is_found_exactly(guide):
    mean, variance, log_p = line_posterior(2.0)
    found = line().query("x", {"y": 2.0}, engine=quick(guide=guide, objective=PATH))
    # the gradient has no noise at the optimum, so that the fit ends there up to its step length
    assert found.kind == "lower bound"
    close(found.log_evidence, double(log_p), 1e-3)
    own = model_and_guide(line(), {"y": 2.0}, guide)
    assert own.names == ("x",)
    # of 1000 draws the mean has the standard error sd / sqrt(1000), the sd sd / sqrt(2000)
    sd = math.sqrt(variance)
    assert abs(float(found["x"].mean) - mean) < 4 * sd / math.sqrt(1000)
    assert abs(float(found["x"].std) - sd) < 4 * sd / math.sqrt(2000)
    assert float(found.diagnostics["effective_sample_size"]) > 999


def test_full_rank_finds_the_correlation_and_mean_field_the_variances_of_theory():
    model, precision = regression()
    covariance = torch.linalg.inv(precision)
    log_p = float(
        torch.distributions.Normal(double(0.0), double(math.sqrt(0.5 + 5.0))).log_prob(double(1.0))
    )
    full = model.query(
        "w", {"y": 1.0}, engine=quick(guide=FullRankNormal(), objective=PATH, num_samples=4000)
    )
    assert abs(float(full.log_evidence) - log_p) < 1e-3
    # the entries of a covariance of n draws have standard errors below sqrt(2 / n) times variances
    bound = 4 * math.sqrt(2 / 4000) * covariance.diagonal().max()
    assert (torch.cov(full["w"].draws.T) - covariance).abs().max() < bound
    flat = model.query(
        "w",
        {"y": 1.0},
        engine=quick(
            guide=MeanFieldNormal(),
            objective=Elbo(50, path_only=True),
            max_iterations=120,
            scheduler=slowing(0.97),
            num_samples=4000,
        ),
    )
    variances = 1 / precision.diagonal()
    assert (variances < covariance.diagonal()).all()
    ratio = flat["w"].std.square() / variances
    assert (ratio - 1).abs().max() < 4 * math.sqrt(2 / 4000) + 0.02  # noise of the last steps
    # KL(q || p) of the best diagonal normal is half the log determinant of the scaled precision
    gap = 0.5 * (precision.diagonal().log().sum() - torch.logdet(precision))
    error = 4 * float(flat.diagnostics["standard_error"]) + 1e-3
    assert abs(log_p - float(gap) - float(flat.log_evidence)) < error


@pytest.mark.parametrize("guide", [FullRankNormal(), Flow(layers=2)])
def test_discrete_latents_are_summed_out(guide):
    y = 0.7
    log_p, probs, mean, sd = mixture_by_quadrature(y)
    found = mixture().query(
        ["x", "z"],
        {"y": y},
        engine=quick(
            guide=guide,
            objective=Elbo(20),
            num_samples=4000,
            max_iterations=100,
            scheduler=slowing(0.96),
        ),
    )
    se = float(found.diagnostics["standard_error"])
    assert float(found.log_evidence) < log_p + 4 * se
    assert log_p - float(found.log_evidence) < 0.03 + 4 * se
    assert abs(float(found.diagnostics["importance_weighted"]) - log_p) < 0.03
    # 4 standard errors of 4000 draws, and what the divergence allows: by Pinsker's inequality
    # probabilities differ by at most sqrt(KL / 2)
    kl = max(log_p - float(found.log_evidence), 0.0) + 4 * se
    assert np.abs(found["z"].probs.numpy() - probs).max() < math.sqrt(kl / 2) + 4 / math.sqrt(4000)
    assert abs(float(found["x"].mean) - mean) < 0.1 * sd
    assert abs(float(found["x"].std) - sd) < 0.1 * sd


def test_the_bound_falls_short_by_the_divergence():
    """ELBO = log p(e) - KL(q || p) at any parameters, by quadrature."""
    y = 0.3
    log_p, *_ = mixture_by_quadrature(y)
    problem = model_and_guide(mixture(), {"y": y}, MeanFieldNormal(scale=0.8))
    x = torch.linspace(-9, 9, 4001, dtype=torch.float64)
    step = float(x[1] - x[0])
    with torch.no_grad():
        log_joint = problem.density.log_density({"x": x})
        log_q = torch.distributions.Normal(double(0.0), double(0.8)).log_prob(x)
    q = log_q.exp()
    kl = float((q * (log_q - (log_joint - log_p))).sum() * step)
    elbo = float((q * (log_joint - log_q)).sum() * step)
    close(double(elbo), double(log_p - kl), 1e-6)
    with torch.no_grad():
        found = problem.weighted(Elbo(4000), make_generator(0))
    values = found.log_weights[:, 0]
    assert abs(float(values.mean()) - elbo) < 4 * float(values.std()) / math.sqrt(4000)


def test_each_row_has_its_own_posterior():
    rows = [2.0, -1.0, 0.5]
    found = line().query("x", {"y": double(rows)}, engine=quick(objective=PATH))
    assert tuple(found["x"].draws.shape) == (1000, 3)
    for k, y in enumerate(rows):
        mean, variance, log_p = line_posterior(y)
        assert abs(float(found.log_evidence[k]) - log_p) < 1e-3
        assert abs(float(found["x"].mean[k]) - mean) < 4 * math.sqrt(variance / 1000)


def test_supports_are_kept():
    rate, count = Variable("rate"), Variable("count")
    model = BayesianNetwork(
        [("rate", "count")],
        {
            "rate": pgnn.Distributional(
                rate, [], torch.distributions.Gamma, concentration=2.0, rate=1.0
            ),
            "count": _PoissonOf(count, [rate]),
        },
    )
    found = model.query(
        "rate",
        {"count": 3.0},
        engine=quick(
            guide=Flow(layers=2), objective=Elbo(20), max_iterations=110, scheduler=slowing(0.97)
        ),
    )
    assert (found["rate"].draws > 0).all()
    # the posterior is Gamma(5, 2); the evidence is negative binomial
    log_p = math.lgamma(5) - math.lgamma(2) - math.log(6) + 2 * math.log(0.5) + 3 * math.log(0.5)
    assert abs(float(found.diagnostics["importance_weighted"]) - log_p) < 0.02
    assert abs(float(found["rate"].mean) - 2.5) < 0.15
    # the mode of the rate is (5 - 1) / 2; that of its logarithm would be log 2.5
    mode = model.query("rate", {"count": 3.0}, engine=quick(guide=Delta()))["rate"].mean
    assert abs(float(mode) - 2.0) < 1e-3


class _PoissonOf(pgnn.Conditional):
    def distribution(self, parents, inputs=None):
        return torch.distributions.Poisson(parents["rate"], validate_args=False)


def test_a_point_mass_finds_the_mode():
    mean, _, _ = line_posterior(2.0)
    found = line().query("x", {"y": 2.0}, engine=quick(guide=Delta()))
    assert abs(float(found["x"].mean) - mean) < 1e-3
    assert found.kind == "estimate"
    assert found.log_evidence.isnan()


def test_latents_shared_by_rows():
    """The mean of a normal sample: rows are independent given it."""
    model = BayesianNetwork(
        [("x", "y")],
        {
            "x": Gaussian(X, mean=0.0, covariance=4.0),
            "y": LinearGaussian(Y, [X], [1.0], 0.0, covariance=1.0),
        },
    )
    y = double([1.0, 2.0, 2.5, 0.5, 1.2])
    cov = torch.eye(5, dtype=torch.float64) + 4.0
    log_p = torch.distributions.MultivariateNormal(torch.zeros(5).double(), cov).log_prob(y)
    precision = 1 / 4 + 5
    found = model.query("x", {"y": y}, engine=quick(shared="x", objective=PATH))
    assert found.log_evidence.shape == ()
    close(found.log_evidence, log_p, 1e-3)
    sd = precision**-0.5
    assert tuple(found["x"].draws.shape) == (1000,)
    assert abs(float(found["x"].mean) - float(y.sum()) / precision) < 4 * sd / math.sqrt(1000)


def test_draws_of_all_variables():
    model, y = mixture(), 0.7
    _, probs, *_ = mixture_by_quadrature(y)
    own = quick(objective=Elbo(5), max_iterations=80, scheduler=slowing(0.95))
    drawn = model.sample(2000, {"y": y}, engine=own, seed=3)
    share = torch.bincount(drawn["z"], minlength=3) / 2000
    assert np.abs(share.numpy() - probs).max() < 4 * 0.5 / math.sqrt(2000) + 0.05
    assert (drawn["y"] == y).all()
    short = quick(max_iterations=5)
    one, again = (model.sample(50, {"y": y}, engine=short, seed=3) for _ in range(2))
    assert torch.equal(one["x"], again["x"])
    assert torch.equal(one["z"], again["z"])


# --- objectives -----------------------------------------------------------------------------------


def test_importance_weighted_bounds_tighten():
    y = 0.7
    log_p, *_ = mixture_by_quadrature(y)
    problem = model_and_guide(mixture(), {"y": y}, MeanFieldNormal(scale=1.0))
    bounds, errors = [], []
    with torch.no_grad():
        for k in (1, 4, 30):
            found = problem.weighted(Elbo(1), make_generator(1), draws=2000 * k)
            parts = found.log_weights.reshape(2000, k, 1)
            values = torch.stack([ImportanceWeighted(k).combine(x) for x in parts])
            bounds.append(float(values.mean()))
            errors.append(float(values.std()) / math.sqrt(2000))
    assert bounds[0] + 4 * errors[0] < bounds[1] - 4 * errors[1]
    assert bounds[1] + 4 * errors[1] < bounds[2] - 4 * errors[2]
    assert bounds[2] < log_p + 4 * errors[2]


def test_the_answer_has_the_bound_of_its_objective():
    log_p, *_ = mixture_by_quadrature(0.7)
    settings = {"guide": MeanFieldNormal(scale=1.0), "max_iterations": 0, "seed": 0}
    loose, tight = (
        mixture().query(
            "z", {"y": 0.7}, engine=Variational(objective=o, num_samples=6000, **settings)
        )
        for o in (Elbo(), ImportanceWeighted(30))
    )
    error = 4 * float(tight.diagnostics["standard_error"])
    assert float(loose.log_evidence) < float(tight.log_evidence) - error
    assert float(tight.log_evidence) < log_p + error


def test_an_encoder_learns_though_the_model_is_fixed():
    model, encoder = line(), linear(1, 2)
    y = torch.linspace(-2, 3, 50, dtype=torch.float64)
    learner = quick(guide=Amortised(encoder), objective=PATH, max_iterations=250)
    before = {n: p.clone() for n, p in model.state_dict().items()}
    model.fit({"y": y}, learner=learner, progress=False)
    assert all(torch.equal(before[n], p) for n, p in model.state_dict().items())
    with torch.no_grad():
        out = encoder(y[:, None])
    best = torch.stack([double(line_posterior(float(v))[0]) for v in y])
    # a linear encoder can be exact: so it becomes, gradients have no noise there
    assert (out[:, 0] - best).abs().max() < 0.02
    assert (out[:, 1].exp() - 1.0).abs().max() < 0.02
    with pytest.raises(ModelError, match="nothing to learn"):
        line().fit({"y": y}, learner=quick(), progress=False)


def test_renyi_lies_between():
    w = torch.randn(7, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    close(Renyi(7, alpha=1.0).combine(w), Elbo(7).combine(w))
    close(Renyi(7, alpha=1 - 1e-7).combine(w), Elbo(7).combine(w), 1e-6)
    close(Renyi(7, alpha=0.0).combine(w), ImportanceWeighted(7).combine(w))
    half = Renyi(7, alpha=0.5).combine(w)
    assert (half > Elbo(7).combine(w)).all()
    assert (half < ImportanceWeighted(7).combine(w)).all()


@pytest.mark.parametrize("objective", [ImportanceWeighted(5), Renyi(5, alpha=0.5)])
def test_other_objectives_find_a_normal_posterior(objective):
    mean, variance, log_p = line_posterior(2.0)
    found = line().query(
        "x",
        {"y": 2.0},
        engine=quick(guide=FullRankNormal(), objective=objective, scheduler=slowing(0.99)),
    )
    assert abs(float(found.log_evidence) - log_p) < 0.02
    assert abs(float(found["x"].mean) - mean) < 0.2 * math.sqrt(variance)


def gradients(model, y, guide, objective: Objective, repeats: int, baseline=None, start=None):
    """``(repeats, P)`` gradients: each row has parameters and draws of its own."""
    problem = model_and_guide(model, {"y": torch.full((repeats,), y, dtype=torch.float64)}, guide)
    parameters = [*problem.parts.parameters()]
    with torch.no_grad():
        for p, x in zip(parameters, start or [], strict=False):
            p.fill_(x)
    drawn = problem.weighted(objective, make_generator(5))
    variates = None
    if baseline is not None:
        variates = ControlVariates(by_column=True)
        mean = torch.full((repeats,), baseline, dtype=torch.float64)
        variates.resume({"running": [[mean, 1.0, 1.0]], "inputs": []})
    total = problem.total(drawn, objective, variates)
    return torch.cat([g.reshape(repeats, -1) for g in torch.autograd.grad(total, parameters)], 1)


@pytest.mark.parametrize("particles", [1, 4])
@pytest.mark.parametrize("kind", [Elbo, ImportanceWeighted])
def test_score_functions_are_unbiased(kind, particles):
    score = ScoreFunction(particles) if kind is Elbo else _Scored(particles)
    guide, baseline = MeanFieldNormal(scale=0.7), -2.0 if particles == 1 else None
    one = gradients(mixture(), 0.7, guide, score, 20_000, baseline)
    other = gradients(mixture(), 0.7, guide, kind(particles), 20_000)
    error = (one.var(0) / len(one) + other.var(0) / len(other)).sqrt()
    assert ((one.mean(0) - other.mean(0)).abs() < 4 * error).all()
    assert not torch.equal(one, other)
    if particles == 1:  # the baseline helps
        without = gradients(mixture(), 0.7, guide, score, 20_000)
        assert (one.var(0) < without.var(0)).all()


class _Scored(ImportanceWeighted):
    score_function = True


def test_path_only_gradients_are_unbiased_and_vanish_at_the_posterior():
    settings = (mixture(), 0.7, FullRankNormal(scale=0.7))
    one = gradients(*settings, Elbo(path_only=True), 20_000)
    other = gradients(*settings, Elbo(), 20_000)
    error = (one.var(0) / len(one) + other.var(0) / len(other)).sqrt()
    assert ((one.mean(0) - other.mean(0)).abs() < 4 * error + 1e-12).all()
    mean, variance, _ = line_posterior(2.0)
    exact = (line(), 2.0, MeanFieldNormal())
    start = [mean, 0.5 * math.log(variance)]
    assert gradients(*exact, Elbo(path_only=True), 3, start=start).abs().max() < 1e-9
    assert gradients(*exact, Elbo(), 3, start=start).abs().max() > 0.1


@pytest.mark.parametrize(
    "guide", [MeanFieldNormal(0.5), FullRankNormal(0.5), LowRankNormal(2, 0.5), Flow(3, scale=0.5)]
)
def test_guides_are_densities_of_their_draws(guide):
    """Draws map noise to points; the density is that of the noise over the Jacobian."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        q = guide.start(2, 3)
        with torch.no_grad():
            for p in q.parameters():
                p += 0.3 * torch.randn_like(p)
    at = At(torch.tensor([1, 0]), torch.zeros(2, 0))
    generator = torch.Generator().manual_seed(2)
    noise = torch.randn(1, 2, q.noise_size, generator=generator, dtype=torch.float64)
    z = q.draw(noise, at)
    found = q(z, at)
    for r in range(2):
        jacobian = torch.autograd.functional.jacobian(
            lambda e, r=r: q.draw(
                torch.cat([noise[:, :r], e[None, None], noise[:, r + 1 :]], 1), at
            )[0, r],
            noise[0, r],
        )
        if q.noise_size == 3:
            base = -0.5 * noise[0, r].square().sum() - 1.5 * math.log(2 * math.pi)
            close(found[0, r], base - torch.linalg.slogdet(jacobian)[1], 1e-8)
        else:  # normal: the covariance is that of the linear map
            own = torch.distributions.MultivariateNormal(q.loc[at.rows[r]], jacobian @ jacobian.T)
            close(found[0, r], own.log_prob(z[0, r]), 1e-8)


# --- learning -------------------------------------------------------------------------------------


def factor_model(weight=None) -> BayesianNetwork:
    x, y = Variable("x"), Variable("y", None, (2,))
    return BayesianNetwork(
        [("x", "y")],
        {
            "x": Gaussian(x, mean=0.0, covariance=1.0),
            "y": LinearGaussian(y, [x], weight, [0.0, 0.0], covariance=[[0.3, 0.0], [0.0, 0.5]]),
        },
    )


def test_an_encoder_learns_the_posterior_of_a_factor_model():
    a = double([1.0, -0.7])
    noise = double([0.3, 0.5])
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(300, 1, generator=generator, dtype=torch.float64)
    y = x * a + torch.randn(300, 2, generator=generator, dtype=torch.float64) * noise.sqrt()
    model = factor_model()
    encoder = linear(2, 2)
    with torch.no_grad():
        model.conditionals["y"].weight.copy_(double([[0.5], [-0.5]]))
    learner = quick(guide=Amortised(encoder), objective=PATH, batch_size=100, scheduler=slowing())
    model.fit({"y": y}, learner=learner, seed=1, progress=False)
    weight = model.conditionals["y"].weight.detach()[:, 0]
    # maximum likelihood by gradients of the closed form
    best = torch.tensor([1.0, -0.7], dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([best], max_iter=100)

    def loss():
        optimizer.zero_grad()
        cov = torch.outer(best, best) + torch.diag(noise)
        value = -torch.distributions.MultivariateNormal(torch.zeros(2).double(), cov).log_prob(y)
        value.mean().backward()
        return value.mean()

    optimizer.step(loss)
    assert (weight - best.detach()).abs().max() < 0.05
    # the posterior given the weights that were learnt
    precision = 1 + (weight.square() / noise).sum()
    mean = (y * weight / noise).sum(1) / precision
    with torch.no_grad():
        out = encoder(y)
    assert (out[:, 0] - mean).abs().max() < 0.1
    assert (out[:, 1].exp() - precision**-0.5).abs().max() < 0.03
    # asked again, the trained encoder answers without a step
    answer = model.query(
        "x", {"y": y[:3]}, engine=Variational(guide=Amortised(encoder), max_iterations=0, seed=0)
    )
    assert (answer["x"].mean - mean[:3]).abs().max() < 0.1 + 4 * 0.5 / math.sqrt(1000)


@pytest.mark.parametrize("shared", [(), ("x",)])
def test_batches_are_scaled_to_be_unbiased(shared):
    y = torch.linspace(-1, 2, 6, dtype=torch.float64)
    problem = model_and_guide(line(), {"y": y}, Delta(), shared=shared)
    objective = Elbo()
    with torch.no_grad():
        for p in problem.parts.parameters():
            p += 0.1 * torch.arange(p.numel()).reshape(p.shape)

    def gradient(rows):
        drawn = problem.weighted(objective, make_generator(0), rows)
        total = problem.total(drawn, objective)
        return total.detach(), torch.autograd.grad(total, [*problem.parts.parameters()])[0]

    whole = gradient(None)
    batches = [gradient(torch.tensor(rows)) for rows in ([0, 3], [1, 4], [2, 5])]
    close(sum(b[0] for b in batches) / 3, whole[0])
    close(sum(b[1] for b in batches) / 3, whole[1])


def test_weights_count_rows():
    y = double([1.0, 2.0])
    twice = model_and_guide(line(), {"y": double([1.0, 2.0, 2.0])}, Delta(), shared=("x",))
    once = model_and_guide(line(), {"y": y}, Delta(), shared=("x",), weights=double([1.0, 2.0]))
    with torch.no_grad():
        a = twice.weighted(Elbo(), make_generator(0)).log_weights
        b = once.weighted(Elbo(), make_generator(0)).log_weights
    close(a, b)


def test_learning_reaches_the_maximum_likelihood_where_the_guide_is_exact():
    generator = torch.Generator().manual_seed(4)
    y = 2.0 + 1.5 * torch.randn(40, generator=generator, dtype=torch.float64)
    model = BayesianNetwork(
        [("x", "y")],
        {
            "x": Gaussian(X),
            "y": LinearGaussian(Y, [X], [1.0], 0.0, covariance=0.5),
        },
    )
    learner = quick(
        guide=FullRankNormal(), objective=PATH, max_iterations=250, scheduler=slowing(0.99)
    )
    model.fit({"y": y}, learner=learner, progress=False)
    assert abs(float(model.conditionals["x"].mean.detach()) - float(y.mean())) < 0.02
    expected = float(y.var(correction=0)) - 0.5
    assert abs(float(model.conditionals["x"].covariance.detach()) - expected) < 0.1 * expected
    log_p = torch.distributions.Normal(y.mean(), y.std(correction=0)).log_prob(y).sum()
    assert abs(model.history["objective"] - float(log_p)) < 0.1
    assert len(model.history["trace"]["objective"]) == 250


# --- programs -------------------------------------------------------------------------------------


DATA = torch.tensor([0.3, 1.2, -0.4, 2.0], dtype=torch.float64)


def clusters():
    """Means are real and latent, which of them each number has is discrete."""
    with pyro.plate("parts", 2):
        mean = pyro.sample("mean", dist.Normal(torch.tensor([-1.0, 1.0]).double(), 1.0))
    with pyro.plate("rows", 4):
        z = pyro.sample("z", dist.Categorical(torch.tensor([0.4, 0.6]).double()))
        pyro.sample("obs", dist.Normal(mean[z], 0.5), obs=DATA)


def clusters_guide():
    loc = pyro.param("loc", torch.tensor([-0.5, 1.5]).double())
    scale = pyro.param(
        "scale", torch.tensor([0.4, 0.6]).double(), constraint=dist.constraints.positive
    )
    with pyro.plate("parts", 2):
        pyro.sample("mean", dist.Normal(loc, scale))


def isolated(work, seed):
    """Run Pyro with random numbers and parameters of its own."""
    with torch.random.fork_rng(devices=[]), pyro.get_param_store().scope():
        pyro.set_rng_seed(seed)
        return work()


def test_discrete_sums_are_those_of_pyro():
    """Given the same draws of the real site, TraceEnum_ELBO and ours are one number."""
    program = Program(clusters, clusters_guide)
    problem = model_and_guide(program, None)
    enumerated = config_enumerate(clusters, default="parallel")
    for seed in range(5):
        elbo = TraceEnum_ELBO(max_plate_nesting=1)
        theirs = -isolated(lambda elbo=elbo: elbo.loss(enumerated, clusters_guide), seed)
        generator = torch.Generator()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            generator.set_state(torch.random.get_rng_state())
        with torch.no_grad():
            ours = problem.weighted(Elbo(), generator).log_weights
        assert abs(float(ours) - theirs) < 1e-6


def smooth():
    x = pyro.sample("x", dist.Normal(torch.tensor(0.0).double(), 1.0))
    pyro.sample("obs", dist.Normal(x, 0.5), obs=torch.tensor(1.0).double())


def smooth_guide():
    loc = pyro.param("loc", torch.tensor(0.2).double())
    pyro.sample("x", dist.Normal(loc, 0.7))


def test_the_bound_of_a_pyro_guide_is_trace_elbo():
    theirs = -isolated(
        lambda: Trace_ELBO(num_particles=2000, vectorize_particles=True, max_plate_nesting=0).loss(
            smooth, smooth_guide
        ),
        0,
    )
    program = Program(smooth, smooth_guide)
    found = program.query(engine=Variational(num_samples=1000, max_iterations=0, seed=0))
    se = float(found.diagnostics["standard_error"])
    assert abs(float(found.log_evidence) - theirs) < 4 * se * math.sqrt(1 + 1000 / 2000)


def test_a_program_learns_its_guide():
    program = Program(smooth, smooth_guide)
    program.fit(
        learner=quick(max_iterations=150, objective=Elbo(2), scheduler=slowing(0.97)),
        progress=False,
    )
    assert abs(float(program.params["loc"].detach()) - 0.8) < 0.1
    found = program.query(engine=Variational(num_samples=500, seed=0, progress=False))
    assert abs(float(found["x"].mean) - 0.8) < 0.1 + 4 * 0.7 / math.sqrt(500)


def test_own_guides_serve_programs():
    """By quadrature over the two means."""
    program = Program(clusters)
    found = program.query(
        "z",
        engine=quick(
            guide=FullRankNormal(), objective=Elbo(10), max_iterations=150, scheduler=slowing(0.97)
        ),
    )
    grid = torch.linspace(-5, 5, 401, dtype=torch.float64)
    a, b = torch.meshgrid(grid, grid, indexing="ij")
    with torch.no_grad():
        log_p = program.log_density({"mean": torch.stack([a.ravel(), b.ravel()], 1)})
    log_evidence = float(log_p.logsumexp(0)) + 2 * math.log(0.025)
    se = float(found.diagnostics["standard_error"])
    assert -0.1 < float(found.log_evidence) - log_evidence < 4 * se
    assert tuple(found["z"].probs.shape) == (4, 2)


def test_guides_that_cannot_be_differentiated_through_learn_by_scores():
    def guide():
        rate = pyro.param("rate", torch.tensor(1.0).double(), constraint=dist.constraints.positive)
        pyro.sample("count", dist.Poisson(rate))

    def model():
        count = pyro.sample("count", dist.Poisson(torch.tensor(4.0).double()))
        pyro.sample("obs", dist.Normal(count, 2.0), obs=torch.tensor(6.0).double())

    program = Program(model, guide)
    learner = quick(objective=Elbo(20), max_iterations=120, scheduler=slowing())
    program.fit(learner=learner, progress=False)
    counts = torch.arange(40).double()
    log_p = dist.Poisson(4.0).log_prob(counts) + dist.Normal(counts, 2.0).log_prob(double(6.0))
    posterior = log_p.softmax(0)
    rates = torch.linspace(2, 8, 601, dtype=torch.float64)
    q = dist.Poisson(rates[:, None])
    values = (q.log_prob(counts).exp() * (log_p - q.log_prob(counts))).sum(1)
    best = float(rates[values.argmax()])
    assert abs(float((posterior * counts).sum()) - best) < 1.5
    assert abs(float(program.params["rate"].detach()) - best) < 0.4


def test_a_guide_that_misses_a_site_is_refused():
    with pytest.raises(ModelError, match="'x'"):
        Program(smooth, lambda: None).query("x", engine=pgnn.Variational(progress=False))


# --- settings and failures ------------------------------------------------------------------------


@pytest.mark.parametrize("make", [line, mixture])
def test_densities_are_those_of_log_density(make):
    """Without discrete variables the tables are added up, without any engine."""
    model = make()
    density = SummedDensity(model, reader_of(model).read({"y": double([0.3, -1.0])}))
    x = torch.linspace(-2, 2, 6, dtype=torch.float64).reshape(3, 2)
    found = density.log_density({"x": x.reshape(-1)}).reshape(3, 2)
    for s in range(3):
        close(found[s], log_density(model, {"x": x[s]}, {"y": double([0.3, -1.0])}))


def test_seeds():
    model = mixture()
    settings = {"max_iterations": 20, "tolerance": 0.0, "progress": False, "guide": Flow(2)}
    one, same, other = (
        model.query("z", {"y": 0.1}, engine=Variational(seed=s, **settings)) for s in (1, 1, 2)
    )
    assert torch.equal(one.draws["x"], same.draws["x"])
    assert torch.equal(one["z"].probs, same["z"].probs)
    assert not torch.equal(one.draws["x"], other.draws["x"])


def test_a_failed_fit_leaves_model_and_encoder_as_they_were():
    model = factor_model()
    encoder = linear(2, 2)
    before = {n: p.clone() for n, p in [*model.state_dict().items(), *encoder.state_dict().items()]}
    learner = Variational(
        guide=Amortised(encoder), optimizer=lambda p: torch.optim.SGD(p, lr=1e9), progress=False
    )
    with pytest.raises(PgnnError, match=r"diverged in step \d+.*'(x|y)'"):
        model.fit({"y": torch.randn(5, 2, generator=make_generator(0)).double()}, learner=learner)
    after = {**model.state_dict(), **encoder.state_dict()}
    assert all(torch.equal(before[n], after[n]) for n in before)
    assert model.history == {}


def test_divergence_names_the_site():
    def broken():
        x = pyro.sample("x", dist.Normal(torch.tensor(0.0).double(), 1.0))
        pyro.sample("far", dist.Normal(x * torch.inf, 1.0), obs=torch.tensor(1.0).double())

    with pytest.raises(PgnnError, match="'far'"):
        Program(broken).query(engine=Variational(progress=False))


def test_queries_change_nothing():
    model = factor_model(weight=[[1.0], [2.0]])
    encoder = linear(2, 2)
    before = [p.clone() for p in encoder.parameters()]
    engine = Variational(guide=Amortised(encoder), max_iterations=3, tolerance=0.0, progress=False)
    model.query("x", {"y": [1.0, 2.0]}, engine=engine)
    assert all(torch.equal(a, b) for a, b in zip(before, encoder.parameters(), strict=True))
    assert all(p.grad is None for p in [*encoder.parameters(), *model.parameters()])


def test_impossible_rows():
    z = Variable("z", 2)
    model = BayesianNetwork(
        [("z", "x"), ("x", "y")],
        {
            "z": [1.0, 0.0],
            "x": Gaussian(X, [z], mean=[0.0, 1.0], covariance=[1.0, 1.0]),
            "y": LinearGaussian(Y, [X], [1.0], 0.0, covariance=1.0),
        },
        states={"z": 2},
    )
    rows = {"z": torch.tensor([0, 1]), "y": double([1.0, 1.0])}
    engine = Variational(max_iterations=50, tolerance=0.0, progress=False, seed=0)
    with pytest.raises(ImpossibleEvidence, match="row 1") as caught:
        model.query("z", rows, engine=engine)
    assert caught.value.rows == (1,)
    found = model.query("z", rows, engine=engine, errors="nan")
    assert found["z"].probs[1].isnan().all()
    assert found.log_evidence[1] == -math.inf
    assert found.log_evidence[0].isfinite()


def test_the_most_probable_value_is_the_mode_of_the_posterior() -> None:
    best = line().most_probable({"y": 2.0}, engine=Variational())
    assert float(best["x"]) == pytest.approx(float(line_posterior(2.0)[0]), abs=1e-5)


def test_bad_settings_and_questions():
    for bad in (
        {"max_iterations": -1},
        {"batch_size": 0},
        {"num_samples": 1},
        {"tolerance": -1.0},
        {"max_norm": 0.0},
        {"guide": lambda: None},
        {"objective": "elbo"},
    ):
        with pytest.raises(ModelError):
            Variational(**bad)
    for make in (
        lambda: Elbo(0),
        lambda: Renyi(2, alpha=math.inf),
        lambda: MeanFieldNormal(0.0).start(1, 1),
        lambda: LowRankNormal(0).start(1, 1),
        lambda: Flow(layers=0).start(1, 1),
    ):
        with pytest.raises(ModelError):
            make()
    with pytest.raises(Unsupported, match="no latent real variable"):
        line().query(None, {"x": 1.0, "y": 2.0}, engine=Variational())
    with pytest.raises(EvidenceError, match="'y' is real and observed"):
        line().query("y", {"y": 2.0}, engine=Variational())
    with pytest.raises(EvidenceError, match="shared names 'y'"):
        line().query("x", {"y": 2.0}, engine=Variational(shared="y"))
    wrong = Amortised(linear(1, 3))
    with pytest.raises(ModelError, match="the encoder must return"):
        line().query("x", {"y": 2.0}, engine=Variational(guide=wrong))
    with pytest.warns(NotConverged):
        line().query(
            "x", {"y": 2.0}, engine=Variational(tolerance=1e-12, max_iterations=5, progress=False)
        )


def test_explain_tells_what_is_done():
    told = str(mixture().explain("x", {"y": 1.0}, engine=Variational()))
    assert "'x'" in told
    assert "1 discrete variables are summed out" in told


def test_the_answer_prints():
    found = mixture().query(None, {"y": 1.0}, engine=quick(max_iterations=10))
    assert "lower bound, Variational" in str(found)
    assert list(found.summary().columns) == ["mean", "std", "5%", "50%", "95%"]
    with pytest.raises(EvidenceError, match="'q'"):
        _ = found["q"]
