"""Weighted forward samples of a directed model with the evidence fixed."""

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
    """Local tables with the child's axis last; first one per element, then the others.

    Attributes:
        order: ``(E,)`` elements, parents before children.
        card: ``(E,)`` state counts.
        offset: ``(E + 1,)`` first column of each element, states being concatenated.
        ptr: ``(F + 1,)`` first index of each table's parents in ``parent``.
        parent: Parents of all tables, concatenated.
        stride: Strides of the parents.
        start: ``(F,)`` offset of each table.
        rowwise: ``(F,)`` whether a table depends on the row of evidence.
        log_shared: Log tables shared by all rows, flat.
        log_own: ``(B, .)`` log tables of each row.
        cdf_shared: Cumulative probabilities, in the layout of ``log_shared``.
        cdf_own: Cumulative probabilities, in the layout of ``log_own``.
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
    """Write to ``index`` the offsets in a table of the samples from ``first`` on."""
    index[:] = start
    for p in range(a, b):
        column = columns[parent[p]]
        for d in range(len(index)):
            index[d] += stride[p] * column[first + d]


@inner
def _draw(cdf, num, index, key, first_number, step, column, first):
    """Draw a state for each offset in a cumulative table; never one of probability 0."""
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
    """Draw weighted samples from a directed model in topological order, with the evidence fixed.

    Args:
        tables: Tables of the model.
        row: Row of evidence.
        codes: ``(E,)`` observed states, -1 where none.
        log_soft: ``(S,)`` log likelihoods of all states; of length 0 if there are none.
        key: uint64 that fixes the random numbers of this row.
        number: Index of the first sample; samples do not depend on how they are split into chunks.
        columns: ``(E, n)`` int32 output: states.
        log_weights: ``(n,)`` output: sum of the log probabilities of the evidence given its
            parents.

    Cost:
        One random number and at most ``K`` comparisons per element and sample.
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
        weights: ``(n,)`` weights of the samples.
        offset: ``(E + 1,)`` first column of each element.
        sums: ``(2, S)`` added to: sums of the weights, and of their squares.
    """
    squares = weights * weights
    for i in range(len(columns)):
        at, column = offset[i], columns[i]
        for d in range(len(weights)):
            sums[0, at + column[d]] += weights[d]
            sums[1, at + column[d]] += squares[d]
