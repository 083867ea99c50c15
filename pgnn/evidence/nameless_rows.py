"""Rows of a model's only array, given without its name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pgnn.errors import EvidenceError
from pgnn.evidence.reading import floats_of
from pgnn.factors.cells import unmasked
from pgnn.factors.variable import Variable


def nameless_rows(variable: Variable, values: Any) -> Any:
    """Return values as ``(*shape)`` or ``(N, *shape)`` of an array; None for other values.

    Args:
        variable: An array of variables.
        values: An array or list of values, or rows ``(N, n)`` of the variable's ``n`` elements.

    Example:
        >>> nameless_rows(Variable("pixel", 2, shape=(2, 2)), [[0, 1, 1, 0]]).shape
        (1, 2, 2)
    """
    if isinstance(values, list | tuple):
        values = stacked_rows(values)
    if not isinstance(values, Tensor | np.ndarray):
        return None
    if variable.shape in (tuple(values.shape), tuple(values.shape[1:])):
        return values
    flat = values.ndim == 2 and values.shape[1] == variable.num_elements
    return values.reshape(-1, *variable.shape) if flat else None


def stacked_rows(rows: Any) -> Any:
    """Return a list of rows as an array; None if lengths differ or rows are mappings."""
    if not rows or any(isinstance(row, Mapping) for row in rows):
        return None
    try:
        return np.array(_unmasked(rows))
    except (TypeError, ValueError, RuntimeError):
        return None


def listed_rows(data: Any, shape: tuple[int, ...] = ()) -> Any:
    """Return a list of rows of numbers as one array; other data unchanged.

    Args:
        data: Rows, each a list, an array or a tensor of numbers; ``None`` is missing. Other data is
            for example a list of batches or of mappings; a tuple has an array for each variable.
        shape: Of the array that rows are about, if they may have several axes.

    Example:
        >>> listed_rows([[0, 1], [1, None]]).tolist()
        [[0.0, 1.0], [1.0, nan]]
    """
    if not isinstance(data, list | tuple) or not data:
        return data
    if isinstance(data, tuple) and any(isinstance(row, Tensor | np.ndarray) for row in data):
        return data
    if not all(_is_row(row, shape) for row in data):
        return data
    tensors = [row for row in data if isinstance(row, Tensor)]
    if len(tensors) == len(data) and len({row.shape for row in tensors}) == 1:
        return torch.stack(tensors)
    rows = stacked_rows(data)
    if rows is not None and rows.dtype == object:
        try:
            rows = floats_of(data)
        except (TypeError, ValueError, EvidenceError):
            return data
    return data if rows is None or rows.dtype.kind not in "biuf" else rows


def _is_row(row: Any, shape: tuple[int, ...]) -> bool:
    """Whether a part of a list is a row and not a batch of them."""
    if isinstance(row, Tensor | np.ndarray):
        return row.ndim == 1 or tuple(row.shape) == shape
    if not isinstance(row, list | tuple) or not row:
        return False
    return len(shape) > 1 or not isinstance(row[0], list | tuple | Tensor | np.ndarray)


def _unmasked(rows: Any) -> Any:
    """Return nested lists without masked arrays, which NumPy would stack with what is masked."""
    if isinstance(rows, list | tuple):
        nested = any(isinstance(x, list | tuple | np.ndarray) for x in rows)
        return [_unmasked(x) for x in rows] if nested else rows
    return unmasked(rows)
