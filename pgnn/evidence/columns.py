"""Columns of data as small integers and a table that turns them into states."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pgnn.errors import DataError, EvidenceError
from pgnn.factors.variable import MISSING, Variable

Codes = NDArray[np.int32]


@dataclass(frozen=True, eq=False)
class Column:
    """State codes of a column, made when they are read.

    Attributes:
        name: Whose column.
        raw: ``(N,)`` integers; -1 is missing.
        lookup: State of each raw integer, the last entry that of -1; none where they are states.
    """

    name: Hashable
    raw: NDArray[np.integer[Any]]
    lookup: Codes | None = None

    def __len__(self) -> int:
        return len(self.raw)

    def read(self, start: int, stop: int, out: Codes) -> None:
        """Write the codes of rows ``start .. stop - 1``."""
        if self.lookup is None:
            out[:] = self.raw[start:stop]
        else:
            np.take(self.lookup, self.raw[start:stop], out=out, mode="wrap")


def columns_of(data: Any) -> Mapping[Hashable, Any]:
    """Return the columns of a data frame or of a mapping, by name.

    Raises:
        DataError: If it is neither, or a frame has a column twice.
    """
    if not hasattr(data, "iloc") and hasattr(data, "to_pandas"):
        data = data.to_pandas()
    if isinstance(data, Mapping):
        return data
    if not (hasattr(data, "iloc") and hasattr(data, "columns")):
        raise DataError(
            "expected a DataFrame, a mapping from names to columns, or an integer array or tensor "
            f"of shape (N, V), got {type(data).__name__}"
        )
    names = list(data.columns)
    if len(set(names)) < len(names):
        twice = next(name for k, name in enumerate(names) if name in names[:k])
        raise DataError(f"data has two columns {twice!r}; keep one")
    return {name: data.iloc[:, k] for k, name in enumerate(names)}


def read_column(variable: Variable, values: Any) -> Column:
    """Read the column of a discrete variable.

    Args:
        variable: Whose column.
        values: ``(N,)``: Series, categorical or sequence of labels; integer array or tensor of
            indices.

    Raises:
        DataError: If the shape is wrong or a value is no state; it names column and row.
    """
    if isinstance(values, torch.Tensor):
        values = values.numpy(force=True)
    if isinstance(values, np.ndarray) and (
        values.dtype.kind in "iuf" or (values.dtype.kind == "b" and not _has_booleans(variable))
    ):
        return _from_indices(variable, _one_axis(variable, values))
    return _from_labels(variable, values)


def _has_booleans(variable: Variable) -> bool:
    return any(isinstance(label, bool | np.bool_) for label in variable.states or ())


def _one_axis(variable: Variable, values: Any) -> Any:
    if np.ndim(values) != 1:
        raise DataError(
            f"column {variable.name!r} must hold one value for each row, shape (N,), got shape "
            f"{np.shape(values)}"
        )
    return values


def _from_indices(variable: Variable, values: NDArray[Any]) -> Column:
    if values.dtype.kind == "f":
        values = np.where(np.isnan(values), MISSING, values)
    bad = (values < MISSING) | (values >= variable.num_states)
    if values.dtype.kind == "f":
        bad |= values != np.floor(values)
    if bad.any():
        row = int(bad.argmax())
        raise DataError(
            f"column {variable.name!r}, row {row}: {values[row]} is no state index "
            f"0..{variable.num_states - 1} (-1 means missing)"
        )
    return Column(variable.name, values.astype(np.int32))


def _from_labels(variable: Variable, values: Any) -> Column:
    """Look each distinct label up once; labels that no row has may be unknown."""
    raw, labels = _factorize(variable, values)
    lookup = np.full(len(labels) + 1, MISSING, dtype=np.int32)
    unknown: dict[int, EvidenceError] = {}
    for k, label in enumerate(labels):
        try:
            lookup[k] = variable.index(label)
        except EvidenceError as error:
            unknown[k] = error
    if unknown:
        _refuse_unknown(variable, raw, unknown)
    same = np.array_equal(lookup[:-1], np.arange(len(labels)))
    return Column(variable.name, raw, None if same else lookup)


def _factorize(variable: Variable, values: Any) -> tuple[NDArray[np.integer[Any]], list[Any]]:
    """Integers, -1 where a cell is missing, and the label that each stands for."""
    import pandas as pd

    if hasattr(getattr(values, "dtype", None), "categories"):
        categorical = getattr(values, "array", values)
        return categorical.codes, categorical.categories.tolist()
    if isinstance(values, str | bytes) or not isinstance(values, Iterable):
        raise DataError(
            f"column {variable.name!r} must be a sequence with one value for each row, got "
            f"{values!r}"
        )
    if not hasattr(values, "dtype"):
        items = list(values)
        values = np.empty(len(items), dtype=object)
        values[:] = items
    try:
        raw, labels = pd.factorize(_one_axis(variable, values))
    except TypeError as error:
        raise DataError(f"column {variable.name!r} must hold labels: {error}") from None
    return raw, labels.tolist()


def _refuse_unknown(
    variable: Variable, raw: NDArray[np.integer[Any]], unknown: Mapping[int, EvidenceError]
) -> None:
    bad = np.isin(raw, list(unknown))
    if bad.any():
        row = int(bad.argmax())
        count = int(bad.sum()) - 1
        others = f" ({count} more rows have unknown labels)" if count else ""
        message = unknown[int(raw[row])]
        raise DataError(f"column {variable.name!r}, row {row}: {message}{others}") from None
