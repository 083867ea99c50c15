"""Classes of torch distributions as conditionals, and classes that need arguments."""

from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats
from torch import distributions as dist

import pgnn
from pgnn.errors import ArgumentError, ModelError

FAMILIES = [
    (dist.Normal, stats.norm, {}),
    (dist.LogNormal, stats.lognorm, {"floc": 0}),
    (dist.Weibull, stats.weibull_min, {"floc": 0}),
    (dist.HalfNormal, stats.halfnorm, {"floc": 0}),
    (dist.InverseGamma, stats.invgamma, {"floc": 0}),
    (dist.Exponential, stats.expon, {"floc": 0}),
    (dist.Gamma, stats.gamma, {"floc": 0}),
]


@pytest.mark.parametrize("unit", [1e-4, 1.0, 1e4])
@pytest.mark.parametrize(("kind", "other", "fixed"), FAMILIES)
def test_a_fit_is_that_of_scipy_in_any_units(kind: type, other: stats, fixed: dict, unit: float):
    x = np.random.default_rng(0).gamma(3.0, 2.0, size=300)
    model = pgnn.BayesianNetwork([], {"x": kind}).fit({"x": x * unit}, progress=False)
    expected = other.logpdf(x, *other.fit(x, **fixed)).mean() - np.log(unit)
    assert float(model.log_prob({"x": x * unit}).mean()) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("unit", [1e-4, 1e4])
def test_a_mixture_of_exponentials_is_that_of_closed_steps(unit: float) -> None:
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.exponential(1.0, size=500), rng.exponential(20.0, size=500)])
    model = pgnn.Mixture(2, {"x": dist.Exponential})
    model.fit({"x": x * unit}, learner=pgnn.EM(tolerance=1e-10), seed=0, progress=False)
    share, rate = np.array([0.5, 0.5]), np.array([0.5, 0.1])
    for _ in range(2000):
        joint = share * rate * np.exp(-rate * x[:, None])
        resp = joint / joint.sum(1, keepdims=True)
        share, rate = resp.mean(0), resp.sum(0) / (resp * x[:, None]).sum(0)
    expected = np.log((share * rate * np.exp(-rate * x[:, None])).sum(1)).mean() - np.log(unit)
    assert float(model.log_prob({"x": x * unit}).mean()) == pytest.approx(expected, abs=1e-5)


def test_classes_of_naive_bayes_are_fitted_to_their_rows() -> None:
    rng = np.random.default_rng(0)
    rows = {"class": np.arange(400) % 2, "x": rng.gamma(2.0 + 9.0 * (np.arange(400) % 2))}
    model = pgnn.NaiveBayes(2, {"x": dist.Gamma}).fit(rows, progress=False)
    found = {n: p.detach() for n, p in model.conditionals["x"].values.items()}
    for k in (0, 1):
        shape, _, scale = stats.gamma.fit(rows["x"][k::2], floc=0)
        assert float(found["concentration"][k]) == pytest.approx(shape, rel=1e-3)
        assert float(found["rate"][k]) == pytest.approx(1 / scale, rel=1e-3)


def test_a_hidden_markov_model_emits_them_and_is_kept(tmp_path: Path) -> None:
    truth = pgnn.HiddenMarkovModel(
        2,
        {"x": lambda c, p: pgnn.Distributional(c, p, dist.Exponential, rate=[1.0, 0.05])},
        [0.5, 0.5],
        [[0.95, 0.05], [0.05, 0.95]],
    )
    drawn = truth.sample(1, {"T": 600}, seed=0)
    model = pgnn.HiddenMarkovModel(2, {"x": dist.Exponential})
    model.fit({"x": drawn["x"]}, seed=0, progress=False)
    rate = model.emissions["x"].values["rate"].detach().sort().values
    torch.testing.assert_close(rate, torch.tensor([0.05, 1.0]).double(), rtol=0.2, atol=0.0)
    assert bool(model.log_prob({"x": drawn["x"]}) > truth.log_prob({"x": drawn["x"]}))
    model.save(tmp_path / "m")
    again = pgnn.load(tmp_path / "m")
    assert again.log_prob({"x": drawn["x"]}).equal(model.log_prob({"x": drawn["x"]}))


def test_given_values_are_where_learning_starts() -> None:
    x, k = pgnn.Variable("x"), pgnn.Variable("k", 2)
    piece = pgnn.Distributional(x, [k], dist.Normal, loc=[3.0, 4.0])
    assert piece.values["scale"].tolist() == [1.0, 1.0]
    piece.start_from({"x": torch.arange(4.0).double()}, torch.ones(4, 2).double())
    assert piece.values["loc"].tolist() == [3.0, 4.0]
    fresh = pgnn.Distributional(x, [k], dist.Normal)
    states = {"x": torch.tensor([1.0, 3.0, 10.0, 14.0]).double(), "k": torch.tensor([0, 0, 1, 1])}
    fresh.start_from(states, torch.ones(4).double())
    assert fresh.values["loc"].tolist() == [2.0, 12.0]
    torch.testing.assert_close(fresh.values["scale"].detach(), torch.tensor([1.0, 2.0]).double())
    vector = pgnn.Distributional(pgnn.Variable("x", shape=(2,)), [k], dist.MultivariateNormal)
    assert vector.values["scale_tril"].tolist() == [torch.eye(2).tolist()] * 2


@pytest.mark.parametrize(
    ("declared", "message"),
    [
        (pgnn.GaussianMixture, r"functools\.partial\(pgnn\.GaussianMixture, num_components=2\)"),
        (pgnn.Neural, r"functools\.partial\(pgnn\.Neural, module=network\)"),
        (pgnn.Distributional, r"make=torch\.distributions\.Gamma\)"),
        (partial(pgnn.GaussianMixture, weights=None), r"weights=None, num_components=2\)"),
    ],
)
def test_classes_that_need_arguments_say_how_they_are_given(declared: object, message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        pgnn.HiddenMarkovModel(3, {"x": declared}, shapes={"x": (2,)})
    with pytest.raises(ArgumentError, match=message):
        pgnn.Mixture(3, {"x": declared}, shapes={"x": (2,)})
    with pytest.raises(ArgumentError, match=message):
        pgnn.BayesianNetwork([], {"x": declared}, {"x": pgnn.Variable("x")})


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (dist.Uniform, "Uniform of 'x' needs 'low', 'high'"),
        (dist.Dirichlet, None),
        (dist.RelaxedBernoulli, "temperature=torch.tensor"),
    ],
)
def test_distributions_that_cannot_be_learned_say_so(kind: type, message: str | None) -> None:
    if message is None:
        assert pgnn.HiddenMarkovModel(2, {"x": kind}, shapes={"x": (3,)}).emissions["x"]
        return
    with pytest.raises(ModelError, match=message):
        pgnn.HiddenMarkovModel(2, {"x": kind})
