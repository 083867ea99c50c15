"""Runs plans on the CPU by the compiled kernels, with rows divided among threads."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pgnn.inference.exact.compilation import KERNELS
from pgnn.inference.exact.kernels import decoding, execution, expectation
from pgnn.inference.exact.kernels.rows import distinct
from pgnn.inference.exact.plan import TILE, Mask, Plan
from pgnn.inference.exact.underflow import underflow
from pgnn.inference.factor_graph import FactorGraph
from pgnn.inference.threads import Stop, interruptible, never_stop, repeated

Codes = NDArray[np.int32]
Floats = NDArray[np.float64]
Rows = NDArray[np.int64]
Keep = Callable[[], None] | None
Piece = Callable[[Rows, Rows, Floats, Any, Stop], Keep]

_SINGLE = (0,)
_TILED = (0,) * TILE
_NOTHING = np.zeros((0, 0))
# rows are divided among threads only if each has at least this many multiply-adds
_WORTH_A_THREAD = 2e5
WORTH_WAITING = 3e7
"""Number of multiply-adds above which work is interruptible."""
_NEVER_STOP = never_stop()
# larger memory is allocated each time, which takes little time compared to filling it
_WORTH_KEEPING = 2**26
_SPLIT = 16
_DRAW = 50.0  # nanoseconds


class CpuExecutor:
    """Exact answers for one factor graph with given parameters.

    Args:
        graph: Variables and tables; row-wise tables must have as many rows as the evidence.
        max_bytes: Largest memory of messages, over all threads, in bytes.
    """

    def __init__(self, graph: FactorGraph, max_bytes: int) -> None:
        self.graph = graph
        self.max_bytes = max_bytes
        self._pool: list[Floats] = []

    def bytes_needed(self, plan: Plan, rows: int) -> int:
        """Return the memory of the messages for ``rows`` rows."""
        return plan.program(self._width(plan, rows)).memory * 8 * self._threads(plan, rows)

    def answer(
        self,
        plan: Plan,
        codes: Codes,
        soft: Floats | None,
        rows: Rows,
        wanted: Mask,
        log_z: Floats,
        out: Floats,
    ) -> None:
        """Write log evidence ``(B,)`` and marginals ``(B, S)`` of some rows.

        Args:
            plan: The plan for these rows.
            codes: ``(B, V)`` observed states, -1 where none.
            soft: ``(B, S)`` likelihoods, or None.
            rows: Indices of the rows to answer.
            wanted: ``(V,)`` variables that have columns in ``out``, including those of the plan.
            log_z: ``(B,)`` written at ``rows``; ``-inf`` where evidence is impossible or values
                underflow.
            out: ``(B, S)`` written at ``rows``.
        """
        tables, column = self.tables(codes, soft), self.graph.columns(wanted)

        def piece(part: Rows, code: Rows, memory: Floats, lanes: Any, stop: Stop) -> None:
            execution.answer(code, tables, part, memory, lanes, column, log_z, out, stop)

        log_z[self._run(plan, rows, piece)] = -np.inf
        log_z[rows] += self.log_scale(plan, rows)

    def expect(
        self,
        plan: Plan,
        codes: Codes,
        soft: Floats | None,
        weights: Floats,
        per_row: Mask,
    ) -> tuple[Floats, Floats, Floats, Rows]:
        """Return the log evidence, and weighted sums of the beliefs of the plan's factors.

        Args:
            plan: A plan with ``task.belief``.
            codes: ``(B, V)`` observed states.
            soft: ``(B, S)`` likelihoods, or None.
            weights: ``(B,)`` weight of each row.
            per_row: ``(F,)`` factors whose beliefs are returned row by row.

        Returns:
            ``(B,)`` log evidence; flat sums; ``(B, .)`` beliefs of the ``per_row`` factors; rows
            that were omitted because of underflow.
        """
        tables = self.tables(codes, soft)
        start = np.zeros(self.graph.num_factors, dtype=np.int64)
        ends = [0, 0]
        for kind in (0, 1):
            of_kind = plan.task.belief & (per_row == kind)
            sizes = self.graph.sizes[of_kind]
            start[of_kind] = np.cumsum(sizes) - sizes
            ends[kind] = int(sizes.sum())
        joint = np.zeros((len(codes), ends[1]))
        log_z, lost = np.zeros(len(codes)), np.zeros(len(codes), dtype=np.bool_)
        sums: list[Floats] = []

        def piece(part: Rows, code: Rows, memory: Floats, lanes: Any, stop: Stop) -> Keep:
            partial_sums = np.zeros(ends[0])
            expectation.expect(
                code, tables, part, memory, lanes, weights, log_z, lost, partial_sums, per_row,
                start, joint, stop,
            )  # fmt: skip
            return lambda: sums.append(partial_sums)

        rows = np.arange(len(codes))
        lost[self._run(plan, rows, piece)] = True
        total = np.sum(sums, axis=0) if sums else np.zeros(ends[0])
        return log_z + self.log_scale(plan, rows), total, joint, np.flatnonzero(lost)

    def decode(
        self, plan: Plan, codes: Codes, soft: Floats | None, draws: int = 0, seed: int = 0
    ) -> tuple[NDArray[np.int32], Floats]:
        """Return best states, or exact samples, and the log of the maximum or sum.

        Returns:
            ``(B, max(draws, 1), V)`` states and ``(B,)`` log values, ``-inf`` where evidence is
            impossible or values underflow.
        """
        tables = self.tables(codes, soft)
        states = repeated(codes, max(draws, 1), axis=1)
        log_z = np.zeros(len(codes))

        most = int(self.graph.card.max(initial=1))
        program, drawn = plan.program(self._width(plan, len(codes))), states.size
        cost = program.once + len(codes) * program.each + _DRAW * drawn
        decode = KERNELS.choose(decoding.decode, cost, guarded=True)

        def piece(part: Rows, code: Rows, memory: Floats, lanes: Any, stop: Stop) -> None:
            decode(code, most, tables, part, memory, lanes, draws, seed, states, log_z, stop)

        rows = np.arange(len(codes))
        log_z[self._run(plan, rows, piece)] = -np.inf
        return states, log_z + self.log_scale(plan, rows)

    # --- running ----------------------------------------------------------------------------------

    def _run(self, plan: Plan, rows: Rows, piece: Piece) -> Rows:
        """Run a kernel over the rows, in threads if worthwhile; return the rows with underflow."""
        width = self._width(plan, len(rows))
        lanes = _TILED if width == TILE else _SINGLE
        program = plan.program(width)
        size = program.memory + TILE

        lost = [rows[:0]]
        flags = underflow()

        def work(part: Rows, stop: Stop) -> None:
            memory = self.take(size)
            try:
                flags.clear()
                keep = piece(part, program.code, memory, lanes, stop)
                happened = flags.happened()
            finally:
                self.give_back(memory)
            if not happened:
                if keep is not None:
                    keep()
            elif len(part) <= width:
                lost.append(part)
            else:  # find the rows that underflowed
                step = -(-len(part) // (_SPLIT * width)) * width
                for first in range(0, len(part), step):
                    work(part[first : first + step], stop)

        parts = self._threads(plan, len(rows))
        if parts == 1 and program.once + len(rows) * program.each < WORTH_WAITING:
            work(rows, _NEVER_STOP)
            return np.concatenate(lost)
        edges = np.linspace(0, -(-len(rows) // width), parts + 1).astype(int) * width
        interruptible([partial(work, rows[a:b]) for a, b in pairwise(edges)], parts)
        return np.concatenate(lost)

    def _width(self, plan: Plan, rows: int) -> int:
        if rows <= 2 or plan.program(TILE).memory * 8 > self.max_bytes:
            return 1
        return TILE

    def _threads(self, plan: Plan, rows: int) -> int:
        width = self._width(plan, rows)
        program = plan.program(width)
        fits = self.max_bytes // max(program.memory * 8, 1)
        pays = int(rows * program.each / _WORTH_A_THREAD)
        return max(1, min(torch.get_num_threads(), fits, pays, -(-rows // width)))

    def take(self, size: int) -> Floats:
        """Return memory for at least that many values, reusing returned memory if possible."""
        try:
            while True:
                memory = self._pool.pop()
                if len(memory) >= size:
                    return memory
        except IndexError:
            pass
        return np.empty(size)

    def give_back(self, memory: Floats) -> None:
        """Return memory for reuse by the next row."""
        if memory.nbytes <= _WORTH_KEEPING:
            self._pool.append(memory)

    @staticmethod
    def distinct(codes: Codes) -> tuple[Rows, Rows]:
        """Return the first of each group of equal rows, and the group of every row."""
        first, kind = np.empty((2, len(codes)), dtype=np.int64)
        count = distinct(codes, first, kind)
        return first[:count].copy(), kind

    def tables(self, codes: Codes, soft: Floats | None) -> execution.ProgramInputs:
        """Return the tables as the kernels read them."""
        graph = self.graph
        return execution.ProgramInputs(
            graph.scaled_tables.values,
            graph.start,
            graph.scaled_tables.row_values,
            codes,
            _NOTHING if soft is None else soft,
            graph.scaled_tables.flushed,
        )

    def log_scale(self, plan: Plan, rows: Rows) -> Any:
        """Return the log of the factor by which scaling the tables has divided the result."""
        scale = float(self.graph.scaled_tables.log_scale[plan.task.used].sum())
        if self.graph.rowwise.any():
            used = plan.task.used[self.graph.rowwise]
            return scale + self.graph.scaled_tables.row_scale[rows][:, used].sum(axis=1)
        return scale
