"""Regressions: scikit-learn's numbers at the optimum, posteriors in closed form, priors in EM."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

import pgnn
from pgnn.errors import DataError, ModelError, Unsupported

RNG = np.random.default_rng(0)
N = 200
X = RNG.normal(size=(N, 5)) * [1.0, 2.0, 3.0, 1.0, 2.0] + 4.0
Y = X @ [1.0, -2.0, 0.0, 0.5, 0.0] + 3.0 + 2.0 * RNG.normal(size=N)
NAMES = [*"abcde"]
FRAME = pd.DataFrame(X, columns=NAMES)
CLASSES = np.array(["u", "v", "w"])[np.digitize(Y, np.quantile(Y, [0.3, 0.6]))]
HALVES = np.where(np.median(Y) < Y, "yes", "no")


def numbers(other: Any) -> np.ndarray:
    return np.append(np.ravel(other.coef_), other.intercept_)


@pytest.mark.parametrize("kind", ["LinearRegression", "Ridge", "Lasso"])
def test_least_squares_equal_scikit_learn(kind: str) -> None:
    sklearn = pytest.importorskip("sklearn.linear_model")
    prior, options = {
        "LinearRegression": (None, {}),
        "Ridge": (pgnn.NormalPrior(0.3**-0.5), {"alpha": 0.3}),
        "Lasso": (
            pgnn.LaplacePrior(1 / (0.7 * N)),
            {"alpha": 0.7, "tol": 1e-12, "max_iter": 10**5},
        ),
    }[kind]
    other = getattr(sklearn, kind)(**options).fit(X, Y)
    model = pgnn.LinearRegression("y", prior=prior, noise=None if prior is None else 1.0)
    model.fit(FRAME.assign(y=Y), progress=False)
    weights = model.coefficients()["weight"]
    np.testing.assert_allclose(weights, numbers(other), atol=1e-9)
    assert [*weights.index] == [*NAMES, "bias"]
    np.testing.assert_allclose(model.predict(FRAME), other.predict(X), atol=1e-9)
    if kind == "Lasso":
        assert (weights.to_numpy()[:-1] == 0).tolist() == (other.coef_ == 0).tolist()


@pytest.mark.parametrize("strength", [1.0, 0.05, None])
@pytest.mark.parametrize("labels", [HALVES, CLASSES], ids=["logistic", "softmax"])
def test_classes_equal_scikit_learn(labels: np.ndarray, strength: float | None) -> None:
    sklearn = pytest.importorskip("sklearn.linear_model")
    C = np.inf if strength is None else strength
    other = sklearn.LogisticRegression(C=C, tol=1e-10, max_iter=10**4, solver="newton-cg")
    other.fit(X, labels)
    prior = None if strength is None else pgnn.NormalPrior(strength**0.5)
    model = pgnn.LogisticRegression("k", prior=prior).fit(FRAME.assign(k=labels), progress=False)
    found = model.query("k", FRAME)["k"].probs
    np.testing.assert_allclose(found, other.predict_proba(X), atol=1e-6)
    if prior is not None:
        table = model.coefficients().to_numpy()[:-1]
        np.testing.assert_allclose(table, other.coef_.T, atol=1e-6)
    assert (model.predict(FRAME) == other.predict(X)).all()


def test_a_laplace_prior_selects_features_of_classes() -> None:
    sklearn = pytest.importorskip("sklearn.linear_model")
    other = sklearn.LogisticRegression(
        C=0.1, l1_ratio=1.0, tol=1e-12, max_iter=10**5, solver="saga"
    )
    try:
        other.fit(X, HALVES)
    except (TypeError, ValueError):
        pytest.skip("an older scikit-learn names the penalty otherwise")
    model = pgnn.LogisticRegression("k", prior=pgnn.LaplacePrior(0.1))
    weights = model.fit(FRAME.assign(k=HALVES), progress=False).coefficients()["weight"]
    np.testing.assert_allclose(weights, numbers(other), atol=1e-5)
    assert (weights == 0).any()


def test_weights_have_a_posterior() -> None:
    scale, noise = 0.8, 3.0
    model = pgnn.BayesianRegression("y", scale=scale, noise=noise)
    model.fit(FRAME.assign(y=Y), progress=False)
    z = np.column_stack([X, np.ones(N)])
    precision = z.T @ z / noise + np.diag([scale**-2] * 5 + [0.0])
    spread = np.linalg.inv(precision)
    mean = spread @ z.T @ Y / noise
    np.testing.assert_allclose(model.posterior.mean, mean, atol=1e-8)
    np.testing.assert_allclose(model.posterior.covariance_matrix, spread, atol=1e-8)
    answer = model.query("y", FRAME)["y"]
    np.testing.assert_allclose(answer.mean, z @ mean, atol=1e-8)
    np.testing.assert_allclose(answer.std**2, noise + ((z @ spread) * z).sum(axis=1), atol=1e-8)
    logs = torch.distributions.Normal(answer.mean, answer.std).log_prob(torch.from_numpy(Y))
    torch.testing.assert_close(model.log_prob(FRAME.assign(y=Y)), logs)
    # the evidence: rows are jointly normal, with a wide prior on the bias
    wide = 1e4
    joint = noise * np.eye(N) + scale**2 * X @ X.T + wide**2
    expected = torch.distributions.MultivariateNormal(
        torch.zeros(N).double(), torch.from_numpy(joint)
    ).log_prob(torch.from_numpy(Y))
    flat = np.log(wide) + 0.5 * np.log(2 * np.pi)
    assert model.log_evidence == pytest.approx(float(expected) + flat, abs=1e-3)


def test_scale_and_noise_are_those_of_the_largest_evidence() -> None:
    rows = FRAME.assign(y=Y)
    best = pgnn.BayesianRegression("y").fit(rows, progress=False)
    own: Any = best.conditional
    scale, noise = float(own.prior_scale), float(own.covariance.detach())
    for s, v in [(1.01, 1.0), (0.99, 1.0), (1.0, 1.01), (1.0, 0.99)]:
        other = pgnn.BayesianRegression("y", scale=scale * s, noise=noise * v)
        assert other.fit(rows, progress=False).log_evidence < best.log_evidence


@pytest.mark.parametrize("prior", [pgnn.NormalPrior(0.3), pgnn.LaplacePrior(0.02)])
def test_em_takes_priors_of_parameters(prior: Any) -> None:
    """With everything observed its fixed point is the mode that maximum likelihood finds."""
    edges = [("a", "k"), ("b", "k"), ("k", "y"), ("a", "y")]
    states = {n: pgnn.Variable(n) for n in "aby"} | {"k": ["no", "yes"]}
    kinds = {"k": pgnn.Logistic, "y": pgnn.LinearGaussian}
    rows = FRAME[["a", "b"]].assign(k=HALVES, y=Y)
    counted = pgnn.BayesianNetwork(edges, kinds, states)
    counted.fit(rows, learner=pgnn.MaximumLikelihood({"k": prior, "y": prior}), progress=False)
    learner = pgnn.EM({"k": prior, "y": prior}, tolerance=1e-12)
    repeated = pgnn.BayesianNetwork(edges, kinds, states).fit(rows, learner=learner, progress=False)
    for name in ("k", "y"):
        pairs = zip(*(m.conditionals[name].parameters() for m in (counted, repeated)), strict=True)
        for a, b in pairs:
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)
    holes = rows.mask(np.random.default_rng(3).random(rows.shape) < [[0.0, 0.0, 0.3, 0.3]])
    model = pgnn.BayesianNetwork(edges, kinds, states).fit(holes, learner=learner, progress=False)
    trace = model.history["trace"]["objective"]
    assert min(np.diff(trace)) >= -1e-8 * abs(trace[-1])


@pytest.mark.parametrize(
    "model",
    [
        pgnn.LinearRegression("y", ["a", "b"], pgnn.NormalPrior(1.0)),
        pgnn.LogisticRegression("k", ["a", "b"]),
        pgnn.BayesianRegression("y", ["a", "b"]),
        pgnn.Regression("y", ["a", "b"], lambda y, x: pgnn.LinearGaussian(y, x)),
    ],
    ids=repr,
)
def test_is_kept(model: Any, tmp_path: Path) -> None:
    rows = FRAME[["a", "b"]].assign(**{model.child: HALVES if model.child == "k" else Y})
    model.fit(rows, progress=False)
    model.save(tmp_path / "m")
    again = pgnn.load(tmp_path / "m")
    assert type(again) is type(model)
    assert again.log_prob(rows).equal(model.log_prob(rows))
    assert np.array_equal(again.predict(rows), model.predict(rows))
    drawn = [m.sample(2, rows[["a", "b"]].head(3), seed=0)[model.child] for m in (model, again)]
    assert drawn[0].equal(drawn[1])
    refitted = again.fit(rows, progress=False).log_prob(rows)
    torch.testing.assert_close(refitted, model.log_prob(rows))


def test_matrices_and_labels_are_parents() -> None:
    rows = {"y": Y, "x": X}
    model = pgnn.LinearRegression("y", "x").fit(rows, progress=False)
    plain = pgnn.LinearRegression("y").fit(FRAME.assign(y=Y), progress=False)
    np.testing.assert_allclose(model.coefficients()["weight"], plain.coefficients()["weight"])
    mixed = FRAME[["a"]].assign(group=np.where(X[:, 1] > 4, "g", "h"), k=HALVES)
    found = pgnn.LogisticRegression("k", prior=pgnn.NormalPrior(1.0)).fit(mixed, progress=False)
    assert [*found.coefficients().index] == ["a", ("group", "h"), "bias"]
    weighted = found.fit(mixed.assign(often=2.0), weights="often", progress=False)
    assert weighted.history["weight"] == 2.0 * N


@pytest.mark.parametrize(
    ("act", "kind", "message"),
    [
        (lambda: pgnn.LinearRegression("y", ["y"]), ModelError, "twice"),
        (lambda: pgnn.LinearRegression("y", prior=3.0), ModelError, "NormalPrior"),
        (lambda: pgnn.NormalPrior(0.0), ModelError, "positive|in"),
        (lambda: pgnn.NormalPrior(1.0, "weight"), ModelError, "list of names"),
        (lambda: pgnn.LinearRegression("y").fit({"y": Y}), DataError, "needs a predictor"),
        (lambda: pgnn.LogisticRegression("y", "x").predict({"x": X[:, 0]}), ModelError, "fit"),
        (
            lambda: pgnn.LinearRegression("y").fit(FRAME.assign(y=Y, a=np.nan)),
            DataError,
            "'a'|missing",
        ),
        (
            lambda: (
                pgnn.BayesianRegression("y", "a")
                .fit(FRAME[["a"]].assign(y=Y), progress=False)
                .query("y")
            ),
            Unsupported,
            "is predicted if",
        ),
    ],
)
def test_what_is_wrong_is_told(act: Any, kind: type, message: str) -> None:
    with pytest.raises(kind, match=message):
        act()


@pytest.mark.parametrize(("far", "unit"), [(1e6, 1.0), (0.0, 1e-5), (1e6, 0.1)])
def test_neither_units_nor_the_origin_matter(far: float, unit: float) -> None:
    near, moved = {"y": Y, "k": HALVES, "x": X}, {"y": Y + far, "k": HALVES, "x": X * unit + far}
    for make, scale in (
        (lambda s: pgnn.LinearRegression("y", "x"), 1.0),
        (lambda s: pgnn.LinearRegression("y", "x", pgnn.NormalPrior(2.0 * s), 1.0), 1.0 / unit),
        (lambda s: pgnn.BayesianRegression("y", "x", 2.0 * s, 1.0), 1.0 / unit),
        (lambda s: pgnn.LogisticRegression("k", "x", pgnn.NormalPrior(2.0 * s)), 1.0 / unit),
    ):
        found = []
        for data, s in ((near, 1.0), (moved, scale)):
            model = make(s)
            rows = {n: data[n] for n in (model.child, "x")}
            found.append(model.fit(rows, progress=False).coefficients()["weight"].to_numpy()[:-1])
        np.testing.assert_allclose(found[1] * unit, found[0], rtol=1e-6, atol=1e-7)


def test_rows_that_tell_a_bayesian_regression_nothing() -> None:
    one = {"x": [1.0], "y": [2.0]}
    with pytest.raises(DataError, match="one row determines neither the noise of 'y'"):
        pgnn.BayesianRegression("y", "x", scale=1.0).fit(one)
    given = pgnn.BayesianRegression("y", "x", scale=1.0, noise=1.0).fit(one)
    assert float(given.predict({"x": [1.0]})[0]) == pytest.approx(2.0)
    huge = {"x": [1e200, 2e200, 4e200], "y": [1.0, 2.0, 3.0]}
    with pytest.raises(DataError, match="take other units"):
        pgnn.BayesianRegression("y", "x").fit(huge)


def test_a_prediction_names_the_input_that_is_missing() -> None:
    rng = np.random.default_rng(0)
    table = pd.DataFrame(rng.normal(size=(20, 3)), columns=["a", "b", "y"])
    model = pgnn.LinearRegression("y").fit(table, progress=False)
    with pytest.raises(pgnn.EvidenceError, match="'a' is missing"):
        model.predict({"b": 1.0})


@pytest.mark.parametrize("prior", [pgnn.NormalPrior(0.2), pgnn.LaplacePrior(0.05)])
def test_the_prior_is_the_models_whoever_learns(prior: Any) -> None:
    rng = np.random.default_rng(0)
    table = pd.DataFrame(rng.normal(size=(60, 2)), columns=["a", "b"])
    table["y"] = table["a"] - table["b"] + rng.normal(size=60)

    def model() -> pgnn.LinearRegression:
        return pgnn.LinearRegression("y", ["a", "b"], prior=prior)

    expected = model().fit(table).coefficients().to_numpy()
    by_em = model().fit(table, learner=pgnn.EM(tolerance=1e-12), progress=False)
    assert by_em.coefficients().to_numpy() == pytest.approx(expected, abs=1e-5)
    batches = model()
    for first in range(0, 60, 20):
        batches.partial_fit(table[first : first + 20])
    assert batches.coefficients().to_numpy() == pytest.approx(expected, abs=1e-6)
    with pytest.raises(Unsupported, match="use l1= or l2="):
        model().fit(table, learner=pgnn.Gradient())


@pytest.mark.parametrize("kind", [pgnn.LinearRegression, pgnn.BayesianRegression])
def test_batches_tell_the_parents_too(kind: Any) -> None:
    table = pd.DataFrame({"x": [0.0, 1.0, 2.0, 3.0, 5.0, 4.0], "y": [1.0, 3.0, 4.0, 9.0, 9.0, 8.0]})
    expected = kind("y", "x").fit(table).coefficients()
    model = kind("y")
    with pytest.raises(DataError, match="needs a predictor, got only the column 'y'"):
        model.partial_fit(table[["y"]])
    for part in (table[:4], table[4:]):
        model.partial_fit(part)
    pd.testing.assert_frame_equal(model.coefficients(), expected, atol=1e-9)


def test_a_fit_that_fails_forgets_the_parents_it_found() -> None:
    table = pd.DataFrame({"x": [0.0, 1.0, 2.0, 3.0], "y": [1.0, np.nan, 4.0, 9.0]})
    model = pgnn.LinearRegression("y")
    with pytest.raises(DataError, match="cells are missing"):
        model.fit(table)
    model.fit(table.dropna().rename(columns={"x": "u"}))
    assert [*model.coefficients().index] == ["u", "bias"]


@pytest.mark.parametrize("kind", [pgnn.LinearRegression, pgnn.LogisticRegression])
def test_values_whose_squares_overflow(kind: Any) -> None:
    table = pd.DataFrame({"x": [1e300, 2e300, 3e300, -1e300], "y": [0, 1, 0, 1]})
    with pytest.raises(DataError, match=r"values of 'x'.* are so large that sums"):
        kind("y", "x").fit(table, progress=False)


@pytest.mark.parametrize(("of_x", "of_y"), [(1e80, 1e80), (1e-100, 1e-100), (1e-30, 1e100)])
def test_bayesian_regression_is_the_same_in_all_units(of_x: float, of_y: float) -> None:
    rng = np.random.default_rng(0)
    x = rng.normal([3.0, -1.0], size=(100, 2))
    y = x @ [1.0, 2.0] + rng.normal(size=100)
    one = pgnn.BayesianRegression("y").fit({"x": x, "y": y}, progress=False)
    other = pgnn.BayesianRegression("y").fit({"x": of_x * x, "y": of_y * y}, progress=False)
    expected, answer = one.query("y", {"x": x})["y"], other.query("y", {"x": of_x * x})["y"]
    np.testing.assert_allclose(answer.mean / of_y, expected.mean, rtol=1e-9)
    np.testing.assert_allclose(answer.std / of_y, expected.std, rtol=1e-9)
    shift = 99 * np.log(of_y)  # the bias has a flat prior
    assert other.log_evidence == pytest.approx(one.log_evidence - shift, abs=1e-6)


def test_predictions_of_a_frame_have_its_index() -> None:
    frame = FRAME.set_index(np.arange(len(FRAME)) + 7)
    line = pgnn.LinearRegression("y").fit(frame.assign(y=Y), progress=False)
    named = line.predict(frame)
    assert named.name == "y"
    assert float((pd.Series(Y, frame.index) - named).abs().max()) < 10
    assert [*named.index] == [*frame.index]
    plain = line.predict({n: torch.tensor(frame[n].to_numpy()) for n in frame})
    assert isinstance(plain, torch.Tensor)
    np.testing.assert_allclose(named, plain)
    classes = pgnn.LogisticRegression("k").fit(frame.assign(k=HALVES), progress=False)
    assert [*classes.predict(frame).index] == [*frame.index]
