"""Factor analysis and principal components: scikit-learn's numbers, holes, dense normals."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

import pgnn
from pgnn.errors import DataError, ModelError
from pgnn.inference.learning.factor_e_step import FactorEStep
from pgnn.inference.learning.table_e_step import NetworkEStep

FAMILIES = [pgnn.FactorAnalysis, pgnn.PrincipalComponents]


def rows(n: int = 500, missing: float = 0.0) -> np.ndarray:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(n, 2)) @ rng.normal(size=(2, 5)) + 3.0
    x += rng.normal(size=x.shape) * np.linspace(0.6, 1.2, 5)
    x[rng.random(x.shape) < missing] = np.nan
    return x


def dense(model: Any, x: np.ndarray) -> np.ndarray:
    """Log densities of rows, by the covariance of what each has observed."""
    logs = []
    for row in x:
        observed = np.flatnonzero(~np.isnan(row))
        covariance = model.covariance[observed][:, observed]
        own = torch.distributions.MultivariateNormal(model.mean[observed], covariance)
        logs.append(float(own.log_prob(torch.from_numpy(row[observed]))) if len(observed) else 0.0)
    return np.array(logs)


@pytest.mark.filterwarnings("ignore:FactorAnalysis did not converge")
def test_factors_equal_scikit_learn() -> None:
    sklearn = pytest.importorskip("sklearn.decomposition")
    x = rows()
    other = sklearn.FactorAnalysis(2, tol=1e-13, max_iter=5000, svd_method="lapack").fit(x)
    model = pgnn.FactorAnalysis(2).fit(x, progress=False)
    np.testing.assert_allclose(model.covariance, other.get_covariance(), atol=1e-6)
    np.testing.assert_allclose(model.log_prob(x), other.score_samples(x), rtol=1e-6)
    assert model.history["log_likelihood"] == pytest.approx(other.score(x) * len(x), abs=1e-6)
    assert model.history["log_likelihood"] >= other.score(x) * len(x) - 1e-9


def test_components_equal_scikit_learn() -> None:
    sklearn = pytest.importorskip("sklearn.decomposition")
    x = rows()
    other = sklearn.PCA(2).fit(x)
    model = pgnn.PrincipalComponents(2).fit(x, progress=False)
    fewer = len(x) / (len(x) - 1)  # scikit-learn divides by the rows less one
    np.testing.assert_allclose(model.covariance * fewer, other.get_covariance(), atol=1e-10)
    np.testing.assert_allclose(model.explained_variance * fewer, other.explained_variance_)
    np.testing.assert_allclose(model.explained_variance_ratio, other.explained_variance_ratio_)
    sign = np.sign((model.components.numpy() * other.components_).sum(axis=1))
    np.testing.assert_allclose(model.components, other.components_ * sign[:, None], atol=1e-10)
    np.testing.assert_allclose(model.project(x), other.transform(x) * sign, atol=1e-10)
    np.testing.assert_allclose(np.cov(model.whiten(x).T, bias=True), np.eye(2), atol=1e-10)


@pytest.mark.parametrize("family", FAMILIES)
def test_scores_become_those_of_pca_without_noise(family: Any) -> None:
    x = rows()
    mean, weight = x.mean(axis=0), np.linalg.svd(np.cov(x.T))[0][:, :2]
    model = family(2, 5, weight, mean, np.full(5, 1e-9) if family is FAMILIES[0] else 1e-9)
    np.testing.assert_allclose(model.scores(x), (x - mean) @ weight, atol=1e-6)


@pytest.mark.parametrize("family", FAMILIES)
def test_holes_are_learnt_from(family: Any) -> None:
    x = rows(missing=0.3)
    model = family(2).fit(x, seed=0, progress=False)
    assert model.history["learner"].startswith("EM(")
    trace = model.history["trace"]["log_likelihood"]
    assert model.history["converged"]
    assert min(np.diff(trace)) >= -1e-9 * abs(trace[-1])
    np.testing.assert_allclose(model.log_prob(x), dense(model, x), atol=1e-9)
    assert model.history["log_likelihood"] == pytest.approx(dense(model, x).sum())
    # steps of a slow twin, which fills in what is missing, gain nothing any more
    step = NetworkEStep(model.requires_grad_())
    observed = step.read({"x": x}, None, None)
    expected = step.expect(observed)
    assert expected.log_likelihood == pytest.approx(model.history["log_likelihood"])
    step.improve(expected, {})
    assert step.expect(observed).log_likelihood - expected.log_likelihood < 1e-3


@pytest.mark.parametrize("family", FAMILIES)
def test_em_reaches_the_solution_of_complete_rows(family: Any) -> None:
    x = rows()
    weights = np.random.default_rng(1).random(len(x))
    solved = family(2).fit(x, weights=weights, progress=False)
    learner = pgnn.EM(tolerance=1e-12, max_iterations=2000)
    repeated = family(2).fit(x, weights=weights, learner=learner, seed=0, progress=False)
    torch.testing.assert_close(repeated.covariance, solved.covariance, rtol=1e-4, atol=1e-4)
    assert repeated.history["log_likelihood"] == pytest.approx(solved.history["log_likelihood"])
    assert FactorEStep(repeated).symmetric(FactorEStep(repeated).read(x, None, None)) is False


def test_whatever_was_observed_is_answered() -> None:
    x = rows()
    model = pgnn.FactorAnalysis(2).fit(x, progress=False)
    holes = rows(8, 0.4)
    answer = model.query("factors", {"x": holes})["factors"]
    torch.testing.assert_close(model.scores(holes), answer.mean, rtol=1e-9, atol=1e-9)
    missing = np.isnan(holes)
    mean = model.query("x", {"x": holes})["x"].mean
    np.testing.assert_allclose(model.reconstruct(holes)[missing], mean[missing], atol=1e-9)
    draws = model.sample(20_000, seed=0)["x"].numpy()
    np.testing.assert_allclose(np.cov(draws.T), model.covariance, atol=0.25)


def test_columns_have_names(tmp_path: Path) -> None:
    frame = pd.DataFrame(rows(missing=0.1), columns=[*"abcde"])
    model = pgnn.FactorAnalysis(1).fit(frame, seed=0, progress=False)
    assert model.columns == (*"abcde",)
    some = model.log_prob(frame[["e", "b"]])
    np.testing.assert_allclose(
        some, dense(model, frame.assign(a=np.nan, c=np.nan, d=np.nan).to_numpy())
    )
    one = model.query("factors", {"b": 4.0, "d": None})["factors"]
    assert float(one.mean[0]) == pytest.approx(float(model.scores([{"b": 4.0}])[0, 0]))
    model.save(tmp_path / "m")
    again = pgnn.load(tmp_path / "m")
    assert again.log_prob(frame).equal(model.log_prob(frame))
    assert again.columns == model.columns
    weighted = frame.assign(often=2.0)
    pgnn.FactorAnalysis(1).fit(weighted, weights="often", seed=0, progress=False)


def test_rotation_changes_the_loadings_alone() -> None:
    model = pgnn.FactorAnalysis(2).fit(rows(), progress=False)
    before, covariance = model.weight.clone(), model.covariance
    model.rotate()
    torch.testing.assert_close(model.covariance, covariance)
    spread = [(w**2).var(dim=0, correction=0).sum() for w in (before, model.weight)]
    assert spread[1] > spread[0]


@pytest.mark.parametrize(
    ("act", "kind", "message"),
    [
        (lambda: pgnn.FactorAnalysis(0), ModelError, "factors must be at least 1"),
        (lambda: pgnn.FactorAnalysis(1, ["a", "a"]), ModelError, "'a' is duplicated"),
        (lambda: pgnn.FactorAnalysis(1, "ab"), ModelError, "features must be"),
        (lambda: pgnn.FactorAnalysis(1, 2, name="z", latent="z"), ModelError, "different names"),
        (lambda: pgnn.FactorAnalysis(1).log_prob(rows()), ModelError, "fit"),
        (lambda: pgnn.FactorAnalysis(1).fit(rows()[0]), DataError, "matrix"),
        (lambda: pgnn.FactorAnalysis(1).fit(np.full((3, 2), np.inf)), DataError, "finite"),
        (lambda: pgnn.FactorAnalysis(1).fit(np.zeros((0, 2))), DataError, "no rows"),
        (lambda: pgnn.FactorAnalysis(1).fit(rows()[:, :0]), DataError, "matrix"),
        (
            lambda: pgnn.FactorAnalysis(1).fit(pd.DataFrame({"a": ["u", "v"], "b": [1, 2]})),
            DataError,
            "column 'a' must be numeric",
        ),
        (
            lambda: pgnn.FactorAnalysis(1).fit(np.array([[1.0, np.nan], [2.0, np.nan]])),
            DataError,
            "no row observes the components",
        ),
    ],
)
def test_what_is_wrong_is_told(act: Any, kind: type, message: str) -> None:
    with pytest.raises(kind, match=message):
        act()


@pytest.mark.filterwarnings("ignore::pgnn.errors.NotConverged")
@pytest.mark.parametrize("family", FAMILIES)
def test_few_rows_and_constant_columns(family: Any) -> None:
    """One row, more factors than numbers, a column of one value: finite numbers come out."""
    for x in (rows(1), rows(3), np.column_stack([rows(20), np.full(20, 7.0)])):
        for k in (1, 6):
            model = family(k).fit(x, seed=0, progress=False)
            assert torch.isfinite(model.log_prob(x)).all()


def test_models_without_numbers_yet_are_shown() -> None:
    assert repr(pgnn.FactorAnalysis(3)) == "FactorAnalysis(3, features=None)"
    assert repr(pgnn.SparseCoding(3)) == "SparseCoding(3, features=None)"
    assert "features=2" in repr(
        pgnn.PrincipalComponents(1).fit([[1.0, 2.0], [2.0, 1.0], [0.0, 3.0]])
    )


@pytest.mark.parametrize("seed", [0, 1])
def test_a_fit_with_missing_cells_does_not_depend_on_the_units_of_columns(seed: int) -> None:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(99, 2)) @ rng.normal(size=(2, 6)) + 0.5 * rng.normal(size=(99, 6)) + 9.0
    x[rng.random(x.shape) < 0.3] = np.nan
    plain = pgnn.FactorAnalysis(2).fit(x, seed=0, progress=False)
    expected = plain.log_prob(x).numpy()
    for unit in (1e-3, 100.0, 1e5):
        units = np.array([unit, 1.0, 1.0 / unit, 1.0, 1.0, 1.0])
        model = pgnn.FactorAnalysis(2).fit(x * units, seed=0, progress=False)
        found = model.log_prob(x * units).numpy() + (~np.isnan(x) * np.log(units)).sum(1)
        np.testing.assert_allclose(found, expected, atol=1e-6)
        assert model.history["iterations"] == plain.history["iterations"]
