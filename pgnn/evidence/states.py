"""Variables and their states, derived from the columns of a data set."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Mapping
from typing import Any

import numpy as np
import torch

from pgnn.errors import DataError, EvidenceError
from pgnn.evidence.framed_values import only_column
from pgnn.evidence.frames import columns_of
from pgnn.evidence.wrappers import Likelihood
from pgnn.factors.cells import cells_of
from pgnn.factors.labels import LARGE
from pgnn.factors.variable import Variable

MAX_LABELS = 1000
"""Most labels that :func:`states_of` makes of a column that is not categorical."""
MAX_REALS = 20
"""Most fractional numbers that :func:`states_of` takes for labels."""


def states_of(data: Any, ignore: Collection[Hashable] = ()) -> dict[Hashable, Variable]:
    """Derive variables from the columns of a data set.

    States are the categories of a categorical column, in order, or else the sorted distinct values
    without missing ones. Integer arrays and tensors of a mapping are indices; their number of
    states is the largest index plus one.

    Args:
        data: DataFrame (pandas, polars) or mapping from names to sequences of labels.
        ignore: Columns to leave out.

    Returns:
        Variables by name, in the order of the columns.

    Raises:
        DataError: If a column has no value, real-looking numbers, too many labels, or labels that
            cannot be sorted; the message suggests a remedy.

    Example:
        >>> states_of({"rain": ["yes", "no", None], "day": [3, 1, 2]})["rain"]
        Variable('rain', ['no', 'yes'])
    """
    try:
        columns = columns_of(data)
    except EvidenceError as error:
        raise DataError(error.reason, error.advice) from None
    return {
        name: Variable(name, _labels(name, column))
        for name, column in columns.items()
        if name not in ignore
    }


def _named_weights(name: Hashable, weights: Any) -> list[Any]:
    """Labels of likelihoods: the keys of a mapping, or the columns of a frame."""
    labels = [*weights] if isinstance(weights, Mapping) else [*getattr(weights, "columns", ())]
    if not labels:
        raise DataError(
            f"column {name!r} has likelihoods, which do not tell its states",
            "declare them, or give a mapping from label to weights",
        )
    return labels


def _is_large(label: Any) -> bool:
    """Whether a label is a whole number that floating point numbers round."""
    is_whole = isinstance(label, int | np.integer) and not isinstance(label, bool)
    return is_whole and abs(int(label)) >= LARGE


def _labels(name: Hashable, column: Any) -> list[Any]:
    import pandas as pd

    if isinstance(column, Likelihood):
        return _named_weights(name, column.values)
    column = only_column(column)
    column = cells_of(column, {}).values if isinstance(column, torch.Tensor) else column
    if hasattr(column, "to_list") and not hasattr(column, "iloc"):
        column = column.to_list()  # polars
    column = column.to_pylist() if hasattr(column, "to_pylist") else column  # pyarrow
    if isinstance(column, np.ndarray) and column.dtype.kind in "iu":
        column = range(int(column.max(initial=-1)) + 1)  # indices, not labels
    if isinstance(column, list | tuple) and any(map(_is_large, column)):
        column = pd.Series(column, dtype=object)  # pandas would round them where cells are missing
    if isinstance(column, np.ndarray) and column.dtype in ("M8", "m8"):  # without a unit
        if not np.isnat(column).all():
            raise DataError(
                f"column {name!r} has dates or durations without a unit, got {column.dtype}",
                "give them one, such as column.astype('m8[s]') for seconds",
            )
        column = [None] * len(column)
    series = column if isinstance(column, pd.Series) else pd.Series(column)
    if isinstance(series.dtype, pd.CategoricalDtype):
        labels: list[Any] = series.cat.categories.tolist()
    else:
        try:
            labels = series.dropna().unique().tolist()
        except TypeError:
            raise DataError(
                f"column {name!r} must have one label in each cell, got "
                f"{series.dropna().iloc[0]!r}",
                "declare an array as Variable(name, states, shape)",
            ) from None
    if not labels:
        raise DataError(f"column {name!r} has no value to derive states from", "declare its states")
    if isinstance(series.dtype, pd.CategoricalDtype):
        return labels
    reals = [x for x in labels if isinstance(x, float) and not x.is_integer()]
    if len(reals) > MAX_REALS:
        raise DataError(
            f"column {name!r} has {len(labels)} different real numbers",
            "discretise it with pandas.cut or pandas.qcut, or declare it as real, "
            f"states={{{name!r}: Variable({name!r})}}",
        )
    if len(labels) > MAX_LABELS:
        raise DataError(
            f"column {name!r} has {len(labels)} different values in {len(series)} rows, which "
            "look like identifiers",
            "leave it out, or make it categorical if they are states",
        )
    if not reals and any(isinstance(x, float) and abs(x) >= LARGE for x in labels):
        raise DataError(
            f"column {name!r} has floating point numbers from 2**53 on, which may be rounded "
            "integers: columns of integers become such where cells are missing",
            "give integers (in pandas dtype='Int64') or text",
        )
    if not reals:
        labels = [int(x) if isinstance(x, float) else x for x in labels]
    try:
        return sorted(labels)
    except TypeError:
        kinds = sorted({type(x).__name__ for x in labels})
        raise DataError(
            f"labels of column {name!r} cannot be sorted, they mix {' and '.join(kinds)}",
            "make it categorical with its states in order",
        ) from None
