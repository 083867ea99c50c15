"""Scores, counts and ancestral samples of complete rows by local tables, compiled.

Rows are columns of state codes, ``(V, B)`` int32, so that every loop reads contiguous memory. They
are processed in tiles that fit into the cache; within a tile, table by table.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from pgnn.inference.kernels.compiled import Codes, Floats, Ints, entry, inner
from pgnn.inference.kernels.random_numbers import uniform

TILE = 2048
"""Rows in a tile."""
_SEARCH_FROM = 12
"""States from which a binary search beats counting thresholds."""


@entry
def first_invalid(columns: Codes, card: Ints) -> tuple[int, int]:
    """Return row and variable of the first code outside ``0 .. K-1``, or ``(-1, -1)``."""
    for v in range(columns.shape[0]):
        column = columns[v]
        bad = False
        for r in range(column.shape[0]):
            bad |= (column[r] < 0) | (column[r] >= card[v])
        if bad:
            for r in range(column.shape[0]):
                if column[r] < 0 or column[r] >= card[v]:
                    return r, v
    return -1, -1


@inner
def _locate(columns: Codes, first: int, var: Ints, stride: Ints, index: Codes) -> None:
    """Write to ``index`` the offsets in a table of the rows from ``first`` on."""
    index[:] = 0
    for i in range(var.shape[0]):
        column = columns[var[i], first : first + index.shape[0]]
        step = np.int32(stride[i])
        for r in range(index.shape[0]):
            index[r] += step * column[r]


@entry
def score(
    columns: Codes,
    scope_ptr: Ints,
    scope_var: Ints,
    stride: Ints,
    start: Ints,
    values: Floats,
    out: Floats,
    stop: Ints,
) -> None:
    """Sum the entries of all tables at each row.

    Args:
        columns: ``(V, B)`` state codes, all valid.
        scope_ptr: ``(F + 1,)`` start of each table's scope.
        scope_var: Variables of all scopes, concatenated.
        stride: Stride of each of these in its table.
        start: ``(F,)`` offset of each table in ``values``.
        values: All log tables, flat.
        out: ``(B,)`` output, initially zeros: the sums.
        stop: Flag that is checked before each tile of rows.

    Cost:
        One addition per row and entry of ``scope_var``, one lookup per row and table.
    """
    num_rows = columns.shape[1]
    buffer = np.empty(TILE, np.int32)
    for first in range(0, num_rows, TILE):
        index = buffer[: min(TILE, num_rows - first)]
        if stop[0]:
            break
        for f in range(start.shape[0]):
            a, b = scope_ptr[f], scope_ptr[f + 1]
            _locate(columns, first, scope_var[a:b], stride[a:b], index)
            base = start[f]
            for r in range(index.shape[0]):
                out[first + r] += values[base + index[r]]


@entry
def count(
    columns: Codes,
    scope_ptr: Ints,
    scope_var: Ints,
    stride: Ints,
    start: Ints,
    out: Ints,
    stop: Ints,
) -> None:
    """Add one to each row's entry in every table; arguments as :func:`score`."""
    num_rows = columns.shape[1]
    buffer = np.empty(TILE, np.int32)
    for first in range(0, num_rows, TILE):
        index = buffer[: min(TILE, num_rows - first)]
        if stop[0]:
            break
        for f in range(start.shape[0]):
            a, b = scope_ptr[f], scope_ptr[f + 1]
            _locate(columns, first, scope_var[a:b], stride[a:b], index)
            base = start[f]
            for r in range(index.shape[0]):
                out[base + index[r]] += 1


@entry
def count_weighted(
    columns: Codes,
    scope_ptr: Ints,
    scope_var: Ints,
    stride: Ints,
    start: Ints,
    weights: Floats,
    out: Floats,
    stop: Ints,
) -> None:
    """Add each row's weight to its entry in every table; the adjoint of :func:`score`."""
    num_rows = columns.shape[1]
    buffer = np.empty(TILE, np.int32)
    for first in range(0, num_rows, TILE):
        index = buffer[: min(TILE, num_rows - first)]
        if stop[0]:
            break
        for f in range(start.shape[0]):
            a, b = scope_ptr[f], scope_ptr[f + 1]
            _locate(columns, first, scope_var[a:b], stride[a:b], index)
            base = start[f]
            for r in range(index.shape[0]):
                out[base + index[r]] += weights[first + r]


@inner
def _invert(cdf: Floats, base: int, num_states: int, u: float) -> int:
    """Number of thresholds ``cdf[base : base + num_states - 1]`` that do not exceed ``u``."""
    if num_states < _SEARCH_FROM:
        state = 0
        for k in range(base, base + num_states - 1):
            state += cdf[k] <= u
        return state
    low, high = 0, num_states - 1
    while low < high:
        middle = (low + high) >> 1
        if cdf[base + middle] <= u:
            low = middle + 1
        else:
            high = middle
    return low


@entry
def forward_sample(
    columns: Codes,
    card: Ints,
    order: Ints,
    scope_ptr: Ints,
    scope_var: Ints,
    stride: Ints,
    start: Ints,
    cdf: Floats,
    key: Any,
    first_row: int,
    stop: Ints,
) -> None:
    """Draw rows from conditional probability tables by ancestral sampling and inverse cdf.

    Args:
        columns: ``(V, B)`` output; row ``r`` is sample number ``first_row + r``.
        card: ``(V,)`` state counts.
        order: ``(V,)`` families in topological order.
        scope_ptr: ``(F + 1,)`` start of each family's scope, parents first and child last.
        scope_var: Variables of all scopes, concatenated.
        stride: Stride of each of these in its table.
        start: ``(F,)`` offset of each table.
        cdf: Cumulative probabilities of each row of each table, flat, ending at 1.
        key: uint64 key of the random numbers.
        first_row: Index of the first row.
        stop: Flag that is checked before each tile of rows.

    Cost:
        One random number and less than ``K`` comparisons per cell.
    """
    num_vars, num_rows = columns.shape
    buffer = np.empty(TILE, np.int32)
    for first in range(0, num_rows, TILE):
        index = buffer[: min(TILE, num_rows - first)]
        if stop[0]:
            break
        for step in range(num_vars):
            f = order[step]
            a, last = scope_ptr[f], scope_ptr[f + 1] - 1
            _locate(columns, first, scope_var[a:last], stride[a:last], index)
            child = scope_var[last]
            base, states = start[f], card[child]
            column = columns[child, first : first + index.shape[0]]
            for r in range(index.shape[0]):
                u = uniform(key, (first_row + first + r) * num_vars + child)
                column[r] = _invert(cdf, base + index[r], states, u)
