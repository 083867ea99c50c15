"""Forward draws of a directed model with the evidence held fixed, and the weight of each."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pgnn.inference.kernels.compiled import entry, inlined, inner
from pgnn.inference.kernels.random_numbers import uniform

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

TILE = 2048
"""Draws in a tile."""


class DirectedTables(NamedTuple):
    """Local tables, the child's states together; first one for each element, then the others.

    Attributes:
        order: ``(E,)`` elements, parents before children.
        card: ``(E,)`` state counts.
        offset: ``(E + 1,)`` first column of each element, states side by side.
        ptr: ``(F + 1,)`` where each table's parents begin; those of element ``i`` at ``ptr[i]``.
        parent: Elements that tables are looked up by.
        stride: Strides of the parents.
        start: ``(F,)`` where each table begins.
        rowwise: ``(F,)`` whether a table depends on the row of evidence.
        log_shared: Log tables that serve all rows, flat.
        log_own: ``(B, .)`` log tables of each row.
        cdf_shared: Cumulative probabilities where ``log_shared`` has logs.
        cdf_own: The same for ``log_own``.
    """

    order: Ints
    card: Ints
    offset: Ints
    ptr: Ints
    parent: Ints
    stride: Ints
    start: Ints
    rowwise: NDArray[np.bool_]
    log_shared: Floats
    log_own: Floats
    cdf_shared: Floats
    cdf_own: Floats


@inner
def _locate(columns, first, parent, stride, a, b, start, index):
    """Write to ``index`` where the draws from ``first`` on stand in a table."""
    index[:] = start
    for p in range(a, b):
        column = columns[parent[p]]
        for d in range(len(index)):
            index[d] += stride[p] * column[first + d]


@inner
def _draw(cdf, num, index, key, first_number, step, column, first):
    """Draw a state for each place of a cumulative table; those of probability 0 never are."""
    for d in range(len(index)):
        u = uniform(key, first_number + d * step)
        state = 0
        for k in range(index[d], index[d] + num - 1):
            state += cdf[k] <= u
        column[first + d] = state


@inlined
def _add(table, index, state, log_weights, first):
    for d in range(len(index)):
        log_weights[first + d] += table[index[d] + state]


@entry
def weighted_draws(tables, row, codes, log_soft, key, number, columns, log_weights):
    """Draw from a directed model, parents first; what was observed is fixed and weighs in.

    Args:
        tables: Of the model.
        row: Row of evidence.
        codes: ``(E,)`` observed states, -1 where none.
        log_soft: ``(S,)`` log likelihoods of all states; of length 0 if there are none.
        key: uint64 that fixes the random numbers of this row.
        number: Of the first draw; draws do not depend on how they are split into chunks.
        columns: ``(E, n)`` int32 written: states.
        log_weights: ``(n,)`` written: the sum of the logs of what was observed, given its parents.

    Cost:
        One random number and at most ``K`` comparisons for each element and draw.
    """
    order, card, offset, ptr, parent, stride, start, rowwise = tables[:8]
    log_own, cdf_own = tables.log_own[row], tables.cdf_own[row]
    num_elements, num_draws = columns.shape
    buffer = np.empty(TILE, np.int64)
    log_weights[:] = 0.0
    for first in range(0, num_draws, TILE):
        index = buffer[: min(TILE, num_draws - first)]
        for i in order:
            _locate(columns, first, parent, stride, ptr[i], ptr[i + 1], start[i], index)
            column = columns[i]
            if codes[i] >= 0:
                column[first : first + len(index)] = codes[i]
                table = log_own if rowwise[i] else tables.log_shared
                _add(table, index, codes[i], log_weights, first)
                continue
            cdf = cdf_own if rowwise[i] else tables.cdf_shared
            begin = (number + first) * num_elements + i
            _draw(cdf, card[i], index, key, begin, num_elements, column, first)
            if len(log_soft) > 0:
                for d in range(len(index)):
                    log_weights[first + d] += log_soft[offset[i] + column[first + d]]
        for f in range(num_elements, len(start)):
            _locate(columns, first, parent, stride, ptr[f], ptr[f + 1], start[f], index)
            table = log_own if rowwise[f] else tables.log_shared
            _add(table, index, 0, log_weights, first)


@entry
def weigh(columns, weights, offset, sums):
    """Add weights, and squared weights, of draws to the columns of their states.

    Args:
        columns: ``(E, n)`` states.
        weights: ``(n,)`` what each draw counts.
        offset: ``(E + 1,)`` first column of each element.
        sums: ``(2, S)`` added to: sums of the weights, and of their squares.
    """
    squares = weights * weights
    for i in range(len(columns)):
        at, column = offset[i], columns[i]
        for d in range(len(weights)):
            sums[0, at + column[d]] += weights[d]
            sums[1, at + column[d]] += squares[d]
