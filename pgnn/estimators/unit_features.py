"""Posterior means of hidden units as features."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any, Self

import numpy as np
import torch
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.base import ClassNamePrefixFeaturesOutMixin as NamesOut
from sklearn.utils.validation import check_is_fitted

from pgnn.abilities import VectorModel
from pgnn.errors import ModelError
from pgnn.estimators.declared_model import Declared, checked, made, seed_of
from pgnn.inference.learner import Learner


class UnitFeatures(NamesOut, TransformerMixin, BaseEstimator):  # type: ignore[misc]
    r"""Turns rows into posterior means of hidden units, :math:`E[h \mid x]`.

    As ``BernoulliRBM`` or ``FactorAnalysis`` of scikit-learn does, with any model of a vector that
    has hidden variables: restricted Boltzmann machines, belief networks, factor analysis.

    Args:
        model: The model, which is copied and not changed, or a function without arguments that
            returns one.
        units: Name of the hidden variable; by default the last one, the top of several layers.
        learner: The learner; that of the model if not given.
        random_state: Seed of the fit.

    Attributes:
        model_: The fitted model.

    Example:
        >>> import pgnn
        >>> rows = np.random.default_rng(0).integers(2, size=(50, 6))
        >>> machine = pgnn.RestrictedBoltzmannMachine(6, 3)
        >>> learner = pgnn.ContrastiveDivergence(epochs=2)
        >>> UnitFeatures(machine, learner=learner, random_state=0).fit_transform(rows).shape
        (50, 3)
    """

    def __init__(
        self,
        model: Declared,
        units: Hashable | None = None,
        learner: Learner | None = None,
        random_state: Any = None,
    ) -> None:
        self.model = model
        self.units = units
        self.learner = learner
        self.random_state = random_state

    def fit(self, X: Any, y: Any = None) -> Self:
        """Fit the model to rows ``(N, D)``; labels are ignored.

        Raises:
            ModelError: If the model is none of a vector with hidden variables.
        """
        model = made(self.model)
        if not isinstance(model, VectorModel):
            raise ModelError(
                "UnitFeatures needs a model of a vector with hidden units, such as "
                f"pgnn.RestrictedBoltzmannMachine(64, 20), got {type(model).__name__}"
            )
        rows = _rows(checked(self, X, reset=True))
        model.fit(rows, learner=self.learner, seed=seed_of(self.random_state), progress=False)
        hidden = [n for n in model.variables if n != model.vector]
        if not hidden or (self.units is not None and self.units not in hidden):
            raise ModelError(f"the hidden variables are {hidden!r}, units={self.units!r} is none")
        self.model_: Any = model
        self._units = hidden[-1] if self.units is None else self.units
        self._n_features_out = model.variables[self._units].num_elements
        return self

    def transform(self, X: Any) -> np.ndarray:
        """Return ``(N, H)`` posterior means of the units; for two states the probability of one."""
        check_is_fitted(self, "model_")
        rows, model = _rows(checked(self, X, reset=False)), self.model_
        with torch.no_grad():
            answer = model.query(self._units, {model.vector: rows})[self._units]
            means = answer.mean
            if model.variables[self._units].is_discrete:
                states = torch.arange(answer.probs.shape[-1]).to(answer.probs)
                means = answer.probs @ states
        features: np.ndarray = means.reshape(len(rows), -1).numpy(force=True)
        return features

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        return tags


def _rows(X: Any) -> np.ndarray:
    """Rows as an array."""
    return np.asarray(X, dtype=np.float64)
