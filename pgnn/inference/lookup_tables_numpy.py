"""The kernels of ``pgnn.inference.kernels.lookup_tables`` in NumPy, used without numba."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pgnn.inference.threads import Stop

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Codes = NDArray[np.int32]


def first_invalid(columns: Codes, card: Ints) -> tuple[int, int]:
    """Return row and variable of the first code outside ``0 .. K-1``, or ``(-1, -1)``."""
    bad = (columns < 0) | (columns >= card[:, None])
    if not bad.any():
        return -1, -1
    v, row = np.argwhere(bad)[0]
    return int(row), int(v)


def score(
    columns: Codes,
    scope_ptr: Ints,
    scope_var: Ints,
    stride: Ints,
    start: Ints,
    values: Floats,
    out: Floats,
    stop: Stop,
) -> None:
    """Sum the entries of all tables at each row."""
    for _, index in _located(columns, scope_ptr, scope_var, stride, start, stop):
        out += values[index]


def count(
    columns: Codes,
    scope_ptr: Ints,
    scope_var: Ints,
    stride: Ints,
    start: Ints,
    out: Ints,
    stop: Stop,
) -> None:
    """Add one to the entry of each row in each table."""
    for base, index in _located(columns, scope_ptr, scope_var, stride, start, stop):
        counts = np.bincount(index - base)
        out[base : base + len(counts)] += counts


def count_weighted(
    columns: Codes,
    scope_ptr: Ints,
    scope_var: Ints,
    stride: Ints,
    start: Ints,
    weights: Floats,
    out: Floats,
    stop: Stop,
) -> None:
    """Add the weight of each row to its entry in each table."""
    for base, index in _located(columns, scope_ptr, scope_var, stride, start, stop):
        totals = np.bincount(index - base, weights)
        out[base : base + len(totals)] += totals


def uniform(key: Any, counter: NDArray[np.uint64]) -> Floats:
    """Return uniform random numbers of a stream, equal to those of the compiled kernel."""
    x = np.uint64(key) + (counter + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    x = x ^ (x >> np.uint64(31))
    return np.asarray((x >> np.uint64(11)) * 2.0**-53)


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
    stop: Stop,
) -> None:
    """Draw rows from conditional probability tables by ancestral sampling and inverse cdf."""
    num_vars, num_rows = columns.shape
    rows = np.arange(first_row, first_row + num_rows, dtype=np.uint64) * np.uint64(num_vars)
    for f in order:
        if stop[0]:
            break
        a, last = scope_ptr[f], scope_ptr[f + 1] - 1
        child = scope_var[last]
        base = start[f] + stride[a:last] @ columns[scope_var[a:last]].astype(np.int64)
        with np.errstate(over="ignore"):  # overflow is intended
            u = uniform(key, rows + np.uint64(child))
        columns[child] = 0
        for k in range(card[child] - 1):
            columns[child] += cdf[base + k] <= u


def _located(
    columns: Codes, scope_ptr: Ints, scope_var: Ints, stride: Ints, start: Ints, stop: Stop
) -> Iterator[tuple[int, Ints]]:
    """Yield the offset of each table and the index of each row's entry in it."""
    for f, base in enumerate(start):
        if stop[0]:
            break
        index = np.full(columns.shape[1], base, dtype=np.int64)
        for i in range(scope_ptr[f], scope_ptr[f + 1]):
            index += stride[i] * columns[scope_var[i]]
        yield int(base), index
