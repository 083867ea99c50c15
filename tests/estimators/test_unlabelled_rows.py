"""Rows without a label, -1 as in scikit-learn, are those of a missing label of the model."""

import numpy as np
import pytest
from sklearn.datasets import load_iris

import pgnn
from pgnn.errors import PgnnError
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
    ours = Classifier(bayes(states), learner=learner, random_state=0, unlabelled=-1).fit(X, PARTLY)
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
    ours = Classifier(bayes(None), learner=pgnn.SelfTraining(), random_state=0, unlabelled=-1).fit(
        X, labels
    )
    assert ours.classes_.tolist() == [10, 20, 30]
    assert set(ours.predict(X)) == {10, 20, 30}


def test_every_label_is_a_class_unless_one_is_said_to_mark_rows_without() -> None:
    with pytest.raises(PgnnError) as error:
        Classifier(bayes(3)).fit(X, PARTLY)
    assert error.value.__notes__ == ["If -1 marks rows without a label, pass unlabelled=-1."]
    opinion = y - 1  # negative, neutral, positive
    holes = X.mask(np.random.default_rng(0).random(X.shape) < 0.02)
    ours = Classifier(bayes(None), learner=pgnn.EM(), random_state=0).fit(holes, opinion)
    assert ours.classes_.tolist() == [-1, 0, 1]
    assert ours.score(X, opinion) > 0.9
    words = np.array(["no", "some", "all"])[y]
    partly = np.where(y.index % 5 == 0, words, "")
    named = Classifier(bayes(None), learner=pgnn.EM(), random_state=0, unlabelled="")
    assert named.fit(X, partly).classes_.tolist() == ["all", "no", "some"]
    assert named.score(X, words) > 0.9
