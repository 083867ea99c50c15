"""Containers of values of any kind as one NumPy array, with a mask of missing cells."""

from __future__ import annotations

import datetime
import numbers
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pgnn.errors import EvidenceError

_NUMBER = (numbers.Real, np.bool_)


@dataclass(frozen=True, eq=False, slots=True)
class Cells:
    """Values as an array.

    Attributes:
        values: The values; of a categorical column the codes of its categories, -1 if missing.
        missing: Which cells are missing, where that does not follow from the values.
        categories: The categories of a categorical column.
    """

    values: NDArray[Any]
    missing: NDArray[np.bool_] | None = None
    categories: list[Any] | None = None


def is_missing(value: object) -> bool:
    """Whether a value is ``None``, ``NaN``, ``NA`` or a masked cell."""
    if value is None or value is np.ma.masked:
        return True
    if isinstance(value, numbers.Real):
        return bool(value != value)
    if isinstance(value, np.datetime64):
        return bool(np.isnat(value))
    return type(value).__name__ in ("NAType", "NaTType")


def is_date(value: object) -> bool:
    """Whether a value is a date or a duration of Python, NumPy or pandas."""
    return isinstance(value, datetime.date | datetime.timedelta | np.datetime64 | np.timedelta64)


def is_column(value: object) -> bool:
    """Whether a value is a Series, a Categorical or a similar column with a cell for each row."""
    return not isinstance(value, Tensor | np.ndarray | Mapping) and (
        hasattr(value, "dtype") and (hasattr(value, "to_numpy") or hasattr(value, "categories"))
    )


def is_container(value: object, labels: Mapping[Any, Any]) -> bool:
    """Whether a value is a container: labels may be tuples, and a set or a string is one value."""
    if isinstance(value, list | np.ndarray | Tensor):
        return True
    if isinstance(value, tuple):
        return not _is_label(value, labels)
    if isinstance(value, str | bytes | set | frozenset | Mapping | np.generic):
        return False
    return is_column(value) or (isinstance(value, Iterable) and not _is_label(value, labels))


def _is_label(value: Any, labels: Mapping[Any, Any]) -> bool:
    try:
        return value in labels
    except (TypeError, ValueError):  # not hashable; ValueError is that of a memoryview
        return False


def cells_of(value: Any, labels: Mapping[Any, Any]) -> Cells:
    """Read a container of any kind; dates and durations in whatever unit are those of pandas.

    Args:
        value: Tensor, array of any dtype, masked array, Series or Categorical of pandas, polars or
            another library, or (nested) sequence.
        labels: Labels of a variable, which may be tuples.

    Raises:
        EvidenceError: If parts of nested sequences have different shapes.
    """
    cells = _cells(value, labels)
    return _with_dates(cells) if cells.values.dtype.kind in "mM" else cells


def _with_dates(cells: Cells) -> Cells:
    """Dates and durations as categories, which are Timestamps and Timedeltas.

    Those without a unit, which are no dates, stay as they are.
    """
    import pandas as pd

    if np.datetime_data(cells.values.dtype)[0] == "generic":
        plain = np.empty(cells.values.shape, dtype=object)
        for place in np.ndindex(plain.shape):
            plain[place] = None if np.isnat(cells.values[place]) else cells.values[place]
        return Cells(plain, cells.missing)
    codes, distinct = pd.factorize(pd.Series(cells.values.ravel()))
    codes = codes.reshape(cells.values.shape)
    if cells.missing is not None:
        codes = np.where(cells.missing, -1, codes)
    return Cells(codes, None, [*distinct])


def _cells(value: Any, labels: Mapping[Any, Any]) -> Cells:
    """The values of a container, dates as numbers of NumPy's units."""
    if isinstance(value, Tensor):
        value = dense(value.detach()).cpu()
        return Cells(np.asarray(value.double() if value.dtype == torch.bfloat16 else value))
    if isinstance(value, np.ma.MaskedArray):
        mask = None if value.mask is np.ma.nomask else np.ma.getmaskarray(value)
        return Cells(np.asarray(np.ma.getdata(value)), mask)
    if isinstance(value, np.ndarray):
        return _of_objects(value) if value.dtype == object else Cells(value)
    if is_column(value):
        return _column(value)
    arrow = hasattr(value, "to_pylist")
    return _nested(value.to_pylist() if arrow else list(value), labels)


def dense(value: Tensor) -> Tensor:
    """Return a dense tensor: sparse and quantized ones are expanded.

    Raises:
        EvidenceError: If it has no values, as on the device "meta".
    """
    if value.is_meta:
        raise EvidenceError(
            f"a tensor of shape {tuple(value.shape)} on the device 'meta' holds no values",
            "move what it stands for to a device",
        )
    if value.is_quantized:
        value = value.dequantize()
    return value if value.layout == torch.strided else value.to_dense()


def unmasked(value: Any) -> Any:
    """Return a masked array as a plain one, ``NaN`` or ``None`` where masked; others unchanged.

    Example:
        >>> unmasked(np.ma.masked_array([1, 99], [False, True]))
        array([ 1., nan])
    """
    if not isinstance(value, np.ma.MaskedArray):
        return value
    plain, mask = np.asarray(np.ma.getdata(value)), np.ma.getmaskarray(value)
    if not mask.any():
        return plain
    gone: Any = np.nan if plain.dtype.kind in "biuf" else None
    return np.where(mask, gone, plain)


def is_masked(value: Any) -> bool:
    """Whether a cell of an array, or of arrays in nested lists, is masked.

    Example:
        >>> is_masked([np.ma.masked_array([1, 99], [False, True])]), is_masked([1, 99])
        (True, False)
    """
    if isinstance(value, list | tuple):
        return any(is_masked(x) for x in value if not isinstance(x, float | int | str))
    return bool(np.ma.is_masked(value))


