"""Rows without a label, -1 as in scikit-learn, are those of a missing label of the model."""

import numpy as np
import pytest
from sklearn.datasets import load_iris

import pgnn
from pgnn.errors import DataError
from pgnn.estimators import Classifier

X, y = load_iris(as_frame=True, return_X_y=True)
PARTLY = y.where(y.index % 5 == 0, -1)


def bayes(states: object) -> pgnn.NaiveBayes:
    return pgnn.NaiveBayes(states, dict.fromkeys(X, pgnn.Gaussian), name="target")


@pytest.mark.parametrize("states", [3, None])
@pytest.mark.parametrize(
    "learner", [pgnn.EM(max_iterations=30, tolerance=1e-3), pgnn.SelfTraining()], ids=["em", "self"]
)
def test_unlabelled_rows_are_those_with_a_missing_label(states: object, learner: object) -> None:
    ours = Classifier(bayes(states), learner=learner, random_state=0).fit(X, PARTLY)
    assert ours.classes_.tolist() == [0, 1, 2]
    rows = X.assign(target=[None if k < 0 else k for k in PARTLY.tolist()])
    hand = bayes(3).fit(rows, learner=learner, seed=0, progress=False)
    expected = hand.query("target", X)["target"].probs.detach().numpy()
    np.testing.assert_allclose(ours.predict_proba(X), expected, atol=1e-6)
    assert ours.score(X, y) > 0.9
    few = Classifier(bayes(3)).fit(X[PARTLY >= 0], y[PARTLY >= 0])
    assert np.abs(ours.predict_proba(X) - few.predict_proba(X)).max() > 0.01  # they do count


def test_other_labels_are_kept_where_some_are_missing() -> None:
    labels = PARTLY.map({-1: -1, 0: 10, 1: 20, 2: 30})
    ours = Classifier(bayes(None), learner=pgnn.SelfTraining(), random_state=0).fit(X, labels)
    assert ours.classes_.tolist() == [10, 20, 30]
    assert set(ours.predict(X)) == {10, 20, 30}


def test_a_learner_that_needs_all_labels_says_so() -> None:
    with pytest.raises(DataError, match=r"labels \[-1, 0, 1, 2\] are not .*learner=pgnn\.EM\(\)"):
        Classifier(bayes(3)).fit(X, PARTLY)
    two = np.where(y == 0, -1, 1)  # two classes, as for a support vector machine
    assert Classifier(bayes(None), learner=pgnn.EM()).fit(X, two).classes_.tolist() == [-1, 1]
