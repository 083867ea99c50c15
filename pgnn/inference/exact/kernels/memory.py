"""Memory layout: the address of each buffer."""

from __future__ import annotations

import numpy as np

from pgnn.inference.exact.kernels.program import (
    ADDRESS,
    ADJOINT_OF,
    BELIEF,
    BUFFER,
    KIND,
    MARGINAL,
    NUM_BUFFERS,
    NUM_STEPS,
    NUM_UP,
    OUT,
    RANK,
    SIZE,
    WIDE,
    X,
)
from pgnn.inference.kernels.compiled import Ints, inner, lean

_GAPS = 64
"""Gaps in memory that are kept in mind; the time to look for one is that of looking at them all."""
# columns of the list of gaps: start and size; the last row holds their number and the top
_START, _SIZE = range(2)


@lean
def _drop(gaps: Ints, g: int) -> None:
    """Remove a gap from the list."""
    gaps[_GAPS, 0] -= 1
    for k in range(g, gaps[_GAPS, 0]):
        gaps[k, _START], gaps[k, _SIZE] = gaps[k + 1, _START], gaps[k + 1, _SIZE]


@lean
def _take(gaps: Ints, size: int) -> int:
    """Allocate the first gap that is large enough, or memory at the top; return the address."""
    for g in range(gaps[_GAPS, 0]):
        if gaps[g, _SIZE] >= size:
            start = gaps[g, _START]
            gaps[g, _START] += size
            gaps[g, _SIZE] -= size
            if gaps[g, _SIZE] == 0:
                _drop(gaps, g)
            return start
    gaps[_GAPS, 1] += size
    return gaps[_GAPS, 1] - size


@lean
def _give_back(gaps: Ints, start: int, size: int) -> None:
    """Add a gap to the sorted list and merge it with its neighbours.

    If the list is full, the smallest gap is dropped.
    """
    if gaps[_GAPS, 0] == _GAPS:
        least = 0
        for k in range(1, _GAPS):
            if gaps[k, _SIZE] < gaps[least, _SIZE]:
                least = k
        if gaps[least, _SIZE] >= size:
            return
        _drop(gaps, least)
    g = gaps[_GAPS, 0]
    while g > 0 and gaps[g - 1, _START] > start:
        gaps[g, _START], gaps[g, _SIZE] = gaps[g - 1, _START], gaps[g - 1, _SIZE]
        g -= 1
    gaps[g, _START], gaps[g, _SIZE] = start, size
    gaps[_GAPS, 0] += 1
    for k in range(g, g - 2, -1):
        if 0 <= k < gaps[_GAPS, 0] - 1 and gaps[k, _START] + gaps[k, _SIZE] == gaps[k + 1, _START]:
            gaps[k, _SIZE] += gaps[k + 1, _SIZE]
            _drop(gaps, k + 1)


@lean
def _last_uses(factors: Ints, buffers: Ints, steps: Ints, counts: Ints, last: Ints) -> None:
    """Write the last step that reads each buffer: -1 if none, the number of steps if it is kept.

    Buffers that are read after the last instruction are kept: evidence, marginals and beliefs; in a
    program without a downward pass all buffers, for decoding.
    """
    num_steps = counts[NUM_STEPS]
    for b in range(counts[NUM_BUFFERS]):
        last[b] = num_steps if counts[NUM_UP] == num_steps else -1
    for op in range(num_steps):
        for k in range(3):
            last[steps[op, X + k]] = max(op, last[steps[op, X + k]])
    for op in range(num_steps):
        out = steps[op, OUT]
        if steps[op, KIND] == MARGINAL or buffers[out, RANK] == 0:
            last[out] = num_steps
    for f in range(factors.shape[0] - 1):
        b = factors[f, BUFFER]
        if factors[f, BELIEF] and b >= 0:
            last[b] = num_steps
            if buffers[b, ADJOINT_OF] >= 0:
                last[buffers[b, ADJOINT_OF]] = num_steps


@inner
def lay_out(factors: Ints, buffers: Ints, steps: Ints, counts: Ints, width: int) -> tuple[int, int]:
    """Give every buffer an address; return the sizes of the static part and of all memory.

    The constant 1 comes first, then static buffers, then wide ones. The memory of a wide buffer is
    reused after its last use.
    """
    num_buffers, num_steps = counts[NUM_BUFFERS], counts[NUM_STEPS]
    last = np.empty(num_buffers, np.int64)
    _last_uses(factors, buffers, steps, counts, last)
    buffers[0, ADDRESS] = 0
    top = 1
    for b in range(1, num_buffers):
        buffers[b, ADDRESS] = -1
        if not buffers[b, WIDE]:
            buffers[b, ADDRESS] = top
            top += buffers[b, SIZE]
    static = (top + 7) // 8 * 8
    for op in range(num_steps):
        buffers[steps[op, OUT], ADDRESS] = max(buffers[steps[op, OUT], ADDRESS], 0)
    gaps = np.empty((_GAPS + 1, 2), np.int64)
    gaps[_GAPS, 0], gaps[_GAPS, 1] = 0, static
    for b in range(1, num_buffers):
        if buffers[b, ADDRESS] < 0:  # wide, and loaded before the first instruction
            buffers[b, ADDRESS] = gaps[_GAPS, 1]
            gaps[_GAPS, 1] += buffers[b, SIZE] * width
    for op in range(num_steps):
        out = steps[op, OUT]
        if buffers[out, WIDE]:
            buffers[out, ADDRESS] = _take(gaps, buffers[out, SIZE] * width)
        for k in range(3):
            b = steps[op, X + k]
            if last[b] == op and buffers[b, WIDE]:
                last[b] = num_steps  # freed once, also if it occurs twice
                _give_back(gaps, buffers[b, ADDRESS], buffers[b, SIZE] * width)
        if last[out] < 0 and buffers[out, WIDE]:
            _give_back(gaps, buffers[out, ADDRESS], buffers[out, SIZE] * width)
    return static, gaps[_GAPS, 1]
