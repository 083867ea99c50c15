"""Execute a program on rows of evidence."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pgnn.inference.exact.kernels.contraction import contract, largest
from pgnn.inference.exact.kernels.program import (
    CONSTANT,
    DEPTH,
    DOWN,
    LIKELIHOODS,
    LOAD,
    MARGINAL,
    MARGINALS,
    MEMORY,
    OPEN,
    ROOT,
    ROOTS,
    ROW_LOAD,
    STATIC,
    STATIC_LOAD,
    UP,
)
from pgnn.inference.kernels.compiled import Floats, Ints, entry, inner, lean

# A lane is rescaled when its largest entry leaves this range: three such values can be multiplied
_LOW, _HIGH = 1e-60, 1e60
# values that underflowed before contribute less than exp(-100) to any larger sum
_DEEP = -600.0


class ProgramInputs(NamedTuple):
    """The numerical inputs of a query.

    Attributes:
        values: All factors' tables, concatenated, in probability units.
        start: ``(F,)`` offset of each factor, in ``values`` or in a row of ``rowwise``.
        rowwise: ``(B, .)`` tables that depend on the row.
        codes: ``(B, V)`` observed states, -1 where none.
        soft: ``(B, S)`` likelihoods of all states of all variables, or ``(0, 0)`` for ones.
        flushed: ``(1,)`` or ``(B,)`` whether a positive entry underflows in probability units.
    """

    values: Floats
    start: Ints
    rowwise: Floats
    codes: NDArray[np.int32]
    soft: Floats
    flushed: NDArray[np.bool_]


@lean
def is_lost(tables, row, deep):
    """Whether an underflow in a row may affect the answer."""
    flushed = tables.flushed[row if tables.flushed.shape[0] > 1 else 0]
    return flushed and deep < _DEEP


@lean
def slice_start(code, at, tables, row):
    """Offset of the slice of a factor at a row's observed states."""
    source = tables.start[code[at + 1]]
    for g in range(code[at + 4]):
        source += code[at + LOAD + 1 + 2 * g] * tables.codes[row, code[at + LOAD + 2 * g]]
    return source


@lean
def _copy(code, at, values, source, memory, target, jump, counters):
    """Copy a strided table to memory, with entries ``jump`` apart."""
    loops = at + LOAD + 2 * code[at + 4]
    rank, size = code[at + 5], code[at + 6]
    for d in range(rank):
        counters[d] = 0
    n, s = code[loops + 2 * rank - 2], code[loops + 2 * rank - 1]
    done = 0
    while True:
        for i in range(n):
            memory[target] = values[source + i * s]
            target += jump
        done += n
        if done >= size:
            return
        d = rank - 2
        while d >= 0:
            n_d, s_d = code[loops + 2 * d], code[loops + 2 * d + 1]
            counters[d] += 1
            source += s_d
            if counters[d] < n_d:
                break
            source -= s_d * n_d
            counters[d] = 0
            d -= 1


@lean
def _load(code, section, tables, rows, memory, counters):
    """Copy factor tables, sliced at each row's observed states."""
    at = code[section]
    while at < code[section + 1]:
        base, jump = code[at + 2], code[at + 3]
        for w in range(jump):
            source = slice_start(code, at, tables, rows[w])
            if code[at + 7]:
                _copy(code, at, tables.rowwise[rows[w]], source, memory, base + w, jump, counters)
            else:
                _copy(code, at, tables.values, source, memory, base + w, jump, counters)
        at += code[at]


@lean
def _constants(code, tables, rows, log_z):
    """Add the logs of the factors that are completely observed."""
    for w in range(log_z.shape[0]):
        product, log_total = 1.0, 0.0
        at = code[CONSTANT]
        while at < code[CONSTANT + 1]:
            source = slice_start(code, at, tables, rows[w])
            constant = code[at + 7]
            product *= tables.rowwise[rows[w], source] if constant else tables.values[source]
            if not _LOW < product < _HIGH:
                log_total += np.log(product) if product > 0.0 else -np.inf
                product = 1.0
            at += code[at]
        log_z[w] = log_total + np.log(product)


@lean
def _likelihoods(code, tables, rows, memory, lanes):
    """Fill in likelihoods: an indicator, soft evidence, or ones for unobserved variables."""
    width = len(lanes)
    for at in range(code[LIKELIHOODS], code[LIKELIHOODS + 1], 4):
        v, base, num, column = code[at], code[at + 1], code[at + 2], code[at + 3]
        for w in range(width):
            observed = tables.codes[rows[w], v]
            for s in range(num):
                memory[base + s * width + w] = 1.0 if observed < 0 or observed == s else 0.0
            if tables.soft.shape[0] > 0:
                for s in range(num):
                    memory[base + s * width + w] *= tables.soft[rows[w], column + s]


@lean
def _rescale(memory, start, size, lanes, top, log_scale, tally):
    """Rescale lanes whose largest entry has left the safe range."""
    width = len(lanes)
    largest(memory, start, size, lanes, top)
    for w in range(width):
        value = memory[top + w]
        if value == 0.0 or _LOW < value < _HIGH:
            continue
        for i in range(start + w, start + size * width, width):
            memory[i] /= value
        if tally:
            log_scale[w] += np.log(value)


@lean
def _sound(memory, root, log_z, before, deep):
    """Record the log sum of a component in each lane, if it is small."""
    for w in range(log_z.shape[0]):
        value = memory[root + w]
        if value < _LOW or log_z[w] < before[w]:
            increment = log_z[w] - before[w] + (np.log(value) if value > 0.0 else -np.inf)
            deep[w] = min(deep[w], increment)
        before[w] = log_z[w]


