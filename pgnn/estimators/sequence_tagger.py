"""A linear conditional random field as an estimator."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from pgnn.errors import DataError
from pgnn.evidence.step_attributes import StepAttributes, sequence_lengths
from pgnn.inference.learner import Learner
from pgnn.inference.learning.gradient import Gradient
from pgnn.limits import NOT_NEGATIVE, check_real
from pgnn.metrics.sequence_labels import check_label_sequences, token_accuracy
from pgnn.models.conditional_random_field import ConditionalRandomField
from pgnn.models.scores.attribute_scores import AttributeScores

Sentences = Sequence[Sequence[Any]]
"""Sequences of steps, each with its attributes: lists of names, or mappings."""


class LabelSequences(list[list[Any]]):
    """A list of label sequences, which NumPy takes as a column of them, whatever their lengths.

    So ``sklearn.model_selection.cross_val_predict`` puts the parts together.

    Example:
        >>> np.concatenate([LabelSequences([["A"]]), LabelSequences([["B", "A"]])]).tolist()
        [['A'], ['B', 'A']]
    """

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        """Return an array of objects ``(N,)``, a list each."""
        column = np.empty(len(self), dtype=object)
        for k, labels in enumerate(self):
            column[k] = labels
        return column


class SequenceTagger(BaseEstimator):  # type: ignore[misc]
    r"""A linear conditional random field as an estimator, with the settings of CRFsuite.

    It minimises :math:`-\sum_n \log p(y_n \mid x_n) + c_1 \sum_k |w_k| + c_2 \sum_k w_k^2`.

    Args:
        c1: Strength of the absolute values; many weights are then exactly zero.
        c2: Strength of the squares.
        min_count: Attributes that occur less often have no weight.
        all_pairs: Whether attributes have weights for labels that they never came with.
        all_transitions: Whether transitions have weights that never occur.
        max_iterations: Most iterations of L-BFGS.
        tolerance: Largest derivative of the mean at which to stop; see
            :class:`~pgnn.inference.learning.ascent.Ascent`.
        learner: Another learner; ``c1``, ``c2`` and the limits are then its affair.

    Attributes:
        model_: The fitted :class:`~pgnn.models.conditional_random_field.ConditionalRandomField`.
        classes_: The labels.

    Example:
        >>> X = [[{"word": "the"}, {"word": "dog"}], [{"word": "a"}, {"word": "cat"}]]
        >>> tagger = SequenceTagger().fit(X, [["DET", "NOUN"], ["DET", "NOUN"]])
        >>> tagger.predict([[{"word": "the"}, {"word": "cat"}]])
        [['DET', 'NOUN']]
    """

    def __init__(
        self,
        c1: float = 0.0,
        c2: float = 1.0,
        min_count: int = 1,
        all_pairs: bool = False,
        all_transitions: bool = False,
        max_iterations: int = 500,
        tolerance: float | None = 1e-4,
        learner: Learner | None = None,
    ) -> None:
        self.c1 = c1
        self.c2 = c2
        self.min_count = min_count
        self.all_pairs = all_pairs
        self.all_transitions = all_transitions
        self.max_iterations = max_iterations
        self.tolerance = tolerance
        self.learner = learner

    def fit(self, X: Sentences, y: Sequence[Sequence[Any]]) -> Self:
        """Fit the weights.

        Args:
            X: Sentences, see :class:`~pgnn.evidence.step_attributes.StepAttributes`.
            y: For each a list of labels; None where a label is not known.

        Raises:
            DataError: If there are not as many labels as steps, or none at all; or a lone
                sentence, or its labels, came without a list around.
            ModelError: If a strength is no number of at least zero.
        """
        _check_sentences(sequence_lengths("attributes", X))
        check_label_sequences("y", y)
        for name, strength in (("c1", self.c1), ("c2", self.c2)):
            check_real(name, strength, NOT_NEGATIVE)
        if len(X) != len(y):
            raise DataError(f"there are {len(X)} sentences, but labels of {len(y)}")
        scores = AttributeScores("attributes", self.min_count, self.all_pairs)
        model = ConditionalRandomField(scores=scores, observed_transitions=not self.all_transitions)
        rows = max(len(X), 1)
        learner = self.learner or Gradient(
            l1=self.c1 / rows,
            l2=2.0 * self.c2 / rows,
            max_iterations=self.max_iterations,
            tolerance=self.tolerance,
        )
        labels: Any = {model.name: [x if type(x) is list else list(x) for x in y]}
        # the sentences as given: attributes that are read are not needed after the fit
        inputs: Any = {"attributes": X}
        model.fit(labels, inputs=inputs, learner=learner, progress=False)
        self.model_, self.classes_ = model, list(model.state.states or ())
        return self

    @property
    def state_features_(self) -> dict[tuple[Any, Any], float]:
        """The weight of each attribute with each label that it has one for."""
        check_is_fitted(self, "model_")
        scores: Any = self.model_.scores[0]
        pairs = zip(scores.pair_names.tolist(), scores.pair_labels.tolist(), strict=True)
        names = [(scores.names[a], self.classes_[k]) for a, k in pairs]
        return dict(zip(names, scores.weights.tolist(), strict=True))

    @property
    def transition_features_(self) -> dict[tuple[Any, Any], float]:
        """The weight of each learned transition between labels."""
        check_is_fitted(self, "model_")
        weights = self.model_.moves().tolist()
        pairs = self.model_.learned_transitions.nonzero().tolist()
        return {(self.classes_[a], self.classes_[b]): weights[a][b] for a, b in pairs}

    def predict(self, X: Sentences) -> LabelSequences:
        """Return the most probable labels of each sentence, a list of lists.

        Raises:
            DataError: If a single sentence is not in a list.
        """
        check_is_fitted(self, "model_")
        sentences = self._sentences(X)
        if not len(sentences.lengths):
            return LabelSequences()
        best = np.asarray(self.model_.decode(inputs=_inputs(sentences))[self.model_.name])
        inside = np.arange(best.shape[1]) < sentences.lengths[:, None]
        labels = [*map(self.classes_.__getitem__, best[inside].tolist())]
        ends = sentences.lengths.cumsum().tolist()
        return LabelSequences(labels[a:b] for a, b in zip([0, *ends], ends, strict=False))

    def predict_marginals(self, X: Sentences) -> list[list[dict[Any, float]]]:
        """Return the probability of each label at each step of each sentence.

        Raises:
            DataError: If a single sentence is not in a list.
        """
        check_is_fitted(self, "model_")
        sentences = self._sentences(X)
        if not len(sentences.lengths):
            return []
        probs = self.model_.smooth(inputs=_inputs(sentences))[self.model_.name].probs
        return [
            [dict(zip(self.classes_, step, strict=True)) for step in row[:steps]]
            for row, steps in zip(probs.tolist(), sentences.lengths, strict=True)
        ]

    def score(self, X: Sentences, y: Sequence[Sequence[Any]]) -> float:
        """Return the accuracy: the fraction of correct labels.

        Raises:
            DataError: If there are no labels.
        """
        check_label_sequences("y", y)
        if not any(map(len, y)):
            raise DataError("there are no labels in y to score", "give sentences that have steps")
        return token_accuracy(y, self.predict(X))

    def _sentences(self, X: Sentences) -> StepAttributes:
        """The attributes of all sentences that have weights."""
        scores: Any = self.model_.scores[0]
        sentences: StepAttributes = scores.read_known(X)
        _check_sentences(sentences.lengths if sentences.batched else 1)
        return sentences


def _check_sentences(lengths: Any) -> None:
    """Raise an error for a single sentence that is not in a list."""
    if isinstance(lengths, int):
        raise DataError(
            "X must be a list of sentences, each a list of steps with their attributes, got a "
            "lone one",
            "give [sentence]; of sentences that are lists of words the attributes are [[{'word': "
            "w} for w in words] for words in X]",
        )


def _inputs(sentences: StepAttributes) -> Any:
    return {"attributes": sentences}
