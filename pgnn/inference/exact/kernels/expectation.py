"""Expected counts: the beliefs of factors, summed over rows or row by row."""

from __future__ import annotations

import numpy as np

from pgnn.inference.exact.kernels.execution import (
    downward,
    is_lost,
    prepare,
    slice_start,
    tile_of,
    upward,
)
from pgnn.inference.exact.kernels.program import DEPTH, LOAD, READ_OUT
from pgnn.inference.kernels.compiled import entry, inner


@inner
def _beliefs(
    code, memory, tables, rows, count, lanes, weights, lost, expected, per_row, start, joint
):
    """Add each row's weighted beliefs to ``expected``, or write them to its row of ``joint``."""
    width = len(lanes)
    counters = np.zeros(code[DEPTH], np.int64)
    at = code[READ_OUT]
    while at < code[READ_OUT + 1]:
        f, base, jump, adjoint = code[at + 1], code[at + 2], code[at + 3], code[at + 6]
        rank, loops = code[at + 5], at + LOAD + 2 * code[at + 4]
        size = 1
        for d in range(rank):
            size *= code[loops + 2 * d]
        for w in range(count):
            row = rows[w]
            lane = w if jump > 1 else 0
            total = 1.0
            if rank > 0:
                total = 0.0
                for i in range(size):
                    total += memory[base + i * jump + lane] * memory[adjoint + i * width + w]
            scale = weights[row] / total if total > 0.0 and not lost[row] else 0.0
            target = slice_start(code, at, tables, row) - tables.start[f] + start[f]
            for d in range(rank):
                counters[d] = 0
            for i in range(size):
                value = scale
                if rank > 0:
                    value *= memory[base + i * jump + lane] * memory[adjoint + i * width + w]
                if per_row[f]:
                    joint[row, target] = value
                else:
                    expected[target] += value
                d = rank - 1
                while d >= 0:
                    n, s = code[loops + 2 * d], code[loops + 2 * d + 1]
                    counters[d] += 1
                    target += s
                    if counters[d] < n:
                        break
                    target -= s * n
                    counters[d] = 0
                    d -= 1
        at += code[at]


@entry
def expect(
    code, tables, todo, memory, lanes, weights, log_z, lost, expected, per_row, start, joint, stop
):
    """Accumulate the beliefs of the program's factors over the rows ``todo``.

    Args:
        weights: ``(B,)`` weight of each row.
        log_z: ``(B,)`` output: the log evidence.
        lost: ``(B,)`` output: whether an underflow may matter; such rows are omitted.
        expected: Flat output, added to: factor ``f`` begins at ``start[f]``.
        per_row: ``(F,)`` factors whose beliefs are written to ``joint[row]`` instead.
        stop: ``(1,)`` what is left is not done once it is set.
    """
    width = len(lanes)
    counters, rows = np.zeros(code[DEPTH], np.int64), np.zeros(width, np.int64)
    tile_z, deep = np.zeros(width), np.zeros(width)
    log_scale, least = prepare(code, tables, memory, lanes[:1], counters, stop)
    for first in range(0, todo.shape[0], width):
        if stop[0] != 0:
            return
        count = tile_of(todo, first, rows)
        upward(code, tables, rows, memory, lanes, tile_z, deep, counters, stop)
        for w in range(count):
            log_z[rows[w]] = tile_z[w] + log_scale
            lost[rows[w]] = is_lost(tables, rows[w], least + deep[w])
        downward(code, memory, lanes, counters, stop)
        _beliefs(code, memory, tables, rows, count, lanes, weights, lost, expected, per_row,
                 start, joint)  # fmt: skip
