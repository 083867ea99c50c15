"""Linear and quadratic discriminants: scikit-learn's numbers, rows with holes, names."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

import pgnn
from pgnn.errors import ModelError, Unsupported

RNG = np.random.default_rng(0)
Y = RNG.integers(0, 3, 300)
X = RNG.normal(size=(300, 4)) @ RNG.normal(size=(4, 4)) + 2 * RNG.normal(size=(3, 4))[Y] + 10.0


@pytest.mark.parametrize(
    ("form", "kind", "solver"),
    [
        (pgnn.Tied(), "LinearDiscriminantAnalysis", "lsqr"),
        (pgnn.Full(), "QuadraticDiscriminantAnalysis", "eigen"),
    ],
)
def test_equals_scikit_learn(form: Any, kind: str, solver: str) -> None:
    sklearn = pytest.importorskip("sklearn.discriminant_analysis")
    try:
        other = getattr(sklearn, kind)(solver=solver).fit(X, Y)
    except TypeError:
        pytest.skip("an older scikit-learn divides covariances by other numbers")
    model = pgnn.GaussianDiscriminant(form=form).fit({"class": Y, "x": X}, progress=False)
    np.testing.assert_allclose(
        model.query("class", X)["class"].probs, other.predict_proba(X), atol=1e-9
    )
    best = model.most_probable(X, "class")["class"]
    assert best.tolist() == other.predict(X).tolist()


def test_two_classes_are_a_logistic_regression() -> None:
    rows = Y < 2
    model = pgnn.GaussianDiscriminant(2).fit({"class": Y[rows], "x": X[rows]}, progress=False)
    weight, bias = model.linear_scores()
    odds = torch.from_numpy(X[rows]) @ (weight[1] - weight[0]) + bias[1] - bias[0]
    found = model.query("class", X[rows])["class"].probs
    torch.testing.assert_close(found[:, 1], torch.sigmoid(odds), rtol=1e-9, atol=1e-9)
    with pytest.raises(Unsupported, match="with a shared covariance"):
        pgnn.GaussianDiscriminant(2, 4, pgnn.Full()).linear_scores()


def test_labels_and_numbers_may_be_missing(tmp_path: Path) -> None:
    frame = pd.DataFrame(X, columns=[*"abcd"])
    frame["class"] = pd.Categorical.from_codes(Y, ["u", "v", "w"])
    holes = frame.copy()
    holes.loc[RNG.random(300) < 0.8, "class"] = None
    holes.loc[RNG.random(300) < 0.2, "a"] = np.nan
    model = pgnn.GaussianDiscriminant().fit(holes, seed=0, progress=False)
    found = model.most_probable(frame.drop(columns="class"), "class").frame()["class"]
    assert (found.astype(str) == frame["class"].astype(str)).mean() > 0.9
    told = pgnn.GaussianDiscriminant().fit(holes.dropna(), progress=False)
    assert float(model.log_prob(holes).sum()) > float(told.log_prob(holes).sum())
    model.save(tmp_path / "m")
    again = pgnn.load(tmp_path / "m")
    assert again.log_prob(holes).equal(model.log_prob(holes))
    one = again.query("class", {"a": 9.0, "d": None})["class"].probs
    assert float(one.sum()) == pytest.approx(1.0)


def test_wrong_declarations() -> None:
    with pytest.raises(ModelError, match="form must be one such as"):
        pgnn.GaussianDiscriminant(form="full")  # type: ignore[arg-type]
    with pytest.raises(ModelError, match="name of the class"):
        pgnn.GaussianDiscriminant(2, 3, name="class")


def test_shrinkage_equals_scikit_learn() -> None:
    covariance = pytest.importorskip("sklearn.covariance")
    few = np.concatenate([np.flatnonzero(k == Y)[: 5 + k] for k in range(3)])
    x, y = X[few] * [1.0, 5.0, 0.2, 1.0], Y[few]
    rows = {"class": y, "x": x}
    told = pgnn.GaussianDiscriminant(form=pgnn.Full(shrinkage=pgnn.LedoitWolf())).fit(rows)
    given = pgnn.GaussianDiscriminant(form=pgnn.Tied(shrinkage=0.25)).fit(rows)
    pooled = np.zeros((4, 4))
    for k in range(3):
        own = x[y == k]
        scale = own.std(axis=0)
        expected = covariance.ledoit_wolf((own - own.mean(0)) / scale)[0] * np.outer(scale, scale)
        np.testing.assert_allclose(told.covariance[k], expected, rtol=1e-9, atol=1e-9)
        pooled += np.cov(own.T, ddof=0) * len(own) / len(x)
    pooled *= np.where(np.eye(4) > 0, 1.0, 0.75)
    np.testing.assert_allclose(given.covariance[0], pooled, rtol=1e-9, atol=1e-12)


def test_shrinkage_by_pooled_rows_is_kept(tmp_path: Path) -> None:
    form = pgnn.Tied(shrinkage=pgnn.LedoitWolf())
    model = pgnn.GaussianDiscriminant(form=form).fit({"class": Y, "x": X})
    means = np.stack([X[k == Y].mean(0) for k in range(3)])
    share = pgnn.LedoitWolf().share(torch.from_numpy(X - means[Y]), torch.ones(300).double())
    within = np.cov((X - means[Y]).T, ddof=0) * np.where(np.eye(4) > 0, 1.0, 1.0 - share)
    assert 0.0 < share < 0.2
    np.testing.assert_allclose(model.covariance[0], within, rtol=1e-9, atol=1e-12)
    model.save(tmp_path / "model")
    assert pgnn.load(tmp_path / "model").form == form


def test_shrinkage_that_cannot_be() -> None:
    with pytest.raises(ModelError, match="shrinkage must be"):
        pgnn.Full(shrinkage=1.5)
    holes, labels = X.copy(), np.where(Y > 0, Y, -1)
    holes[0, 0] = np.nan
    model = pgnn.GaussianDiscriminant(3, form=pgnn.Full(shrinkage=pgnn.LedoitWolf()))
    for rows in ({"class": Y, "x": holes}, {"class": labels, "x": X}):
        with pytest.raises(Unsupported, match="LedoitWolf"):
            model.fit(rows, progress=False)
