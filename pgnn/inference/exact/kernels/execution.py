"""Run a program on rows of evidence."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pgnn.inference.exact.kernels.contraction import contract, largest
from pgnn.inference.exact.kernels.program import MARGINAL, OPEN, ROOT
from pgnn.inference.kernels.compiled import Floats, Ints, entry, inner

# A lane is rescaled when its largest entry leaves this range: three such numbers can be multiplied
_LOW, _HIGH = 1e-60, 1e60
# what was flushed to zero beforehand is less than the share exp(-100) of any greater sum
_DEEP = -600.0


class Tables(NamedTuple):
    """Numbers of a query.

    Attributes:
        values: All factors' tables, one after the other (linear units).
        start: ``(F,)`` where each factor begins, in ``values`` or in a row of ``rowwise``.
        own: ``(F,)`` whether the factor's table is in ``rowwise``.
        rowwise: ``(B, .)`` tables that differ from row to row.
        codes: ``(B, V)`` observed states, -1 where none.
        soft: ``(B, S)`` likelihoods of all states of all variables, or ``(0, 0)`` for ones.
        offset: ``(V + 1,)`` first column of each variable in ``soft``.
        flushed: ``(1,)`` or ``(B,)`` whether linear units make a zero of something that is none.
    """

    values: Floats
    start: Ints
    own: NDArray[np.bool_]
    rowwise: Floats
    codes: NDArray[np.int32]
    soft: Floats
    offset: Ints
    flushed: NDArray[np.bool_]


@inner
def is_lost(tables, row, deep):
    """Whether a number of a row that was flushed to zero may count."""
    flushed = tables.flushed[row if tables.flushed.shape[0] > 1 else 0]
    return flushed and deep < _DEEP


@inner
def slice_start(code, at, tables, row):
    """Where the slice of a factor that fits a row's evidence begins."""
    source = tables.start[code[at + 1]]
    for g in range(code[at + 4]):
        source += code[at + 8 + 2 * g] * tables.codes[row, code[at + 7 + 2 * g]]
    return source


@inner
def _copy(code, at, values, source, memory, target, jump, counters):
    """Copy a strided table to consecutive places (``jump`` apart) of memory."""
    loops = at + 7 + 2 * code[at + 4]
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


@inner
def _load(code, tables, rows, memory, counters):
    """Copy factor tables, sliced at each row's observed states."""
    at = np.int64(0)
    while at < code.shape[0]:
        f, base, jump = code[at + 1], code[at + 2], code[at + 3]
        for w in range(jump):
            source = slice_start(code, at, tables, rows[w])
            if tables.own[f]:
                _copy(code, at, tables.rowwise[rows[w]], source, memory, base + w, jump, counters)
            else:
                _copy(code, at, tables.values, source, memory, base + w, jump, counters)
        at = code[at]


@inner
def _constants(code, tables, rows, log_z):
    """Add the logs of the factors that are wholly observed."""
    for w in range(log_z.shape[0]):
        product, log_total = 1.0, 0.0
        at = np.int64(0)
        while at < code.shape[0]:
            source = slice_start(code, at, tables, rows[w])
            own = tables.own[code[at + 1]]
            product *= tables.rowwise[rows[w], source] if own else tables.values[source]
            if not _LOW < product < _HIGH:
                log_total += np.log(product) if product > 0.0 else -np.inf
                product = 1.0
            at = code[at]
        log_z[w] = log_total + np.log(product)


@inner
def _likelihoods(unary, tables, rows, memory, lanes):
    """Fill likelihoods: one state, soft numbers, or ones where nothing was seen."""
    width = len(lanes)
    for k in range(unary.shape[0]):
        v, base, num = unary[k, 0], unary[k, 1], unary[k, 2]
        for w in range(width):
            code = tables.codes[rows[w], v]
            for s in range(num):
                memory[base + s * width + w] = 1.0 if code < 0 or code == s else 0.0
            if tables.soft.shape[0] > 0:
                for s in range(num):
                    memory[base + s * width + w] *= tables.soft[rows[w], tables.offset[v] + s]


@inner
def _rescale(memory, start, size, lanes, top, log_scale, tally):
    """Bring lanes whose largest entry has left the safe range back to one."""
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


@inner
def _sound(memory, root, log_z, before, deep):
    """Note how small the sum of a component is, in each lane, where it is small."""
    for w in range(log_z.shape[0]):
        value = memory[root + w]
        if value < _LOW or log_z[w] < before[w]:
            own = log_z[w] - before[w] + (np.log(value) if value > 0.0 else -np.inf)
            deep[w] = min(deep[w], own)
        before[w] = log_z[w]


