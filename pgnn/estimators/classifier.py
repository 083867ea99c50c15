"""Any model with a discrete target as a classifier."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_consistent_length, check_is_fitted, column_or_1d

from pgnn.abilities import ClassModel, MixtureModel, MixtureOverTime
from pgnn.errors import DataError, ModelError, PgnnError
from pgnn.estimators.declared_model import Declared, checked, made, named_columns, seed_of
from pgnn.factors.conditionals.gaussian import Gaussian
from pgnn.inference.learner import Learner
from pgnn.models.bayesian_network import BayesianNetwork
from pgnn.models.naive_bayes import NaiveBayes
from pgnn.models.regression import Regression


class Classifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    r"""Predicts a discrete variable of a model, :math:`\arg\max_y p(y \mid x)`.

    Args:
        model: The model, which is copied and not changed: naive Bayes, logistic regression, a
            network, or a mixture of models, whose components are then the classes. Features of a
            data frame are matched by name, columns of an array by the order of ``model.graph``;
            a single feature that is a vector takes all columns. Alternatively a function without
            arguments that returns a model; naive Bayes with normal features by default.
        target: Name of the target; if not given the class of naive Bayes or a discriminant, the
            component of a mixture, the response of a regression, ``"class"`` for other models.
        learner: The learner; that of the model if not given.
        random_state: Seed of the fit.
        unlabelled: Label of rows without a label, such as -1 in scikit-learn's semi-supervised
            classifiers, for learners that learn from them: :class:`EM`, :class:`SelfTraining`,
            :class:`CoTraining`, :class:`EntropyRegularization`. By default every label is a class.

    Attributes:
        model_: The fitted model.
        classes_: ``(K,)`` the labels in ascending order.
        target_: Name of the target.

    Missing cells are ``NaN``. Rows of a model with a single vector as feature, such as counts of
    words, may be a SciPy sparse matrix.

    Example:
        >>> import pgnn
        >>> from sklearn.datasets import load_iris
        >>> from sklearn.model_selection import cross_val_score
        >>> X, y = load_iris(as_frame=True, return_X_y=True)
        >>> model = pgnn.NaiveBayes(None, dict.fromkeys(X, pgnn.Gaussian))
        >>> round(float(cross_val_score(Classifier(model), X, y).mean()), 2)
        0.95
    """

    def __init__(
        self,
        model: Declared | None = None,
        target: Hashable | None = None,
        learner: Learner | None = None,
        random_state: Any = None,
        unlabelled: Any = None,
    ) -> None:
        self.model = model
        self.target = target
        self.learner = learner
        self.random_state = random_state
        self.unlabelled = unlabelled

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Fit the model to rows and their labels.

        Args:
            X: A frame, or an array ``(N, D)``; for a mixture of models over time ``N`` sequences.
            y: ``(N,)`` labels.
            sample_weight: ``(N,)`` weights.

        Raises:
            ModelError: If the model has no such target, or other labels.
            DataError: If there is one class, or no label for a learner that needs all labels.
        """
        if y is None:
            raise DataError("a Classifier requires y to be passed, but the target y is None")
        if self.model is None:
            name = "class" if self.target is None else self.target
            model: Any = NaiveBayes(None, {"x": Gaussian}, name=name)
        else:
            model = made(self.model)
        target = _target(model) if self.target is None else self.target
        X = self._checked(model, target, X, reset=True)
        labels = column_or_1d(y, warn=True)
        check_classification_targets(labels)
        check_consistent_length(X, labels)
        missing = np.zeros(len(labels), dtype=np.bool_)
        if self.unlabelled is not None:
            missing = np.asarray(labels == self.unlabelled, dtype=np.bool_)
        classes = np.unique(labels[~missing])
        if len(classes) < 2:
            raise DataError(
                f"the number of classes has to be greater than one; got {len(classes)} class"
            )
        codes = np.searchsorted(classes, labels[~missing])
        states = np.full(len(labels), None, dtype=object)
        states[~missing] = _as_states(model, target, classes)[codes]
        if not missing.any():
            states = _as_states(model, target, classes)[codes]
        columns = {**_columns(model, target, X), target: states}
        weights = None if sample_weight is None else np.asarray(sample_weight, dtype=np.float64)
        rest: dict[str, Any] = {"learner": self.learner, "seed": seed_of(self.random_state)}
        try:
            model.fit(columns, weights=weights, progress=False, **rest)
        except PgnnError as error:
            if classes.dtype.kind in "if" and len(classes) > 2 and classes[0] == -1:
                error.add_note("If -1 marks rows without a label, pass unlabelled=-1.")
            raise
        _check_target(model, target)
        _as_states(model, target, classes)  # those declared are known by now
        self.model_, self.classes_, self.target_ = model, classes, target
        return self

    def predict_proba(self, X: Any) -> np.ndarray:
        """Return ``(N, K)`` probabilities of the classes."""
        check_is_fitted(self, "model_")
        model: Any = self.model_
        X = self._checked(model, self.target_, X, reset=False)
        answer = model.query(self.target_, _columns(model, self.target_, X))
        states = _as_states(model, self.target_, self.classes_).tolist()
        index = [model.variables[self.target_].labels.codes[s] for s in states]
        probs = answer[self.target_].probs.detach().numpy(force=True)[:, index]
        total = probs.sum(axis=1, keepdims=True)
        if not total.all():
            raise DataError(
                f"row {int(np.flatnonzero(total == 0)[0])} has probability zero under all classes "
                "of the training data"
            )
        share: np.ndarray = probs / total
        return share

    def predict(self, X: Any) -> np.ndarray:
        """Return ``(N,)`` labels."""
        probs = self.predict_proba(X)
        labels: np.ndarray = self.classes_[probs.argmax(axis=1)]
        return labels

    def _checked(self, model: Any, target: Hashable, X: Any, *, reset: bool) -> Any:
        """Return rows as scikit-learn takes them; sparse ones for a single vector."""
        if _over_time(model):
            return X
        return checked(self, X, reset=reset, sparse=len(_features(model, target)) == 1)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.input_tags.sparse = True
        return tags


