"""Few labels: EM, pseudo-labels, entropy, shifted priors; each against what it should reach."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

import pgnn
from pgnn.errors import DataError, ModelError

RNG = np.random.default_rng(0)
N = 600
Y = RNG.integers(0, 2, N)
X = RNG.normal(size=(N, 4)) + 1.1 * (2 * Y - 1)[:, None] * [1.0, 1.0, -1.0, 1.0]
LABELS = np.where(np.arange(N) < 8, Y, -1)
ROWS = {"class": LABELS, "a": X[:, :2], "b": X[:, 2:]}
FEATURES = {"a": pgnn.Gaussian, "b": pgnn.Gaussian}


def right(model: Any) -> float:
    rows = {n: x for n, x in ROWS.items() if n != "class"}
    return float((model.most_probable(rows, "class")["class"].numpy() == Y).mean())


def few() -> pgnn.NaiveBayes:
    told = {n: x[:8] for n, x in ROWS.items()}
    return pgnn.NaiveBayes(2, FEATURES).fit(told, progress=False)


def test_em_takes_labels_for_cells_that_may_be_missing() -> None:
    """The means are pooled over rows with and without labels, each by its probability."""
    learner = pgnn.EM(tolerance=1e-12)
    model = pgnn.NaiveBayes(2, FEATURES).fit(ROWS, learner=learner, seed=0, progress=False)
    assert right(model) > right(few()) + 0.01
    share = model.query("class", ROWS)["class"].probs.numpy()
    share = np.where((LABELS >= 0)[:, None], np.eye(2)[LABELS], share)
    for name in FEATURES:
        pooled = share.T @ ROWS[name] / share.sum(axis=0)[:, None]
        np.testing.assert_allclose(model.conditionals[name].mean.detach(), pooled, atol=1e-4)


def test_soft_self_training_is_em() -> None:
    em = pgnn.EM(tolerance=1e-13, initialize=False, accelerate=False, max_iterations=3000)
    base = pgnn.NaiveBayes(2, FEATURES).fit({n: x[:8] for n, x in ROWS.items()}, progress=False)
    expected = base.requires_grad_().fit(ROWS, learner=em, progress=False)
    learner = pgnn.SelfTraining(hard=False, rounds=400)
    model = pgnn.NaiveBayes(2, FEATURES).fit(ROWS, learner=learner, progress=False)
    for a, b in zip(model.parameters(), expected.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-3)


def test_hard_labels_help() -> None:
    model = pgnn.NaiveBayes(2, FEATURES)
    model.fit(ROWS, learner=pgnn.SelfTraining(threshold=0.8), progress=False)
    assert right(model) > right(few())
    assert model.history["labelled"] == 8
    assert model.history["trace"]["pseudo_labels"][-1] > 300
    frame = pd.DataFrame(X, columns=[*"abcd"]).assign(
        k=np.where(LABELS < 0, None, np.where(Y, "u", "v"))
    )
    regression = pgnn.LogisticRegression("k", prior=pgnn.NormalPrior(1.0))
    regression.fit(frame, learner=pgnn.SelfTraining(), progress=False)
    assert ((regression.predict(frame) == "u") == Y).mean() > 0.9


def test_two_views_teach_each_other() -> None:
    model = pgnn.NaiveBayes(2, FEATURES)
    learner = pgnn.CoTraining(views=["a", "b"], threshold=0.9)
    model.fit(ROWS, learner=learner, progress=False)
    assert right(model) > right(few())
    with pytest.raises(ModelError, match="two or more"):
        pgnn.CoTraining(views=[["a"]])
    with pytest.raises(ModelError, match="must contain features"):
        model.fit(ROWS, learner=pgnn.CoTraining(views=["a", "z"]), progress=False)


def test_doubtful_labels_are_penalised() -> None:
    """The value is the one written down, and boundaries move out of where rows lie."""
    frame = pd.DataFrame(X, columns=[*"abcd"])
    labels = np.where(LABELS < 0, None, np.where(Y, "u", "v"))
    found = {}
    for strength in (0.0, 0.5):
        model = pgnn.LogisticRegression("k", [*"abcd"], prior=None)
        learner = pgnn.EntropyRegularization(strength=strength, l2=1e-3)
        model.fit(frame.assign(k=labels), learner=learner, progress=False)
        p = model.query("k", frame)["k"].probs.numpy()
        entropy = -(p * np.log(np.clip(p, 1e-300, 1))).sum(axis=1)[LABELS < 0]
        told = p[LABELS >= 0][np.arange(8), np.where(Y[:8] == 1, 0, 1)]
        value = np.log(told).sum() - strength * entropy.sum()
        assert model.history["log_likelihood"] == pytest.approx(value, abs=1e-6)
        found[strength] = entropy.mean()
    assert found[0.5] < found[0.0]


def test_shifted_priors_are_found() -> None:
    """Where classes are ten times as frequent as before; EM of the one table agrees."""
    model = pgnn.NaiveBayes(2, FEATURES).fit({**ROWS, "class": Y}, progress=False)
    rare = RNG.random(N) < np.where(Y == 1, 0.1, 1.0)
    new = {n: x[rare] for n, x in ROWS.items() if n != "class"}
    means = [model.conditionals[n].mean.clone() for n in FEATURES]
    before = float(model.log_prob(new).sum())
    model.fit(new, learner=pgnn.PriorShift(), progress=False)
    assert float(model.query("class")["class"].probs[1]) == pytest.approx(Y[rare].mean(), abs=0.03)
    assert all(
        torch.equal(m, model.conditionals[n].mean) for m, n in zip(means, FEATURES, strict=True)
    )
    after = float(model.log_prob(new).sum())
    assert model.history["gain"] == pytest.approx(after - before)
    fixed = {n: c.requires_grad_(False) for n, c in model.features.items()}
    slow = pgnn.NaiveBayes(2, fixed)
    slow.fit(new, learner=pgnn.EM(tolerance=1e-13, initialize=False), seed=0, progress=False)
    torch.testing.assert_close(
        slow.query("class")["class"].probs,
        model.query("class")["class"].probs,
        rtol=1e-4,
        atol=1e-4,
    )


@pytest.mark.parametrize(
    "learner",
    [pgnn.SelfTraining(), pgnn.CoTraining(views=["a", "b"]), pgnn.EntropyRegularization()],
)
def test_some_labels_are_needed(learner: Any) -> None:
    rows = {**ROWS, "class": np.full(N, -1)}
    with pytest.raises(DataError, match="some rows need one"):
        pgnn.NaiveBayes(2, FEATURES).fit(rows, learner=learner, progress=False)
    network = pgnn.BayesianNetwork([("u", "v")], states={"u": 2, "v": 2})
    with pytest.raises(ModelError, match="target="):
        network.fit({"u": [0, 1], "v": [0, 1]}, learner=learner, progress=False)
