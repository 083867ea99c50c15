"""Naive Bayes models and mixtures: the second library's numbers, holes, and a slow twin."""

import functools
import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import torch

import pgnn
from pgnn.errors import EvidenceError, ModelError
from pgnn.inference.learning.class_e_step import ClassEStep
from pgnn.inference.learning.table_e_step import NetworkEStep

RNG = np.random.default_rng(0)
N = 200
Y = RNG.integers(0, 3, N)
COUNTS = RNG.poisson(2.0 + Y[:, None], size=(N, 6)).astype(float)


def diagonal(child: pgnn.Variable, parents: Any) -> pgnn.Conditional:
    return pgnn.Gaussian(child, parents, form=pgnn.Diagonal())


def mixed_rows(missing: float) -> pd.DataFrame:
    """Rows of all kinds, cells of which are missing."""
    rng = np.random.default_rng(1)
    hole = rng.random((N, 3)) < missing
    hole[:3] = False
    return pd.DataFrame(
        {
            "class": np.where(hole[:, 0], None, np.array(["a", "b", "c"])[Y]),
            "real": np.where(hole[:, 1], np.nan, rng.normal(size=N) + Y),
            "count": rng.poisson(1.0 + Y).astype(float),
            "kind": np.where(hole[:, 2], None, np.array(["u", "v"])[(rng.random(N) < Y / 3) * 1]),
        }
    )


def mixed_model() -> pgnn.NaiveBayes:
    return pgnn.NaiveBayes(None, {"real": pgnn.Gaussian, "count": pgnn.Poisson, "kind": None})


@pytest.mark.parametrize("form", ["dense", "sparse"])
@pytest.mark.parametrize("kind", ["MultinomialNB", "BernoulliNB", "GaussianNB"])
def test_equals_scikit_learn(kind: str, form: str) -> None:
    sklearn = pytest.importorskip("sklearn.naive_bayes")
    x, own, other = {
        "MultinomialNB": (COUNTS, pgnn.Multinomial, sklearn.MultinomialNB()),
        "BernoulliNB": ((COUNTS > 2) * 1.0, pgnn.Bernoulli, sklearn.BernoulliNB()),
        "GaussianNB": (COUNTS + 0.5, diagonal, sklearn.GaussianNB(var_smoothing=0.0)),
    }[kind]
    other.fit(x, Y)
    rows = sp.csr_matrix(x) if form == "sparse" else x
    model = pgnn.NaiveBayes(3, {"x": own}, shapes={"x": (6,)})
    model.fit({"class": Y, "x": rows}, progress=False)
    found = model.query("class", {"x": rows})["class"].probs
    np.testing.assert_allclose(found, other.predict_proba(x), atol=1e-9)
    best = model.most_probable({"x": rows}, "class")["class"]
    assert best.tolist() == other.predict(x).tolist()


def test_equals_scikit_learn_on_states() -> None:
    sklearn = pytest.importorskip("sklearn.naive_bayes")
    x = RNG.integers(0, 4, (N, 5))
    columns = {f"x{k}": x[:, k] for k in range(5)}
    model = pgnn.NaiveBayes(3, dict.fromkeys(columns, 4), smoothing=0.5)
    model.fit({"class": Y, **columns}, progress=False)
    expected = sklearn.CategoricalNB(alpha=0.5).fit(x, Y).predict_proba(x)
    np.testing.assert_allclose(model.query("class", columns)["class"].probs, expected, atol=1e-12)


@pytest.mark.parametrize("missing", [0.0, 0.3])
def test_expectations_equal_those_of_elimination(missing: float) -> None:
    rows = mixed_rows(missing)
    model = mixed_model().fit(rows, progress=False, seed=0).requires_grad_()
    fast, slow = ClassEStep(model), NetworkEStep(model)
    observed = slow.read(rows, RNG.random(N), None)
    own, other = fast.expect(observed), slow.expect(observed)
    assert own.log_likelihood == pytest.approx(other.log_likelihood, rel=1e-12)
    torch.testing.assert_close(fast.log_partition(observed), slow.log_partition(observed))
    # a feature that was not observed counts nothing here, and its expectation there
    names = [n for n in own.sums if n != "kind" or not missing]
    assert len(names) >= 3
    for name in names:
        for a, b in zip(own.sums[name], other.sums[name], strict=True):
            torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)