def _check_target(model: Any, target: Hashable) -> None:
    variable = model.variables.get(target)
    if variable is None:
        raise ModelError(f"the model has no target {target!r}: {[*model.variables]!r}")
    if not variable.is_discrete or variable.shape:
        raise ModelError(f"a Classifier predicts a discrete variable, and {target!r} is {variable}")


def _target(model: Any) -> Hashable:
    """Return the name of the variable that a model predicts; "class" if it has none."""
    if isinstance(model, ClassModel | MixtureModel):
        return model.class_name
    if isinstance(model, Regression):
        return model.child
    return "class"


def _over_time(model: Any) -> bool:
    return isinstance(model, MixtureOverTime)


def _columns(model: Any, target: Hashable, X: Any) -> Mapping[Hashable, Any]:
    """The features by name."""
    if _over_time(model):
        names = [n for n in model.variables if n not in model.hidden]
        return X if isinstance(X, Mapping) else {names[0]: X}
    return named_columns(X, _features(model, target))


def _features(model: Any, target: Hashable) -> list[Hashable]:
    """Names of the features in the order of columns."""
    if not isinstance(model, BayesianNetwork):
        return [n for n in model.variables if n != target]
    hidden = {target, *model.latents}  # the graph is known before data declare the variables
    return [n for n in model.graph if n not in hidden]


def _as_states(model: Any, target: Hashable, classes: np.ndarray) -> np.ndarray:
    """The labels as the model has them: texts as they are, numbers counted from zero."""
    try:
        states = list(model.variables[target].states or ())
    except (ModelError, KeyError):  # not declared before the data are known
        states = []
    labels = classes.tolist()
    if set(labels) <= set(states) or (not states and all(isinstance(x, str) for x in labels)):
        return classes.astype(object)
    if states and (len(states) != len(labels) or states != [*range(len(states))]):
        raise ModelError(
            f"the labels {labels[:8]!r} are not the states {states[:8]!r} of {target!r}"
        )
    return np.arange(len(labels))
