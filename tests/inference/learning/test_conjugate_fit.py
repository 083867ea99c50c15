"""Variational Bayes of mixtures and chains: closed forms, scikit-learn, and each other."""

import math
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

import pgnn
from pgnn import Diagonal, Gaussian, HiddenMarkovModel, Laplace, Mixture, NormalWishart
from pgnn import VariationalBayes as Bayes
from pgnn.errors import ModelError, Unsupported

PRIOR = NormalWishart(mean=0.5, confidence=0.7, degrees=4.5, scale=[[2.0, 0.3], [0.3, 1.0]])


def clusters(n: int = 150) -> np.ndarray:
    random = np.random.default_rng(0)
    centres = np.array([[0.0, 0.0], [8.0, 0.0], [0.0, 8.0]])
    return centres[random.integers(0, 3, n)] + random.normal(size=(n, 2))


def log_marginal(x: np.ndarray) -> float:
    """Log density of rows, mean and covariance integrated out (Gelman et al. 2013, section 3.6)."""
    n, d = x.shape
    prior, k0, nu0 = PRIOR, PRIOR.confidence, PRIOR.degrees
    scale0, m0 = prior.matrix(2).numpy(), prior.location(2).numpy()
    mean = x.mean(0)
    scatter = (x - mean).T @ (x - mean)
    scale = scale0 + scatter + k0 * n / (k0 + n) * np.outer(mean - m0, mean - m0)
    gammas = [torch.mvlgamma(torch.tensor(v / 2, dtype=torch.float64), d).item()
              for v in (nu0 + n, nu0)]  # fmt: skip
    return (
        gammas[0] - gammas[1] - n * d / 2 * math.log(math.pi) + d / 2 * math.log(k0 / (k0 + n))
        + nu0 / 2 * np.linalg.slogdet(scale0)[1] - (nu0 + n) / 2 * np.linalg.slogdet(scale)[1]
    )  # fmt: skip


def test_one_component_has_the_exact_evidence() -> None:
    x = clusters(12) + 1000.0  # far from zero
    prior = NormalWishart(1000.5, PRIOR.confidence, PRIOR.degrees, PRIOR.scale)
    model = Mixture(1, {"x": Gaussian}).fit(x, learner=Bayes({"x": prior}), progress=False)
    expected = log_marginal(x - 1000.0)
    assert model.history["lower_bound"] == pytest.approx(expected, abs=1e-7)
    own = model.history["normal_posterior"]["x"]
    np.testing.assert_allclose(own["confidence"], 12.7)
    np.testing.assert_allclose(own["mean"][0], (0.7 * 1000.5 + x.sum(0)) / 12.7)


def test_one_spherical_component_has_the_exact_evidence() -> None:
    x, d = clusters(12), 2
    model = Mixture(1, {"x": partial(Gaussian, form=pgnn.Spherical())})
    model.fit(x, learner=Bayes({"x": PRIOR}), progress=False)
    k0, m0 = PRIOR.confidence, PRIOR.location(2).numpy()
    a0, b0 = (d * (PRIOR.degrees + d + 1) - 2) / 2, np.trace(PRIOR.scale) / 2
    k, a = k0 + 12, a0 + 12 * d / 2
    squares = 12 * x.var(0) + k0 * 12 / k * (x.mean(0) - m0) ** 2
    b = b0 + squares.sum() / 2
    expected = (
        math.lgamma(a) - math.lgamma(a0) + a0 * math.log(b0) - a * math.log(b)
        + d / 2 * math.log(k0 / k) - 12 * d / 2 * math.log(2 * math.pi)
    )  # fmt: skip
    assert model.history["lower_bound"] == pytest.approx(expected, abs=1e-8)
    np.testing.assert_allclose(model.conditionals["x"].covariance[0].detach(), b / a * np.eye(2))


def test_spherical_mixtures_rise_and_are_told() -> None:
    model = Mixture(4, {"x": partial(Gaussian, form=pgnn.Spherical())})
    model.fit(clusters(), learner=Bayes(), seed=0, progress=False)
    assert (np.diff(model.history["trace"]["lower_bound"]) > -1e-7).all()
    assert np.isfinite(model.history["lower_bound"])


def test_classes_with_one_covariance_have_the_exact_evidence() -> None:
    x, label = clusters(12), np.arange(12) % 3
    model = pgnn.NaiveBayes(3, {"x": partial(Gaussian, form=pgnn.Tied())})
    learner = Bayes({"x": PRIOR, "class": Laplace(1.0)})
    model.fit({"x": x, "class": label}, learner=learner, progress=False)
    d, k0, nu0, m0 = 2, PRIOR.confidence, PRIOR.degrees, PRIOR.location(2).numpy()
    scale0 = PRIOR.matrix(2).numpy()
    scale = scale0.copy()
    for k in range(3):
        own = x[label == k]
        scale += (own - own.mean(0)).T @ (own - own.mean(0))
        scale += k0 * 4 / (k0 + 4) * np.outer(own.mean(0) - m0, own.mean(0) - m0)
    gammas = [torch.mvlgamma(torch.tensor(v / 2, dtype=torch.float64), d).item()
              for v in (nu0 + 12, nu0)]  # fmt: skip
    expected = (
        gammas[0] - gammas[1] - 12 * d / 2 * math.log(math.pi) + 3 * d / 2 * math.log(k0 / (k0 + 4))
        + nu0 / 2 * np.linalg.slogdet(scale0)[1] - (nu0 + 12) / 2 * np.linalg.slogdet(scale)[1]
        + math.lgamma(3) - math.lgamma(15) + 3 * math.lgamma(5)
    )  # fmt: skip
    assert model.history["lower_bound"] == pytest.approx(expected, abs=1e-8)
    covariance = model.conditionals["x"].covariance.detach().numpy()
    np.testing.assert_allclose(covariance, np.broadcast_to(scale / (nu0 + 12), (3, 2, 2)))


