"""Where each buffer lives in memory."""

from __future__ import annotations

import numpy as np

from pgnn.inference.exact.kernels.program import MARGINAL, Buffers, Steps, Structure
from pgnn.inference.kernels.compiled import Bools, Ints, inner

_GAPS = 64
"""Gaps in memory that are kept in mind; the time to look for one is that of looking at them all."""


@inner
def _keep(structure: Structure, buffers: Buffers, steps: Steps, factor_buf: Ints) -> Bools:
    """Buffers that are read after the last instruction."""
    keep = np.zeros(buffers.count[0], np.bool_)
    for op in range(steps.count[0]):
        out = steps.out[op]
        if steps.kind[op] == MARGINAL or buffers.ptr[out] == buffers.ptr[out + 1]:
            keep[out] = True
    for f in range(structure.used.shape[0]):
        b = factor_buf[f]
        if structure.belief[f] and b >= 0:
            keep[b] = True
            if buffers.adjoint[b] >= 0:
                keep[buffers.adjoint[b]] = True
    return keep


@inner
def _take(gap_start: Ints, gap_size: Ints, count: Ints, top: int, size: int) -> tuple[int, int]:
    """Find room in the first gap that is large enough, else at the top; return (start, top)."""
    for g in range(count[0]):
        if gap_size[g] >= size:
            start = gap_start[g]
            gap_start[g] += size
            gap_size[g] -= size
            if gap_size[g] == 0:
                count[0] -= 1
                for k in range(g, count[0]):
                    gap_start[k], gap_size[k] = gap_start[k + 1], gap_size[k + 1]
            return start, top
    return top, top + size


@inner
def _give_back(gap_start: Ints, gap_size: Ints, count: Ints, start: int, size: int) -> None:
    """Add a gap to the sorted list and melt it with its neighbours.

    Where there is no room for more gaps, the smallest is lost.
    """
    if count[0] == _GAPS:
        least = 0
        for k in range(1, count[0]):
            if gap_size[k] < gap_size[least]:
                least = k
        if gap_size[least] >= size:
            return
        count[0] -= 1
        for k in range(least, count[0]):
            gap_start[k], gap_size[k] = gap_start[k + 1], gap_size[k + 1]
    g = count[0]
    while g > 0 and gap_start[g - 1] > start:
        gap_start[g], gap_size[g] = gap_start[g - 1], gap_size[g - 1]
        g -= 1
    gap_start[g], gap_size[g] = start, size
    count[0] += 1
    for k in (g, g - 1):
        if 0 <= k < count[0] - 1 and gap_start[k] + gap_size[k] == gap_start[k + 1]:
            gap_size[k] += gap_size[k + 1]
            count[0] -= 1
            for i in range(k + 1, count[0]):
                gap_start[i], gap_size[i] = gap_start[i + 1], gap_size[i + 1]


@inner
def lay_out(
    structure: Structure, buffers: Buffers, steps: Steps, num_up: int, factor_buf: Ints, width: int
) -> tuple[int, int]:
    """Give every buffer an address; return the sizes of the static part and of all memory.

    The constant one comes first, then static buffers, then wide ones. A wide buffer's place is
    given away after its last use; a program without a downward pass keeps all, to decode from.
    """
    num_buffers, num_steps = buffers.count[0], steps.count[0]
    at = 1
    for b in range(1, num_buffers):
        if not buffers.wide[b]:
            buffers.start[b] = at
            at += buffers.size[b]
    static = (at + 7) // 8 * 8
    last = np.full(num_buffers, -1, np.int64)
    made = np.zeros(num_buffers, np.bool_)
    for op in range(num_steps):
        last[steps.x[op]] = op
        last[steps.y[op]] = op
        last[steps.z[op]] = op
        made[steps.out[op]] = True
    keep = _keep(structure, buffers, steps, factor_buf)
    if num_up == num_steps:
        keep[:] = True
    top = static
    for b in range(1, num_buffers):
        if buffers.wide[b] and not made[b]:  # loaded before the first instruction
            buffers.start[b] = top
            top += buffers.size[b] * width
    gap_start, gap_size = np.empty(_GAPS + 1, np.int64), np.empty(_GAPS + 1, np.int64)
    count = np.zeros(1, np.int64)
    for op in range(num_steps):
        out = steps.out[op]
        if buffers.wide[out]:
            size = buffers.size[out] * width
            buffers.start[out], top = _take(gap_start, gap_size, count, top, size)
        operands = (steps.x[op], steps.y[op], steps.z[op])
        for k in range(3):
            b = operands[k]
            if last[b] == op and buffers.wide[b] and not keep[b]:
                last[b] = num_steps  # given back once, also if it occurs twice
                _give_back(gap_start, gap_size, count, buffers.start[b], buffers.size[b] * width)
        if last[out] < 0 and buffers.wide[out] and not keep[out]:
            _give_back(gap_start, gap_size, count, buffers.start[out], buffers.size[out] * width)
    return static, top