@inner
def prepare(code, tables, memory, single, counters, stop):
    """Execute the instructions that all rows share; return a log scale and a depth.

    The log scale is to be added to the log evidence. ``single`` is the tuple of one lane. The depth
    is a lower bound on the log sum of each component, also of those that continue with the rows.
    """
    log_scale, before, deep = np.zeros(1), np.zeros(1), np.zeros(1)
    down, top = 0.0, code[MEMORY]
    memory[0] = 1.0
    _load(code, STATIC_LOAD, tables, np.zeros(1, np.int64), memory, counters)
    at = code[STATIC]
    while at < code[STATIC + 1] and stop[0] == 0:
        contract(memory, code, at, single, counters, stop)
        last = log_scale[0]
        _rescale(memory, code[at + 2], code[at + 3], single, top, log_scale, True)
        if code[at + 1] == OPEN:
            down += min(log_scale[0] - last, 0.0)
            before[0] += log_scale[0] - last
        if code[at + 1] == ROOT:
            _sound(memory, code[at + 2], log_scale, before, deep)
        at += code[at]
    return log_scale[0], min(deep[0], down)


@inner
def upward(code, tables, rows, memory, lanes, log_z, deep, counters, stop):
    """Pass messages to the roots for one tile of rows.

    Outputs are ``log_z`` (lanes,) and ``deep`` (lanes,), the smallest log sum of a component.
    """
    _constants(code, tables, rows, log_z)
    before, top = np.zeros(len(lanes)), code[MEMORY]
    for w in range(len(lanes)):
        before[w], deep[w] = log_z[w], 0.0
    _load(code, ROW_LOAD, tables, rows, memory, counters)
    _likelihoods(code, tables, rows, memory, lanes)
    at = code[UP]
    while at < code[UP + 1] and stop[0] == 0:
        contract(memory, code, at, lanes, counters, stop)
        _rescale(memory, code[at + 2], code[at + 3], lanes, top, log_z, True)
        if code[at + 1] == ROOT:
            _sound(memory, code[at + 2], log_z, before, deep)
        at += code[at]
    for w in range(len(lanes)):
        product = 1.0
        for k in range(code[ROOTS], code[ROOTS + 1], 2):
            product *= memory[code[k] + (w if code[k + 1] > 1 else 0)]
            if not _LOW < product < _HIGH:
                log_z[w] += np.log(product) if product > 0.0 else -np.inf
                product = 1.0
        log_z[w] += np.log(product)


@inner
def downward(code, memory, lanes, counters, stop):
    """Compute adjoints and marginals for the tile of the last call of :func:`upward`."""
    scratch, top = np.zeros(len(lanes)), code[MEMORY]
    at = code[DOWN]
    while at < code[DOWN + 1] and stop[0] == 0:
        contract(memory, code, at, lanes, counters, stop)
        if code[at + 1] != MARGINAL:
            _rescale(memory, code[at + 2], code[at + 3], lanes, top, scratch, False)
        at += code[at]


@lean
def tile_of(todo, first, rows):
    """Write the rows of the tile at ``first``, padded with the last row; return their number."""
    count = min(rows.shape[0], todo.shape[0] - first)
    for w in range(rows.shape[0]):
        rows[w] = todo[first + min(w, count - 1)]
    return count


@lean
def _collect(code, memory, rows, count, lanes, column, marginals):
    """Write the normalised marginals of the tile's first ``count`` rows."""
    width = len(lanes)
    for k in range(code[MARGINALS], code[MARGINALS + 1], 3):
        base, num, first = code[k + 1], code[k + 2], column[code[k]]
        for w in range(count):
            total = 0.0
            for s in range(num):
                total += memory[base + s * width + w]
            scale = 1.0 / total if total > 0.0 else 0.0
            for s in range(num):
                marginals[rows[w], first + s] = memory[base + s * width + w] * scale


@entry
def answer(code, tables, todo, memory, lanes, column, log_z, marginals, stop):
    """Write log evidence and marginals of the rows ``todo``, one tile at a time.

    The log evidence of rows in which an underflow may matter is ``-inf``. ``column`` (V,) is the
    first column of each wanted variable in ``marginals``. There are no marginals if the program has
    no downward pass. The kernel returns early once ``stop[0]`` is set.
    """
    width = len(lanes)
    counters, rows = np.zeros(code[DEPTH], np.int64), np.zeros(width, np.int64)
    tile_z, deep = np.zeros(width), np.zeros(width)
    log_scale, least = prepare(code, tables, memory, lanes[:1], counters, stop)
    for start in range(0, todo.shape[0], width):
        if stop[0] != 0:
            return
        count = tile_of(todo, start, rows)
        upward(code, tables, rows, memory, lanes, tile_z, deep, counters, stop)
        for w in range(count):
            lost = is_lost(tables, rows[w], least + deep[w])
            log_z[rows[w]] = -np.inf if lost else tile_z[w] + log_scale
        if code[DOWN + 1] > code[DOWN]:
            downward(code, memory, lanes, counters, stop)
            _collect(code, memory, rows, count, lanes, column, marginals)


@entry
def answer_row(code, values, start, flushed, codes, memory, column, certain, marginals) -> float:
    """Write the marginals of one row of ``codes`` (1, V); return its log evidence.

    Like :func:`answer`, with fewer arguments. ``certain`` are variables that the program treats as
    observed and whose marginals are wanted as well.
    """
    nothing, log_z, first = np.zeros((0, 0)), np.zeros(1), np.zeros(1, np.int64)
    tables = ProgramInputs(values, start, nothing, codes, nothing, flushed)
    answer(code, tables, first, memory, (first[0],), column, log_z, marginals, first)
    for v in certain:
        marginals[0, column[v] + codes[0, v]] = 1.0
    return log_z[0]