@pytest.mark.parametrize("form", ["full", "diag", "tied"])
def test_mixtures_are_those_of_scikit_learn(form: str) -> None:
    from sklearn.mixture import BayesianGaussianMixture

    x = clusters()
    peer = BayesianGaussianMixture(
        n_components=3, covariance_type=form,
        weight_concentration_prior_type="dirichlet_distribution",
        weight_concentration_prior=1.0, mean_precision_prior=1.0, tol=1e-11, max_iter=500,
        reg_covar=0.0, random_state=0, degrees_of_freedom_prior=3.0,
        covariance_prior=np.ones(2) if form == "diag" else np.eye(2), mean_prior=np.ones(2),
    ).fit(x)  # fmt: skip

    def feature(child: pgnn.Variable, parents: list) -> Gaussian:
        forms = {"full": pgnn.Full(), "diag": Diagonal(), "tied": pgnn.Tied()}
        return Gaussian(child, parents, form=forms[form])

    # a diagonal one has a degree more for each other dimension here; scikit-learn divides what
    # rows add to a tied one by the number of components, and counts the prior once, not for each
    degrees, scale = {"full": (3.0, 1.0), "diag": (2.0, 1.0), "tied": (9.0, 3.0)}[form]
    prior = {"x": NormalWishart(1.0, 1.0, degrees, scale), "component": Laplace(1.0)}
    model = Mixture(3, {"x": feature}, shapes={"x": (2,)})
    model.fit({"x": x}, learner=Bayes(prior, tolerance=1e-13), seed=0, progress=False)
    atol = 1e-5 if form == "diag" else 1e-6  # whose last passes scikit-learn leaves out
    order, theirs = (
        np.argsort(m[:, 0] + 2.0 * m[:, 1])
        for m in (model.conditionals["x"].mean.detach().numpy(), peer.means_)
    )
    mean = model.conditionals["x"].mean.detach().numpy()[order]
    np.testing.assert_allclose(mean, peer.means_[theirs], atol=atol)
    covariance = model.conditionals["x"].covariance.detach().numpy()[order]
    if form == "diag":
        covariance = covariance.diagonal(axis1=1, axis2=2)
    expected = np.stack([peer.covariances_] * 3) if form == "tied" else peer.covariances_[theirs]
    np.testing.assert_allclose(covariance, expected, atol=atol)
    weights = model.conditionals["component"].probs.detach().numpy()[order]
    np.testing.assert_allclose(weights, peer.weights_[theirs], atol=1e-6)


def test_components_that_are_not_needed_lose_their_rows() -> None:
    x = clusters()
    prior = {"component": Laplace(1e-3)}
    model = Mixture(6, {"x": Gaussian}).fit(x, learner=Bayes(prior), seed=1, progress=False)
    assert (np.diff(model.history["trace"]["lower_bound"]) > -1e-8).all()
    assert sum(n > 1.0 for n in model.history["occupancy"]) == 3


def test_chains_of_one_step_are_mixtures_and_bounds_never_fall(tmp_path: Path) -> None:
    x = clusters(40)
    x[3, 1] = np.nan
    start = [[0.0, 0.0], [8.0, 0.0], [0.0, 8.0]]
    prior = {"x": PRIOR}
    mixture = Mixture(3, {"x": Gaussian}, shapes={"x": (2,)})
    chain = HiddenMarkovModel(3, {"x": Gaussian}, shapes={"x": (2,)})
    for own in (mixture.conditionals["x"], chain.emissions["x"]):
        own.set_parameters(start, [np.eye(2)] * 3)
    mixture.fit({"x": x}, learner=Bayes(prior), progress=False)
    steps = {"x": x[:, None, :]}
    chain.fit(steps, learner=Bayes(prior), progress=False)
    # transitions have observed nothing: their posterior is the prior
    assert chain.history["lower_bound"] == pytest.approx(mixture.history["lower_bound"], abs=1e-6)
    long = HiddenMarkovModel(3, {"x": Gaussian}, shapes={"x": (2,)})
    long.fit({"x": x}, learner=Bayes(), seed=0, progress=False)
    assert (np.diff(long.history["trace"]["lower_bound"]) > -1e-8).all()
    long.save(tmp_path / "model")
    again = pgnn.load(tmp_path / "model")
    assert again.history["posterior"]["state"].shape == (3, 3)
    torch.testing.assert_close(again.log_prob({"x": x}), long.log_prob({"x": x}))
    assert long.transitions.probs.sum(-1).detach().numpy() == pytest.approx(1.0)


def test_what_has_no_conjugate_prior_is_refused() -> None:
    x = clusters(20)
    with pytest.raises(Unsupported, match="Poisson"):
        Mixture(2, {"n": pgnn.Poisson}).fit({"n": [1, 2, 3]}, learner=Bayes(), progress=False)
    prior = {"x": NormalWishart(0.0, 0.0, 3.0, 1.0)}
    with pytest.raises(ModelError, match="must be a distribution"):
        Mixture(2, {"x": Gaussian}).fit(x, learner=Bayes(prior), progress=False)
    with pytest.raises(ModelError, match="'y'; learnable variables are 'component', 'x'"):
        Mixture(2, {"x": Gaussian}).fit(x, learner=Bayes({"y": Laplace()}), progress=False)