def plain_numbers(value: Any) -> Any:
    """Convert an array or a tensor of numbers to a Python number, or a tuple of them.

    Anything else, and arrays of more than one axis, are returned unchanged.

    Example:
        >>> plain_numbers(np.array([1.0, 2.0])), plain_numbers(torch.tensor(0.5))
        ((1.0, 2.0), 0.5)
    """
    if not isinstance(value, np.ndarray | Tensor) or value.ndim > 1:
        return value
    array = np.asarray(dense(value.detach()).cpu()) if isinstance(value, Tensor) else value
    return array.item() if array.ndim == 0 else tuple(array.tolist())


def _column(column: Any) -> Cells:
    if not hasattr(column, "isna"):
        return _foreign_column(column)
    dtype = column.dtype
    if hasattr(dtype, "categories"):
        categorical = getattr(column, "array", column)
        return Cells(categorical.codes, None, categorical.categories.tolist())
    if isinstance(dtype, np.dtype):
        return Cells(np.asarray(column.to_numpy()))
    missing = np.asarray(column.isna())
    kind = getattr(dtype, "kind", "O")
    if kind not in "biuf":
        return Cells(column.to_numpy(dtype=object, na_value=None))
    plain = {"b": np.bool_, "f": np.float64}.get(kind, np.int64)
    return Cells(column.to_numpy(dtype=plain, na_value=0), missing if missing.any() else None)


def _foreign_column(column: Any) -> Cells:
    """A Series of polars or another library."""
    import narwhals

    series = narwhals.from_native(column, series_only=True)
    missing = np.asarray(series.is_null().to_numpy())
    if not missing.any() or series.dtype.is_float():
        values = series.to_numpy()
    elif series.dtype.is_integer() or series.dtype == narwhals.Boolean:
        values = series.fill_null(0 if series.dtype.is_integer() else False).to_numpy()
    else:
        values = _objects(series.to_list())
    values = np.asarray(values)
    values = values.astype(object) if values.dtype.kind in "US" else values
    return Cells(values, missing if missing.any() else None)


def _nested(items: list[Any], labels: Mapping[Any, Any]) -> Cells:
    """A sequence of values, or of sequences of them."""
    kinds = set(map(type, items))
    if str in kinds and kinds <= {str, type(None)}:
        return Cells(_objects(items))
    inner = [
        not is_missing(x) and is_container(x, labels)
        for x in (items if kinds - {bool, int, float, str, type(None)} else ())
    ]
    if not any(inner):
        return _flat(items)
    if not all(inner[k] or is_missing(x) for k, x in enumerate(items)):
        raise EvidenceError("a list holds both single values and lists", "give one or the other")
    parts = [cells_of(x, labels) if held else None for x, held in zip(items, inner, strict=True)]
    shapes = {p.values.shape for p in parts if p is not None}
    if len(shapes) > 1:
        raise EvidenceError(f"parts of different shapes: {', '.join(map(str, sorted(shapes)))}")
    (shape,) = shapes
    arrays = [None if p is None or _all_missing(p) else _uncategorized(p) for p in parts]
    blank = next((a for a in arrays if a is not None), np.zeros(shape))
    values = np.stack([np.zeros_like(blank) if a is None else a for a in arrays])
    if values.dtype.kind in "US":
        values = values.astype(object)
    missing = np.zeros((len(parts), *shape), dtype=np.bool_)
    for k, p in enumerate(parts):
        if p is None:
            missing[k] = True
        elif p.missing is not None:
            missing[k] = p.missing
    return Cells(values, missing if missing.any() else None)


def _flat(items: list[Any]) -> Cells:
    """Single values: as numbers, or booleans, if all that are not missing are such."""
    missing = [is_missing(x) for x in items]
    present = [x for x, m in zip(items, missing, strict=True) if not m] if any(missing) else items
    if items and not present:
        return Cells(np.zeros(len(items)), np.ones(len(items), dtype=np.bool_))
    kinds = set(map(type, present))
    truth = {k for k in kinds if issubclass(k, bool | np.bool_)}
    if not kinds or (truth and truth != kinds) or not all(issubclass(k, _NUMBER) for k in kinds):
        return Cells(_objects(items))
    blank = False if truth else 0
    try:
        values = np.array([blank if m else x for x, m in zip(items, missing, strict=True)])
    except OverflowError:
        return Cells(_objects(items))
    return Cells(values, np.array(missing) if any(missing) else None)


def _of_objects(values: NDArray[Any]) -> Cells:
    """An array of objects; of numbers if all are."""
    items = values.ravel().tolist()
    if str in set(map(type, items)):
        return Cells(values)
    flat = _flat(items)
    missing = None if flat.missing is None else flat.missing.reshape(values.shape)
    return Cells(flat.values.reshape(values.shape), missing)


def _objects(items: list[Any]) -> NDArray[Any]:
    array = np.empty(len(items), dtype=object)
    array[:] = items
    return array


def _all_missing(cells: Cells) -> bool:
    return cells.missing is not None and cells.missing.size > 0 and bool(cells.missing.all())


def _uncategorized(cells: Cells) -> NDArray[Any]:
    """The values of a part; those of a categorical column as categories, not codes."""
    if cells.categories is None:
        return cells.values
    table = np.array([*cells.categories, None], dtype=object)
    return np.asarray(table[cells.values])


def is_unlabelled(index: Any) -> bool:
    """Whether an index of pandas has the default labels 0, 1, 2, ..."""
    import pandas as pd

    return isinstance(index, pd.RangeIndex) and (index.start, index.step) == (0, 1)
