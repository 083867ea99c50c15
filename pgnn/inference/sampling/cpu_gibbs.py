"""Gibbs chains on the CPU: compiled sweeps, chains and rows cut into pieces for the threads."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pgnn.inference.sampling.gibbs_program import LARGEST_TABLE, Tables, compile_sweeps

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
States = NDArray[np.uint16]

# visits that are worth a thread of their own
_WORTH_A_THREAD = 2e5
_PENALTIES = (3.0, 6.0, 12.0, 24.0)
_ROUNDS = 8
_SETTLING = 25


class CpuChains:
    """``C`` chains for each of some rows of evidence, side by side.

    Args:
        tables: Rows, temperatures, numbers.
        seeds: ``(rows * C,)`` uint64, where each chain's random numbers begin.
        visits: How often each element will be visited.
        largest_table: See :func:`~pgnn.inference.sampling.gibbs_program.compile_sweeps`.

    Attributes:
        states: ``(rows * C, E)`` of the chains now.
    """

    def __init__(
        self,
        tables: Tables,
        seeds: NDArray[np.uint64],
        visits: int,
        largest_table: int = LARGEST_TABLE,
    ) -> None:
        chains = len(tables.temperatures)
        self._tables, self._num_chains = tables, chains
        shared = 1 if tables.rowwise else tables.num_rows
        visits = visits * chains // len(tables.steps) * shared
        self._program = compile_sweeps(tables, visits, largest_table)
        self._which, self._counters = tables.which(), seeds.copy()
        codes = tables.question.seen.codes[slice(*tables.rows)]
        self.states: States = np.repeat(np.maximum(codes, 0), chains, axis=0).astype(np.uint16)
        free = (codes < 0) & (tables.question.graph.elements.card > 1)
        self._order, self._ptr = _orders(free, _colour_order(self._program.wiring), chains)
        self._numbered = _orders(free, np.arange(self.num_elements), chains)[0]

    @property
    def num_elements(self) -> int:
        """Elements ``E``."""
        return int(self.states.shape[1])

    def start(self) -> NDArray[np.int64]:
        """Find states of positive probability.

        Returns:
            ``(rows,)`` 0 where all chains have one, 1 where the search was given up, 2 where
            there is none. Chains of the others won't move.
        """
        from pgnn.inference.sampling.kernels.gibbs_start import FOUND, GIVEN_UP

        outcome = self._search(self._ptr, 4 * self.num_elements + 1000)
        if (outcome == GIVEN_UP).any():
            self._settle(outcome)
        rows = outcome.reshape(-1, self._num_chains).max(axis=1)
        lost = np.repeat(rows != FOUND, self._num_chains)
        self._ptr[lost, 1] = self._ptr[lost, 0]
        return np.asarray(rows)

    def run(self, sweeps: int) -> None:
        """Sweep without keeping anything."""
        self._run((1, sweeps), _NOTHING_KEPT, _NOTHING_KEPT, _NO_TRACE)

    def collect(self, kept: int, thin: int) -> tuple[Floats, Floats]:
        """Sweep, and return ``(rows * C, S)`` sums of full conditionals and of their squares."""
        shape = len(self._which), int(self._program.wiring.offset[-1])
        sums, squares = np.zeros(shape), np.zeros(shape)
        self._run((kept, thin), sums, squares, _NO_TRACE)
        return sums, squares

    def trace(self, kept: int, thin: int) -> States:
        """Sweep, and return ``(kept, rows * C, E)`` states."""
        out = np.empty((kept, *self.states.shape), dtype=np.uint16)
        self._run((kept, thin), _NOTHING_KEPT, _NOTHING_KEPT, out)
        return out

    def conditionals(self) -> Floats:
        """Return ``(rows * C, S)`` full conditionals at the present states."""
        from pgnn.inference.sampling.kernels.gibbs import conditionals

        out = np.zeros((len(self._which), int(self._program.wiring.offset[-1])))
        conditionals(self._program, self._which, self.states, out)
        return out

    # --- running ------------------------------------------------------------------------------

    def _run(self, sweeps: tuple[int, int], sums: Floats, squares: Floats, trace: States) -> None:
        from pgnn.inference.sampling.kernels.gibbs import run

        num = len(self._which)
        sums = np.zeros((num, 0)) if sums is _NOTHING_KEPT else sums
        squares = np.zeros((num, 0)) if squares is _NOTHING_KEPT else squares

        def piece(first: int, last: int) -> None:
            run(
                self._program, (self._order, self._ptr), self._which, self.states,
                self._counters, (first, last), sweeps, sums, squares, trace,
            )  # fmt: skip

        visits = float(np.diff(self._ptr, axis=1).sum()) * sweeps[0] * sweeps[1]
        _in_pieces(piece, num, int(visits / _WORTH_A_THREAD))

    def _search(self, ptr: Ints, budget: int) -> Ints:
        from pgnn.inference.sampling.kernels.gibbs_start import search

        outcome = np.zeros(len(self._which), dtype=np.int64)

        def piece(first: int, last: int) -> None:
            search(
                self._program, (self._numbered, ptr), self._which, self.states,
                self._counters, (first, last), self._num_chains, budget, outcome,
            )  # fmt: skip

        _in_pieces(piece, len(outcome), int(self.states.size / _WORTH_A_THREAD))
        return outcome

    def _settle(self, outcome: Ints) -> None:
        """Let chains without a start drift to a possible state past penalties that rise."""
        from pgnn.inference.sampling.kernels.gibbs_start import FOUND, GIVEN_UP

        own = self._program, self._ptr
        ptr, empty = own[1].copy(), own[1].copy()
        empty[:, 1] = empty[:, 0]
        for k in range(_ROUNDS * len(_PENALTIES)):
            soft = replace(self._tables, penalty=_PENALTIES[k % len(_PENALTIES)])
            self._program = compile_sweeps(soft, _SETTLING)
            ptr[outcome != GIVEN_UP, 1] = ptr[outcome != GIVEN_UP, 0]
            self._ptr = ptr
            self.run(_SETTLING)
            self._program, self._ptr = own
            found = (self._search(empty, 0) == FOUND) & (outcome == GIVEN_UP)
            outcome[found] = FOUND
            if not (outcome == GIVEN_UP).any():
                break


_NOTHING_KEPT = np.zeros((0, 0))
_NO_TRACE = np.zeros((0, 0, 0), dtype=np.uint16)


def _in_pieces(piece: Callable[[int, int], None], num: int, pays: int) -> None:
    """Run a function over ``0 .. num``, in as many threads as there are and as pay."""
    parts = max(1, min(torch.get_num_threads(), num, pays))
    if parts == 1:
        piece(0, num)
        return
    edges = np.linspace(0, num, parts + 1).astype(int).tolist()
    with ThreadPoolExecutor(parts) as pool:
        list(pool.map(lambda edge: piece(*edge), pairwise(edges)))


def _colour_order(wiring: Any) -> Ints:
    """All elements, colour by colour: neighbours in memory don't wait for each other."""
    from pgnn.inference.sampling.kernels.colouring import colour

    return np.argsort(colour(wiring), kind="stable")


def _orders(
    free: NDArray[np.bool_], coloured: Ints, chains: int
) -> tuple[NDArray[np.uint32], Ints]:
    """Free elements of every row in order, and ``(rows * chains, 2)`` where each chain's are."""
    mine = free[:, coloured]
    if (mine == mine[:1]).all():
        order = coloured[mine[0]]
        ptr = np.tile([0, len(order)], (len(free), 1))
    else:
        order = coloured[np.nonzero(mine)[1]]
        ends = np.cumsum(mine.sum(axis=1))
        ptr = np.stack([np.concatenate([[0], ends[:-1]]), ends], axis=1)
    return order.astype(np.uint32), np.repeat(ptr, chains, axis=0).astype(np.int64)
