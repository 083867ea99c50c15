"""Gaussian mixtures: scikit-learn from the same start, holes, and the number of components."""

from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.datasets import load_iris

import pgnn
from pgnn.errors import ModelError

FORMS = {
    "full": pgnn.Full(),
    "tied": pgnn.Tied(),
    "diag": pgnn.Diagonal(),
    "spherical": pgnn.Spherical(),
}


def rows(n: int = 400, size: int = 3) -> np.ndarray:
    rng = np.random.default_rng(0)
    mix = rng.normal(size=(size, size))
    return rng.normal(size=(n, size)) @ mix + rng.integers(0, 3, (n, 1)) * 3.0


def start(form: str, x: np.ndarray) -> pgnn.Mixture:
    """Means at rows, unit covariances."""

    def feature(child: pgnn.Variable, parents: Any) -> pgnn.Gaussian:
        own = pgnn.Gaussian(child, parents, form=FORMS[form])
        eye = {"full": np.stack([np.eye(3)] * 3), "tied": np.eye(3), "diag": np.ones((3, 3))}
        own.set_parameters(x[:3], eye.get(form, np.ones(3)))
        return own

    return pgnn.Mixture(3, {"x": feature}, shapes={"x": (3,)})


@pytest.mark.filterwarnings("ignore::pgnn.errors.NotConverged")
@pytest.mark.filterwarnings("ignore:.*did not converge")
@pytest.mark.parametrize("form", FORMS)
def test_equals_scikit_learn_from_the_same_start(form: str) -> None:
    sklearn = pytest.importorskip("sklearn.mixture")
    x, eye = rows(), np.eye(3)
    shape = {"full": np.stack([eye] * 3), "tied": eye, "diag": np.ones((3, 3))}
    other = sklearn.GaussianMixture(
        3,
        covariance_type=form,
        tol=0.0,
        reg_covar=0.0,
        max_iter=12,
        weights_init=np.ones(3) / 3,
        means_init=x[:3],
        precisions_init=shape.get(form, np.ones(3)),
    ).fit(x)
    learner = pgnn.EM(max_iterations=12, tolerance=0.0, initialize=False, accelerate=False)
    model = start(form, x).fit({"x": x}, learner=learner, progress=False)
    np.testing.assert_allclose(model.log_prob({"x": x}), other.score_samples(x), atol=1e-6)
    found = model.conditionals["x"]
    np.testing.assert_allclose(found.mean.detach(), other.means_, atol=1e-6)
    share = model.query("component", {"x": x})["component"].probs
    np.testing.assert_allclose(share, other.predict_proba(x), atol=1e-6)
    assert pgnn.metrics.bic(model, {"x": x}) == pytest.approx(other.bic(x), rel=1e-9)


@pytest.mark.parametrize("form", FORMS)
def test_numbers_may_be_missing(form: str) -> None:
    x = rows()
    x[np.random.default_rng(1).random(x.shape) < 0.2] = np.nan
    model = start(form, x[~np.isnan(x).any(axis=1)])
    learner = pgnn.EM(max_iterations=500, tolerance=1e-6)
    model.fit({"x": x}, learner=learner, seed=0, progress=False)
    trace = model.history["trace"]["log_likelihood"]
    assert model.history["converged"]
    assert min(np.diff(trace)) >= -1e-9 * abs(trace[-1])
    assert trace[-1] > trace[0] + 10
    total = float(model.log_prob({"x": x}).sum())
    assert model.history["log_likelihood"] == pytest.approx(total)


def test_the_number_of_components_is_chosen() -> None:
    rng = np.random.default_rng(2)
    x = {"x": np.concatenate([rng.normal(m, 1.0, size=(80, 2)) for m in (0.0, 8.0, 16.0)])}
    candidates = {
        k: pgnn.Mixture(k, {"x": pgnn.Gaussian}, shapes={"x": (2,)}) for k in (1, 2, 3, 4)
    }
    figures = {}
    for k, m in candidates.items():
        count = pgnn.metrics.num_learnable_parameters(m)
        m.fit(x, learner=pgnn.EM(tolerance=1e-5), seed=0, progress=False)
        figures[k] = pgnn.metrics.bic(m, x, num_parameters=count)
    assert min(figures, key=figures.__getitem__) == 3


def test_expanded_squares_keep_their_digits() -> None:
    """Rows far from zero, and narrow directions: against the squares of differences."""
    x = torch.from_numpy(rows())
    for shift, scale in ((0.0, 1.0), (1e6, 1.0), (0.0, 1e-5), (1e3, 1e4)):
        own = pgnn.Gaussian(pgnn.Variable("x", shape=(3,)), form=pgnn.Full())
        y = x * scale + shift
        own.prepare({"x": y})
        own.maximize(own.statistics({"x": y}, torch.ones(len(y))))
        with torch.no_grad():
            plain = own.factor({"x": y}).log_values
        wanted = own.factor({"x": y.requires_grad_()}).log_values
        torch.testing.assert_close(plain, wanted.detach(), rtol=0, atol=1e-8)


def test_rows_far_from_zero_keep_their_digits() -> None:
    x = np.random.default_rng(0).normal(size=(60, 2))
    fitted = []
    for far in (0.0, 1e8):
        model = pgnn.Mixture(2, {"x": pgnn.Gaussian}).fit({"x": x + far}, seed=0, progress=False)
        fitted.append(model.history["log_likelihood"])
    assert fitted[0] == pytest.approx(fitted[1], abs=1e-4)


def test_an_array_without_a_name_is_of_the_only_variable() -> None:
    x = np.random.default_rng(0).normal(size=(40, 2))
    bare = pgnn.Mixture(2, {"x": pgnn.Gaussian}).fit(x, seed=0, progress=False)
    named = pgnn.Mixture(2, {"x": pgnn.Gaussian}).fit({"x": x}, seed=0, progress=False)
    np.testing.assert_array_equal(bare.log_prob(x), named.log_prob({"x": x}))
    assert bare.query("component", x[0:1])["component"].probs.shape == (1, 2)


def test_data_without_anything_observed_is_refused() -> None:
    with pytest.raises(pgnn.DataError, match="every cell"):
        pgnn.Mixture(2, {"x": pgnn.Gaussian}).fit({"x": [np.nan, np.nan]}, progress=False)


@pytest.mark.parametrize(
    ("form", "best"),
    [(pgnn.Full(), -180.1855), (pgnn.Tied(), -256.3540), (pgnn.Spherical(), -384.3136)],
)
def test_every_seed_finds_the_optimum_of_scikit_learn(form: Any, best: float) -> None:
    flowers = {"x": load_iris().data}
    for seed in range(16):
        model = pgnn.Mixture(3, {"x": partial(pgnn.Gaussian, form=form)})
        model.fit(flowers, seed=seed, progress=False)
        assert float(model.log_prob(flowers).sum()) == pytest.approx(best, abs=0.01)


def test_a_vector_given_by_a_column_for_each_element_is_named() -> None:
    columns = {"u": [0.0, 1.0], "v": [1.0, 0.0]}
    with pytest.raises(
        ModelError, match=r"'x' is real, and .*known: 'u', 'v'; name .*shape \(N, D\)"
    ):
        pgnn.Mixture(2, {"x": pgnn.Gaussian}).fit(columns)
