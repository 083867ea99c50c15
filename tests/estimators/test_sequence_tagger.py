"""Estimators in scikit-learn's own tools."""

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, KFold, cross_val_predict, cross_val_score
from sklearn.utils import estimator_html_repr

import pgnn
from pgnn.errors import DataError, ModelError
from pgnn.estimators import SequenceTagger
from tests.models.test_conditional_random_field import INPUTS, STATES, TAGS

X: Any = INPUTS["attributes"]


def test_a_tagger_says_what_its_field_says() -> None:
    tagger = SequenceTagger(tolerance=1e-5).fit(X, TAGS)
    assert tagger.classes_ == list(STATES)
    assert tagger.predict(X) == TAGS
    assert tagger.score(X, TAGS) == 1.0
    marginals = tagger.predict_marginals(X)
    assert [len(m) for m in marginals] == [len(s) for s in X]
    probs = tagger.model_.smooth(inputs=INPUTS)["label"].probs
    assert marginals[1][3]["ADV"] == pytest.approx(float(probs[1, 3, 0]))
    assert tagger.predict([]) == [] == tagger.predict_marginals([])
    assert tagger.predict([[], X[0]]) == [[], TAGS[0]]


def test_scores_of_labels_are_sums_of_named_weights() -> None:
    tagger = SequenceTagger(tolerance=1e-5, all_transitions=True).fit(X, TAGS)
    states, moves = tagger.state_features_, tagger.transition_features_

    def score(labels: list[str]) -> float:
        steps = zip(X[0], labels, strict=True)
        return sum(states.get((a, k), 0.0) for step, k in steps for a in step) + sum(
            moves[pair] for pair in itertools.pairwise(labels)
        )

    one, other = ["DET", "NOUN", "VERB"], ["NOUN", "DET", "ADV"]
    logs = [
        float(tagger.model_.log_prob([labels], inputs={"attributes": X[:1]}))
        for labels in (one, other)
    ]
    assert score(one) - score(other) == pytest.approx(logs[0] - logs[1])


def test_penalties_are_those_of_crfsuite() -> None:
    tagger = SequenceTagger(c1=0.3, c2=0.1, tolerance=1e-6).fit(X, TAGS)
    weights = tagger.model_.scores[0].weights.detach().numpy()
    assert (weights == 0).any()
    assert (weights != 0).any()
    strong = SequenceTagger(c2=10.0, tolerance=1e-6).fit(X, TAGS)
    assert np.abs(strong.model_.scores[0].weights.detach().numpy()).max() < np.abs(weights).max()


def test_exact_zeros_are_where_the_slope_is_below_the_penalty() -> None:
    c1, c2 = 0.3, 0.1
    field = SequenceTagger(c1=c1, c2=c2, tolerance=1e-7, max_iterations=2000).fit(X, TAGS).model_
    weights = field.scores[0].weights.requires_grad_()
    field.detached = False
    (slope,) = torch.autograd.grad(field.log_prob(TAGS, inputs=INPUTS).sum(), weights)
    w = weights.detach()
    zero = w == 0
    assert bool(zero.any())
    assert float(slope[zero].abs().max()) <= c1 + 1e-5
    expected = c1 * w.sign() + 2 * c2 * w
    torch.testing.assert_close(slope[~zero], expected[~zero], atol=1e-5, rtol=0)


def test_searches_and_copies() -> None:
    many, tags = X * 3, TAGS * 3
    tagger = SequenceTagger(max_iterations=30, tolerance=1e-3)
    search = GridSearchCV(tagger, {"c2": [0.1, 10.0]}, cv=2, error_score="raise")
    search.fit(many, tags)
    assert set(search.best_params_) == {"c2"}
    assert cross_val_score(tagger, many, tags, cv=2).shape == (2,)
    copy = clone(SequenceTagger(c1=0.5, learner=pgnn.Gradient(l2=0.1)))
    assert copy.get_params()["c1"] == 0.5
    assert "SequenceTagger" in estimator_html_repr(copy)
    assert copy.fit(X, TAGS).predict(X)[0] == TAGS[0]


def test_wrong_calls() -> None:
    with pytest.raises(NotFittedError):
        SequenceTagger().predict(X)
    with pytest.raises(DataError, match="4 sentences, but labels of 1"):
        SequenceTagger().fit(X, TAGS[:1])
    with pytest.raises(DataError, match="sequence 0 has 2 steps, its inputs have 3"):
        SequenceTagger().fit(X[:1], [TAGS[0][:2]])
    with pytest.raises(DataError, match="no values of 'label'"):
        SequenceTagger().fit([], [])
    with pytest.raises(DataError, match="y must be a list of sequences of labels, got 'NOUN'"):
        SequenceTagger().fit(X[:1], ["NOUN"])
    for wrong in ("0.1", -1.0, float("nan")):
        with pytest.raises(ModelError, match="c1 must be"):
            SequenceTagger(c1=wrong).fit(X, TAGS)  # type: ignore[arg-type]


def test_a_lone_sentence_is_told_from_a_list_of_them() -> None:
    tagger = SequenceTagger(max_iterations=5).fit(X[:1], TAGS[:1])
    for ask in (tagger.predict, tagger.predict_marginals):
        with pytest.raises(DataError, match=r"a lone one; give \[sentence\]"):
            ask(X[0])
    with pytest.raises(DataError, match=r"give \[sentence\]"):
        SequenceTagger().fit(X[0], TAGS[:1])


