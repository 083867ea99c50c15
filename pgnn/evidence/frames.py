"""Columns of data frames of any library, of mappings, and of lists of rows."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from pgnn.errors import EvidenceError, short_repr
from pgnn.evidence.partitioned_frame import is_partitioned
from pgnn.evidence.wrappers import Observed
from pgnn.factors.cells import cells_of, is_container, is_missing

_EXACT = 2**53
"""Integers below are exact as floating point numbers."""


def is_frame(data: object) -> bool:
    """Whether an object is a data frame of any library."""
    return hasattr(data, "columns") and not isinstance(data, Mapping)


def are_rows(data: object) -> bool:
    """Whether an object is a list of mappings, one for each row."""
    return isinstance(data, list) and bool(data) and all(isinstance(x, Mapping) for x in data)


def frame_columns(frame: Any) -> Iterator[tuple[Hashable, Any]]:
    """Iterate over names and columns of a data frame of pandas, polars or another library.

    Raises:
        EvidenceError: If a column occurs twice, or the object is no data frame.
    """
    if is_partitioned(frame):
        raise EvidenceError(
            "a partitioned frame is accepted by query, most_probable and log_prob, and by fit with "
            "MaximumLikelihood() or EM()",
            "for anything else pass frame.compute()",
        )
    if not hasattr(frame, "iloc"):
        import narwhals

        try:
            frame = narwhals.from_native(frame, eager_only=True)
        except TypeError:
            raise EvidenceError(f"a {type(frame).__name__} is no data frame") from None
        for name in frame.columns:
            yield name, frame[name].to_native()
        return
    columns = frame.columns
    if not columns.is_unique:
        twice = columns[columns.duplicated()][0]
        raise EvidenceError(f"column {twice!r} occurs twice in the data frame", "keep one")
    for name, column in frame.items():
        yield (_without_padding(name) if columns.nlevels > 1 else name), column


def matrix_of(frame: Any) -> np.ndarray:
    """Return a data frame as an array ``(N, columns)``, the value of one variable in each row.

    Example:
        >>> import pandas as pd
        >>> matrix_of(pd.DataFrame({"a": [1.0, 2.0], "b": [3.0, None]}))
        array([[ 1.,  3.],
               [ 2., nan]])
    """
    import pandas as pd

    columns = [_unboxed(plain_column(column, {})) for _, column in frame_columns(frame)]
    matrix: np.ndarray = pd.DataFrame(dict(enumerate(columns))).to_numpy(copy=True)
    return matrix


def _unboxed(column: Any) -> Any:
    """Return the array of a Series, with ``NaN`` in place of the ``NA`` of nullable numbers.

    Integers that floating point numbers would round stay objects, with ``None`` for ``NA``.
    """
    import pandas as pd

    is_boxed = isinstance(column.dtype, pd.api.extensions.ExtensionDtype)
    if not is_boxed or not pd.api.types.is_numeric_dtype(column):
        return column.array
    if column.isna().any():
        if column.dtype.kind in "iu" and (column.abs() >= _EXACT).any():
            return column.astype(object).where(column.notna(), None).array
        return column.to_numpy(np.float64, na_value=np.nan)
    return column.to_numpy(column.dtype.numpy_dtype)


def unframed(values: Any) -> Any:
    """Return the matrices of frames, or of a list of them; all else as it is.

    A frame in place of the values of one variable would else be iterated over, by its columns.
    """
    if is_frame(values):
        return matrix_of(values)
    if not isinstance(values, list | tuple) or not values:
        return values
    if isinstance(values[0], float | int | str) or not any(map(is_frame, values)):
        return values  # all numbers have the type of the first
    return [matrix_of(x) if is_frame(x) else x for x in values]


def columns_of(data: Any) -> Mapping[Hashable, Any]:
    """Return the columns of a data frame, of a mapping, or of a list of rows, by name.

    Columns that :func:`pgnn.observed` ignores are omitted.

    Raises:
        EvidenceError: If the object has another type, or a frame has duplicate columns.
    """
    if isinstance(data, Mapping):
        return data
    if isinstance(data, Observed):
        return {n: x for n, x in columns_of(data.values).items() if n not in data.ignore}
    if is_frame(data):
        return dict(frame_columns(data))
    if are_rows(data):
        names = dict.fromkeys(name for row in data for name in row)
        return {name: [row.get(name) for row in data] for name in names}
    raise EvidenceError(
        "expected a DataFrame, a mapping from names to columns, or an integer array or tensor "
        f"of shape (N, V), got {type(data).__name__}{batches_hint(data)}"
    )


def batches_hint(data: Any) -> str:
    """Return how batches are learned from, if data could be an iterable of them."""
    if not isinstance(data, Iterable) or isinstance(data, str | bytes):
        return ""
    if isinstance(data, list | tuple) and data and all(isinstance(x, int | float) for x in data):
        return " of numbers; a single row is put into a list, [[...]]"
    return (
        "; learn from batches one after the other: for batch in batches: model.partial_fit(batch)"
    )


def _without_padding(name: tuple[Any, ...]) -> Hashable:
    """Return a tuple without the padding that pandas adds to tuples of different lengths."""
    parts = [part for part in name if not is_missing(part)]
    parts = [int(x) if isinstance(x, float) and x.is_integer() else x for x in parts]
    return parts[0] if len(parts) == 1 else tuple(parts)


def plain_column(values: Any, labels: Mapping[Any, Any]) -> Any:
    """Return a column as a Series of pandas with plain cells, ``None`` or ``NaN`` where missing.

    Args:
        values: A column in any form; a Series of pandas stays as it is.
        labels: Labels of the variable, which may be tuples.

    Raises:
        TypeError: If it is not a column.

    Example:
        >>> plain_column(np.ma.masked_array([1, 99], [False, True]), {}).tolist()
        [1.0, nan]
    """
    import pandas as pd

    if hasattr(values, "iloc"):
        return pd.Series(values.array)
    if not is_container(values, {}) or (np.ndim(values) == 0 and hasattr(values, "ndim")):
        raise TypeError(f"a column must have a cell for each row, got {short_repr(values)}")
    if isinstance(values, Iterator):
        values = list(values)
    try:
        cells = cells_of(values, labels)
    except EvidenceError:  # parts of different shapes, of a column that may be ignored
        return pd.Series(list(values), dtype=object)
    table = cells.values
    if cells.categories is not None:
        table = pd.Categorical.from_codes(table, pd.Index(cells.categories))
    elif cells.missing is not None:
        gone: Any = np.nan if table.dtype.kind == "f" else None
        table = np.where(cells.missing, gone, table)
    if np.ndim(table) < 2:
        plain = not isinstance(table, np.ndarray) or table.dtype != object
        return pd.Series(table if plain else table.tolist())
    rows = np.empty(len(table), dtype=object)
    for k, row in enumerate(table):
        rows[k] = row
    return pd.Series(rows)