@inner
def prepare(program, tables, memory, single):
    """Run what is the same for all rows; return the log scale it leaves out, and a depth.

    ``single`` is the tuple of one lane. The depth is at most the least log sum of a component, and
    what a component that goes on with the rows can have lost so far.
    """
    counters = np.zeros(program.sizes[2], np.int64)
    log_scale, before, deep = np.zeros(1), np.zeros(1), np.zeros(1)
    down = 0.0
    memory[0] = 1.0
    _load(program.static_load, tables, np.zeros(1, np.int64), memory, counters)
    code = program.static
    at = np.int64(0)
    while at < code.shape[0]:
        contract(memory, code, at, single, counters, program.sizes[0])
        last = log_scale[0]
        _rescale(memory, code[at + 2], code[at + 3], single, program.sizes[0], log_scale, True)
        if code[at + 1] == OPEN:
            down += min(log_scale[0] - last, 0.0)
            before[0] += log_scale[0] - last
        if code[at + 1] == ROOT:
            _sound(memory, code[at + 2], log_scale, before, deep)
        at = code[at]
    return log_scale[0], min(deep[0], down)


@inner
def upward(program, tables, rows, memory, lanes, log_z, deep, counters):
    """Send messages to the roots for one tile of rows.

    Written are ``log_z`` (lanes,) and ``deep`` (lanes,), the least log sum of a component.
    """
    _constants(program.constant, tables, rows, log_z)
    before = log_z.copy()
    deep[:] = 0.0
    _load(program.load, tables, rows, memory, counters)
    _likelihoods(program.unary, tables, rows, memory, lanes)
    code = program.up
    at = np.int64(0)
    while at < code.shape[0]:
        contract(memory, code, at, lanes, counters, program.sizes[0])
        _rescale(memory, code[at + 2], code[at + 3], lanes, program.sizes[0], log_z, True)
        if code[at + 1] == ROOT:
            _sound(memory, code[at + 2], log_z, before, deep)
        at = code[at]
    for w in range(len(lanes)):
        product = 1.0
        for k in range(program.root.shape[0]):
            product *= memory[program.root[k, 0] + (w if program.root[k, 1] > 1 else 0)]
            if not _LOW < product < _HIGH:
                log_z[w] += np.log(product) if product > 0.0 else -np.inf
                product = 1.0
        log_z[w] += np.log(product)


@inner
def downward(program, memory, lanes, counters):
    """Compute adjoints and marginals for the tile that :func:`upward` has just run."""
    scratch = np.zeros(len(lanes))
    code = program.down
    at = np.int64(0)
    while at < code.shape[0]:
        contract(memory, code, at, lanes, counters, program.sizes[0])
        if code[at + 1] != MARGINAL:
            _rescale(memory, code[at + 2], code[at + 3], lanes, program.sizes[0], scratch, False)
        at = code[at]


@inner
def _collect(program, memory, tables, rows, count, lanes, column, marginals):
    """Write the normalised marginals of the tile's first ``count`` rows."""
    width = len(lanes)
    for k in range(program.marginal.shape[0]):
        v, base, num = program.marginal[k, 0], program.marginal[k, 1], program.marginal[k, 2]
        first = column[v]
        for w in range(count):
            total = 0.0
            for s in range(num):
                total += memory[base + s * width + w]
            scale = 1.0 / total if total > 0.0 else 0.0
            for s in range(num):
                marginals[rows[w], first + s] = memory[base + s * width + w] * scale


@entry
def answer(program, tables, todo, memory, lanes, column, log_z, marginals):
    """Write evidence and marginals of the rows ``todo``, a tile at a time.

    The evidence of rows in which a number that was flushed to zero may count is ``-inf``.
    ``column`` (V,) says where in ``marginals`` each wanted variable's states begin. Marginals are
    left out where ``program.down`` is empty.
    """
    width = len(lanes)
    counters = np.zeros(program.sizes[2], np.int64)
    rows = np.zeros(width, np.int64)
    tile_z, deep = np.zeros(width), np.zeros(width)
    log_scale, least = prepare(program, tables, memory, lanes[:1])
    for start in range(0, todo.shape[0], width):
        count = min(width, todo.shape[0] - start)
        for w in range(width):
            rows[w] = todo[start + min(w, count - 1)]
        upward(program, tables, rows, memory, lanes, tile_z, deep, counters)
        for w in range(count):
            lost = is_lost(tables, rows[w], least + deep[w])
            log_z[rows[w]] = -np.inf if lost else tile_z[w] + log_scale
        if program.down.shape[0] > 0:
            downward(program, memory, lanes, counters)
            _collect(program, memory, tables, rows, count, lanes, column, marginals)