def test_holes_are_learnt_from() -> None:
    rows = mixed_rows(0.3)
    model = mixed_model().fit(rows, progress=False, seed=0)
    trace = model.history["trace"]["objective"]
    assert model.history["converged"]
    assert all(b >= a - 1e-9 * abs(a) for a, b in itertools.pairwise(trace))
    assert model.history["log_likelihood"] == pytest.approx(float(model.log_prob(rows).sum()))
    told = mixed_model().fit(rows.dropna(subset="class"), progress=False, seed=0)
    assert float(model.log_prob(rows).sum()) > float(told.log_prob(rows).sum())


def test_columns_that_are_ignored_are_no_features() -> None:
    rows = mixed_rows(0.0).assign(number=range(len(mixed_rows(0.0))))
    expected = mixed_model().fit(rows.drop(columns="number"), seed=0, progress=False)
    found = mixed_model().fit(pgnn.observed(rows, ignore=["number"]), seed=0, progress=False)
    for name, value in expected.state_dict().items():
        torch.testing.assert_close(found.state_dict()[name], value)


def test_is_kept(tmp_path: Path) -> None:
    rows = mixed_rows(0.2)
    model = mixed_model().fit(rows, progress=False, seed=0)
    model.save(tmp_path / "m")
    again = pgnn.load(tmp_path / "m")
    assert type(again) is pgnn.NaiveBayes
    assert again.log_prob(rows).equal(model.log_prob(rows))
    assert again.sample(4, seed=1).frame().equals(model.sample(4, seed=1).frame())


def test_mixture_is_kept_and_drawn_from(tmp_path: Path) -> None:
    features = {"x": pgnn.Gaussian, "words": pgnn.Multinomial}
    rows = {"x": COUNTS[:, :2] + RNG.normal(size=(N, 2)), "words": COUNTS}
    model = pgnn.Mixture(2, features).fit(rows, progress=False, seed=0)
    model.save(tmp_path / "m")
    again = pgnn.load(tmp_path / "m")
    assert type(again) is pgnn.Mixture
    assert again.log_prob(rows).equal(model.log_prob(rows))
    assert model.sample(5, seed=0)["x"].shape == (5, 2)


def test_classes_that_nobody_told_apart_are_found() -> None:
    """Ten well separated clusters, and a component that no start leaves empty."""
    rng = np.random.default_rng(3)
    where = np.repeat(np.arange(4), 50)
    x = rng.normal(size=(200, 3)) + 10 * np.eye(4)[where][:, :3]
    model = pgnn.Mixture(4, {"x": pgnn.Gaussian}).fit({"x": x}, seed=0, progress=False)
    found = model.query("component", {"x": x})["component"].probs.argmax(-1)
    for k in range(4):
        assert len(set(found[where == k].tolist())) == 1
    assert sorted(model.history["occupancy"]) == pytest.approx([50.0] * 4, abs=1e-3)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: pgnn.NaiveBayes(2, {}), "a feature is needed"),
        (lambda: pgnn.NaiveBayes(2, {"class": 3}), "has the name of the class"),
        (lambda: pgnn.NaiveBayes(2, {"x": 3}, smoothing=-1.0), "smoothing must"),
        (lambda: pgnn.NaiveBayes(2, {"x": [[0.5, 0.5]]}), "shape"),
    ],
)
def test_wrong_declarations(make: Any, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        make()


def test_equals_linear_discriminants() -> None:
    analysis = pytest.importorskip("sklearn.discriminant_analysis")
    x = COUNTS + RNG.normal(size=COUNTS.shape)
    model = pgnn.NaiveBayes(None, {"x": functools.partial(pgnn.Gaussian, form=pgnn.Tied())})
    model.fit({"x": x, "class": Y}, progress=False)  # the shape is found in the data
    other = analysis.LinearDiscriminantAnalysis(solver="lsqr").fit(x, Y)
    found = model.query("class", {"x": x})["class"].probs
    np.testing.assert_allclose(found, other.predict_proba(x), atol=1e-9)


def test_a_shape_that_nobody_told() -> None:
    model = pgnn.NaiveBayes(2, {"x": pgnn.Gaussian})
    with pytest.raises(ModelError, match=r"the shape of 'x' is not known; give shapes="):
        model.query("class", {"x": 1.0})


def test_wrong_counts() -> None:
    model = pgnn.NaiveBayes(2, {"x": pgnn.Multinomial}, shapes={"x": (2,)})
    with pytest.raises(EvidenceError, match="counts, nonnegative integers"):
        model.log_prob({"x": [[0.5, 1.0]]})
    with pytest.raises(EvidenceError, match="NaN in a part"):
        model.log_prob({"x": [[np.nan, 1.0]]})
    unobserved = model.log_prob({"x": [[np.nan, np.nan], [0.0, 0.0]]})
    torch.testing.assert_close(unobserved.detach(), torch.zeros(2, dtype=torch.float64))
