"""The k most probable assignments, by partitioning the space around each (Lawler 1972)."""

from __future__ import annotations

import heapq
from itertools import count

import numpy as np
from numpy.typing import NDArray

from pgnn.inference.exact.solver import Solver

Codes = NDArray[np.int32]
Floats = NDArray[np.float64]


def k_best(
    solver: Solver, codes: Codes, soft: Floats | None, maximize: NDArray[np.bool_], k: int
) -> tuple[Codes, Floats]:
    """Return the best states and their log values, best first.

    Args:
        solver: Solver of the model.
        codes: ``(B, V)`` observed states.
        soft: ``(B, S)`` likelihoods, or None.
        maximize: ``(V,)`` variables to maximise over; the others are summed out.
        k: Number of assignments.

    Returns:
        ``(B, k, V)`` states (-1 where summed out, or where no further state is possible) and
        ``(B, k)`` log values.

    Cost:
        One maximisation, and for each further assignment of a row one batch with as many
        maximisations as there are variables to maximise over.
    """
    states, logs = solver.best(codes, soft, maximize)
    all_states = np.full((len(codes), k, codes.shape[1]), -1, dtype=np.int32)
    all_logs = np.full((len(codes), k), -np.inf)
    all_states[:, 0], all_logs[:, 0] = states, logs
    if k > 1:
        for row in range(len(codes)):
            if np.isfinite(logs[row]):
                row_soft = None if soft is None else soft[row]
                _further(
                    solver, row, codes[row], row_soft, maximize, all_states[row], all_logs[row]
                )
    return all_states, all_logs


def _further(
    solver: Solver,
    row: int,
    codes: NDArray[np.int32],
    soft: Floats | None,
    maximize: NDArray[np.bool_],
    states: Codes,
    logs: Floats,
) -> None:
    """Fill ``states[1:]`` and ``logs[1:]`` of one row; the best assignment is given.

    Every subset of assignments still to be searched is described by likelihoods of zeros and ones;
    its best member is on the heap.
    """
    free = np.flatnonzero(maximize & (codes < 0))
    offset = solver.graph.offset
    allowed = np.ones(int(offset[-1])) if soft is None else soft
    order = count()
    heap = [(-logs[0], next(order), states[0].copy(), allowed, 0)]
    for place in range(len(logs)):
        if not heap:
            return
        worth, _, best, space, fixed = heapq.heappop(heap)
        states[place], logs[place] = best, -worth
        # one subset per variable: equal to the best assignment before it, different at it, free
        # after
        parts = np.repeat(space[None], max(len(free) - fixed, 0), axis=0)
        for j in range(fixed, len(free)):
            v = free[j]
            parts[j - fixed, offset[v] + best[v]] = 0.0
            keep = space[offset[v] + best[v]]
            parts[j - fixed + 1 :, offset[v] : offset[v + 1]] = 0.0
            parts[j - fixed + 1 :, offset[v] + best[v]] = keep
        possible = [j for j in range(len(parts)) if _open(parts[j], free, offset)]
        if not possible or place == len(logs) - 1:
            continue
        rows = np.repeat(codes[None], len(possible), axis=0)
        row_solver = solver.at_rows(np.full(len(possible), row))
        solutions, tops = row_solver.best(rows, parts[possible], maximize)
        for i, j in enumerate(possible):
            if np.isfinite(tops[i]):
                item = (-tops[i], next(order), solutions[i], parts[j], fixed + j)
                heapq.heappush(heap, item)


def _open(space: Floats, free: NDArray[np.int64], offset: NDArray[np.int64]) -> bool:
    """Whether every variable has a possible state."""
    return all(space[offset[v] : offset[v + 1]].any() for v in free)
