"""What is learnt by where no learner is named: counts of complete rows, expectations of others."""

import numpy as np
import pandas as pd
import pytest
import torch

import pgnn

RNG = np.random.default_rng(0)
Y = RNG.integers(0, 2, 60)
X = RNG.normal(size=(60, 2)) + 3.0 * Y[:, None]


def learner_of(model: pgnn.Model) -> str:
    return str(model.history["learner"]).split("(")[0]


@pytest.mark.parametrize("hole", [False, True])
def test_holes_choose_the_learner(hole: bool) -> None:
    x = X.copy()
    x[3, 0] = np.nan if hole else 0.0
    named = {"class": Y, "a": x[:, 0], "b": x[:, 1]}
    models = {
        "matrix": pgnn.GaussianDiscriminant().fit({"class": Y, "x": x}, progress=False),
        "named": pgnn.GaussianDiscriminant().fit(pd.DataFrame(named), progress=False),
        "declared": pgnn.GaussianDiscriminant(2, ["a", "b"]).fit(named, progress=False),
        "factors": pgnn.FactorAnalysis(1).fit(x, progress=False),
    }
    for name, model in models.items():
        assert learner_of(model) == ("EM" if hole else "MaximumLikelihood"), name


def test_a_column_of_weights_is_none_of_the_model() -> None:
    counts = np.arange(60) % 3
    rows = pd.DataFrame({"class": Y, "x": X[:, 0], "w": counts})
    model = pgnn.NaiveBayes(2, {"x": pgnn.Gaussian}).fit(rows, weights="w", progress=False)
    expected = [np.average(X[k == Y, 0], weights=counts[k == Y]) for k in (0, 1)]
    assert learner_of(model) == "MaximumLikelihood"
    assert model.history["weight"] == counts.sum()
    np.testing.assert_allclose(model.conditionals["x"].mean.detach(), expected, atol=1e-12)


def test_batches() -> None:
    model = pgnn.NaiveBayes(2, {"word": 2}, smoothing=0.0)
    model.fit(iter([{"class": [0, 1], "word": [0, 1]}, {"class": [1], "word": [0]}]))
    assert model.history["rows"] == 3
    torch.testing.assert_close(
        model.conditionals["word"].probs.detach(),
        torch.tensor([[1.0, 0.0], [0.5, 0.5]], dtype=torch.float64),
    )


def test_rows_that_were_read_already_are_counted() -> None:
    words = {"class": [0, 0, 1, 1, None, None], "word": [0, 0, 1, 1, 0, 1]}
    model = pgnn.NaiveBayes(2, {"word": 2})
    model.fit(words, learner=pgnn.SelfTraining(threshold=0.6), progress=False)
    assert model.history["labelled"] == 4
    assert model.query("class", {"word": 1})["class"].probs[1] > 0.6
