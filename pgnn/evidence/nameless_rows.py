"""Rows of a model's only array, given without its name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from torch import Tensor

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


def _unmasked(rows: Any) -> Any:
    """Return nested lists without masked arrays, which NumPy would stack with what is masked."""
    if isinstance(rows, list | tuple):
        nested = any(isinstance(x, list | tuple | np.ndarray) for x in rows)
        return [_unmasked(x) for x in rows] if nested else rows
    return unmasked(rows)
