"""Evidence on one variable, as arrays; real values in any container."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pgnn.errors import EvidenceError, short_repr
from pgnn.evidence.framed_values import plain_values
from pgnn.factors.cells import Cells, cells_of, dense, is_column, is_container, is_date, is_missing
from pgnn.factors.finite import all_finite
from pgnn.factors.inference_mode import ordinary
from pgnn.factors.labels import Column
from pgnn.factors.sparse_rows import compressed, is_scipy_sparse, is_sparse
from pgnn.factors.variable import Variable

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False, slots=True)
class Reading:
    """Evidence on one variable: at most one of ``column``, ``likelihood`` and ``real``.

    Attributes:
        variable: The variable.
        rows: Number of rows ``B``; ``None`` if the evidence applies to all rows.
        column: Column of states, ``shape`` or ``(B, *shape)``.
        likelihood: ``(*shape, K)`` or ``(B, *shape, K)``, scaled so that the largest entry is one.
        log_scale: ``()`` or ``(B,)`` log scales, summed over the shape.
        tensor: The original unscaled likelihood, if it requires a gradient.
        real: ``event`` or ``(B, *event)`` values, ``NaN`` where not observed.
        whole: Whether these contain no ``NaN``.
    """

    variable: Variable
    rows: int | None = None
    column: Column | None = None
    likelihood: Floats | None = None
    log_scale: Floats | float = 0.0
    tensor: Tensor | None = None
    real: Tensor | None = None
    whole: bool = False


def read_real(variable: Variable, value: Any, in_part: int | None = None) -> Reading:
    """Read evidence on a real variable.

    Args:
        variable: The variable.
        value: Its value, or rows of values.
        in_part: If partial ``NaN`` is allowed, the number of trailing axes observed as a whole; 0
            if any element may be missing. None: the value is observed as a whole or not at all.

    Raises:
        EvidenceError: If the value is not numeric, infinite, partially ``NaN``, or of the wrong
            shape.
    """
    tensor = compressed(value) if is_scipy_sparse(value) else _real_tensor(variable, value)
    event = variable.shape
    batched = tensor.dim() == len(event) + 1
    if tuple(tensor.shape[batched:]) != event:
        expected = f"{event} or (B, {', '.join(map(str, event))})" if event else "() or (B,)"
        raise EvidenceError(
            f"evidence for real variable {variable.name!r} must have shape {expected}, got "
            f"{tuple(tensor.shape)}"
        )
    rows = tensor.shape[0] if batched else None
    if all_finite(tensor):
        return Reading(variable, rows, real=tensor, whole=True)
    if is_sparse(tensor):
        raise EvidenceError(
            f"evidence for real variable {variable.name!r} must be finite: a sparse matrix cannot "
            "have missing elements",
            "use a dense one for rows that were not observed",
        )
    flat = tensor.detach().reshape(tensor.shape[0] if batched else 1, math.prod(event))
    missing = flat.isnan()
    if bool(flat.isinf().any()):
        raise EvidenceError(f"evidence for real variable {variable.name!r} must be finite, got inf")
    whole = math.prod(event) if in_part is None else math.prod(event[len(event) - in_part :])
    parts = missing.reshape(-1, whole) if whole else missing
    if bool((parts.any(dim=1) & ~parts.all(dim=1)).any()):
        raise EvidenceError(
            f"evidence for {variable.name!r} is NaN in a part of an event of shape {event}; "
            "this requires a conditional that integrates out missing elements, such as Gaussian; "
            "otherwise a value is observed as a whole or not at all"
        )
    unobserved = flat.numel() > 0 and bool(missing.all())
    return Reading(variable, rows, real=None if unobserved else tensor)


def _real_tensor(variable: Variable, value: Any) -> Tensor:
    shape = variable.shape
    if is_missing(value):
        return torch.full(shape, torch.nan, dtype=torch.float64)
    if isinstance(value, Tensor):
        value = dense(value)
    if isinstance(value, Tensor) and not value.is_complex():
        return ordinary(value) if value.is_floating_point() else value.double()
    if _is_plain(value):
        return torch.from_numpy(value)  # which is never written to
    value = plain_values(variable, value, scalar=not shape)
    try:
        if shape and is_column(value):
            value = list(value)
        if shape and isinstance(value, list | tuple) and not len(value):
            return torch.empty((0, *shape), dtype=torch.float64)
        return torch.from_numpy(floats_of(value))
    except (TypeError, ValueError, EvidenceError) as error:
        hint = f"; {error}" if isinstance(error, DatesAreNoNumbers) else _first_text(value)
        what = f"numbers of shape {shape}, or rows of them" if shape else "numbers"
        raise EvidenceError(
            f"evidence for real variable {variable.name!r} must be {what}, got "
            f"{type(value).__name__}{hint}"
        ) from None


def _first_text(values: Any) -> str:
    """Which cell of a column is a text that spells no number, for a message."""
    for row, value in enumerate(values if is_column(values) else ()):
        with suppress(ValueError, TypeError):
            float(value)
            continue
        if isinstance(value, str):
            return f" with {short_repr(value)} in row {row}"
    return ""


class DatesAreNoNumbers(TypeError):
    """Dates or durations in place of numbers, which would depend on their unit."""

    def __str__(self) -> str:
        return (
            "a date is a number only in a unit, such as days: "
            "(dates - start) / numpy.timedelta64(1, 'D')"
        )


def _is_plain(value: Any) -> bool:
    """Return whether a value is an array that torch can share without a copy."""
    if type(value) is not np.ndarray or value.dtype not in (np.float64, np.float32):
        return False
    return bool(value.size and value.flags.writeable and min(value.strides, default=0) >= 0)


def floats_of(value: Any) -> NDArray[Any]:
    """Return values in any numeric container as a new float array, ``NaN`` where missing.

    Raises:
        TypeError: If values are not numeric; text is refused, although NumPy would convert it.
        ValueError: If parts have different shapes.
    """
    cells = cells_of(value, {}) if is_container(value, {}) else Cells(np.asarray(value))
    values, missing = cells.values, cells.missing
    if cells.categories is not None:
        values = np.array([*cells.categories, None], dtype=object)[values]
    if values.dtype.kind in "mM" or (
        values.dtype == object and any(map(is_date, values.ravel().tolist()))
    ):
        raise DatesAreNoNumbers
    if values.dtype.kind in "USc" or (
        values.dtype == object and any(isinstance(x, str | bytes) for x in values.ravel().tolist())
    ):
        raise TypeError("not numbers")
    if values.dtype == object:
        missing = np.array([is_missing(x) for x in values.ravel()], dtype=np.bool_)
        missing = missing.reshape(values.shape)
        values = np.where(missing, np.nan, values)
    floats = np.array(values, dtype=np.float32 if values.dtype == np.float32 else np.float64)
    if missing is not None:
        floats[missing] = np.nan
    return floats


def common_rows(readings: Sequence[Reading], index_rows: int | None) -> int | None:
    """Return the common number of rows ``B``; ``None`` if nothing is batched.

    Raises:
        EvidenceError: If numbers of rows differ.
    """
    first, rows = "the data frame", index_rows
    for f in readings:
        if f.rows is None:
            continue
        if rows is None:
            first, rows = repr(f.variable.name), f.rows
        elif f.rows != rows:
            raise EvidenceError(
                f"evidence for {f.variable.name!r} has {f.rows} rows but {first} has {rows}",
                "give all of them the same number of rows, or one value for all rows",
            )
    return rows


def check_cells(readings: Sequence[Reading], rows: int) -> None:
    """Raise an error for frame columns of numbers that belong to an array.

    Raises:
        EvidenceError: If there is such a column, whose cells could be rows or cells of the array.
    """
    for f in readings:
        if f.real is not None and f.rows is None and f.variable.shape:
            name = f.variable.name
            raise EvidenceError(
                f"{name!r} is an array of shape {f.variable.shape}, such as a plate, and its "
                f"column has a number in each of {rows} rows: are these rows of evidence, or the "
                "cells of the array?",
                f"Write cells as {{{name!r}: table[{name!r}].to_numpy()}}, rows with an array in "
                "each cell",
            )


def check_apart(readings: Sequence[Reading]) -> None:
    """Raise an error for evidence on both an array as a whole and its elements.

    Raises:
        EvidenceError: If both are given.
    """
    whole = {f.variable.name for f in readings if f.variable.shape}
    for f in readings if whole else ():
        name = f.variable.name
        if isinstance(name, tuple) and len(name) > 1 and name[0] in whole:
            raise EvidenceError(
                f"{name[0]!r} is given as a whole, and its element {name!r} again",
                "put all into one array, -1 where a cell was not observed",
            )
