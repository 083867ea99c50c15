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
    with pytest.raises(Unsupported, match="share a covariance"):
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
