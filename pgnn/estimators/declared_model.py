"""What estimators share: a copy of a declared model, a seed, and columns by name."""

from __future__ import annotations

import copy
from collections.abc import Callable, Hashable, Mapping
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_random_state, validate_data

from pgnn.errors import DataError, ModelError
from pgnn.evidence.frames import columns_of, is_frame
from pgnn.models.model import Model

Declared = Model | Callable[[], Model]
"""A model that is not fitted, of which estimators make a copy, or a function that returns one."""


def made(declared: Declared) -> Model:
    """Return a model that a fit may change.

    Raises:
        ModelError: If the declaration is no model, and returns none.
    """
    model = copy.deepcopy(declared) if isinstance(declared, Model) else declared
    if isinstance(model, type) or not isinstance(model, Model):
        model = model() if callable(model) else model
    if not isinstance(model, Model):
        raise ModelError(
            "model must be a model such as pgnn.NaiveBayes(3, {'x': pgnn.Gaussian}), or a function "
            f"without arguments that returns one, got {declared!r}"
        )
    return model


def seed_of(random_state: Any) -> int:
    """Return the seed of a fit."""
    return int(check_random_state(random_state).randint(2**31 - 1))


def checked(estimator: BaseEstimator, X: Any, *, reset: bool, sparse: bool = False) -> Any:
    """Return rows as scikit-learn takes them: a frame as it is, anything else as an array.

    Args:
        estimator: The estimator, which remembers names and number of the columns.
        X: The rows.
        reset: Whether they are those of a fit.
        sparse: Whether they may be a SciPy sparse matrix.
    """
    if is_frame(X):
        validate_data(estimator, X, reset=reset, skip_check_array=True)
        if not len(X):
            raise DataError(f"there are 0 rows (shape={X.shape}), while a minimum of 1 is required")
        return X
    rules: dict[str, Any] = {"dtype": np.float64, "ensure_all_finite": "allow-nan"}
    return validate_data(
        estimator, X, reset=reset, accept_sparse="csr" if sparse else False, **rules
    )


def named_columns(X: Any, features: list[Hashable]) -> Mapping[Hashable, Any]:
    """Return the columns of rows by name.

    Args:
        X: A frame, or an array ``(N, D)``.
        features: Variables of the model: as many as columns, or a single vector.

    Raises:
        DataError: If there are neither.
    """
    if is_frame(X):
        columns = dict(columns_of(X))
        if set(features) != set(columns) and len(features) == 1:
            return {features[0]: np.asarray(X, dtype=np.float64)}
        return columns
    if len(features) == 1:
        return {features[0]: X}
    if not features:
        return {f"x{k}": X[:, k] for k in range(X.shape[1])}
    if len(features) != X.shape[1]:
        raise DataError(
            f"X has {X.shape[1]} columns, the model {len(features)} features {features[:8]!r}",
            "give a DataFrame with their names",
        )
    return {n: X[:, k] for k, n in enumerate(features)}