def test_cross_validated_predictions_of_sentences_of_any_length() -> None:
    lengths = {len(s) for s in X}
    assert len(lengths) > 1
    sentences, labels = [*X] * 3, [*TAGS] * 3
    order = np.random.default_rng(0).permutation(len(sentences))
    sentences, labels = [sentences[k] for k in order], [labels[k] for k in order]
    found = cross_val_predict(SequenceTagger(), sentences, labels, cv=3)
    assert found.shape == (len(sentences),)
    expected: list[Any] = [None] * len(sentences)
    for train, test in KFold(3).split(sentences):
        tagger = SequenceTagger().fit([sentences[k] for k in train], [labels[k] for k in train])
        for k, row in zip(test, tagger.predict([sentences[k] for k in test]), strict=True):
            expected[k] = row
    assert found.tolist() == expected
    assert pgnn.metrics.token_accuracy(labels, found) > 0.5


def test_cross_validated_predictions_of_sentences_of_one_length() -> None:
    some = [k for k, s in enumerate(X) if len(s) == len(X[0])] * 4
    found = cross_val_predict(SequenceTagger(), [X[k] for k in some], [TAGS[k] for k in some], cv=2)
    assert found.tolist() == [TAGS[k] for k in some]
    assert found.shape == (len(some),)


def test_a_target_beside_the_data_is_told_to_be_a_column() -> None:
    model = pgnn.LogisticRegression("target")
    rows = np.zeros((4, 2))
    for verb in (model.fit, model.partial_fit):
        with pytest.raises(pgnn.errors.ArgumentError, match=r"takes one table.*got ndarray, list"):
            verb(rows, [0, 1, 0, 1])


def test_modules_list_what_is_public() -> None:
    import pgnn.divergences
    import pgnn.estimators

    assert dir(pgnn.estimators) == pgnn.estimators.__all__
    assert set(dir(pgnn.divergences)) == set(pgnn.divergences.__all__)
    assert all(hasattr(pgnn.divergences, name) for name in dir(pgnn.divergences))


def test_containers_of_sentences_make_no_difference() -> None:
    expected = SequenceTagger(max_iterations=5).fit(X, TAGS).predict(X)
    for pack in (_objects, lambda x: pd.Series(_objects(x)), lambda x: tuple(map(tuple, x))):
        tagger = SequenceTagger(max_iterations=5).fit(pack(X), pack(TAGS))
        assert tagger.predict(pack(X)) == expected
        assert tagger.score(pack(X), pack(TAGS)) == tagger.score(X, TAGS)
    inner = _objects([_objects(sentence) for sentence in X])
    assert SequenceTagger(max_iterations=5).fit(inner, TAGS).predict(inner) == expected


def test_cross_validation_of_arrays_of_objects() -> None:
    many, tags = _objects([*X] * 2), _objects([*TAGS] * 2)
    tagger = SequenceTagger(max_iterations=5)
    expected = cross_val_score(tagger, [*many], [*tags], cv=2, error_score="raise")
    got = cross_val_score(tagger, many, tags, cv=2, error_score="raise")
    np.testing.assert_array_equal(got, expected)


@pytest.mark.filterwarnings("ignore::pgnn.NotConverged")
def test_scores_of_nothing_are_refused() -> None:
    tagger = SequenceTagger(max_iterations=5).fit(X, TAGS)
    for nothing in ([], [[], []]):
        with pytest.raises(DataError, match="no labels in y to score"):
            tagger.score(nothing, nothing)


def _objects(items: Any) -> Any:
    column = np.empty(len(items), dtype=object)
    for k, item in enumerate(items):
        column[k] = item
    return column


@pytest.mark.parametrize(
    ("option", "argument"),
    [
        ({"feature.possible_states": True}, {"all_pairs": True}),
        ({"feature.possible_transitions": True}, {"all_transitions": True}),
        ({"c1": 0.2, "c2": 0.5}, {"c1": 0.2, "c2": 0.5}),
    ],
)
def test_options_are_those_of_crfsuite(option: dict, argument: dict, tmp_path: Path) -> None:
    pycrfsuite = pytest.importorskip("pycrfsuite")
    trainer = pycrfsuite.Trainer("lbfgs", {"epsilon": 1e-9, "delta": 1e-12} | option, verbose=False)
    for x, labels in zip(X, TAGS, strict=True):
        trainer.append(x, labels)
    trainer.train(str(tmp_path / "m"))
    theirs = pycrfsuite.Tagger()
    theirs.open(str(tmp_path / "m"))
    ours = SequenceTagger(tolerance=1e-8, **argument).fit(X, TAGS)
    moves = {k: w for k, w in ours.transition_features_.items() if abs(w) > 1e-4}
    states = {k: w for k, w in ours.state_features_.items() if abs(w) > 1e-4}
    info = theirs.info()
    assert {k: w for k, w in info.transitions.items() if abs(w) > 1e-4} == pytest.approx(
        moves, abs=1e-3
    )
    assert {k: w for k, w in info.state_features.items() if abs(w) > 1e-4} == pytest.approx(
        states, abs=1e-3
    )


def test_sentences_of_words_are_told_their_form() -> None:
    with pytest.raises(DataError, match=r"lists of words the attributes are \[\[\{'word': w\}"):
        SequenceTagger().fit([["the", "dog"], ["a", "cat"]], [["D", "N"]] * 2)
