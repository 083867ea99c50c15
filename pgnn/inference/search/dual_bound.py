"""The numbers of a dual decomposition: what the factors have handed to their elements."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pgnn.inference.local_search import score_all
from pgnn.inference.search.compilation import KERNELS
from pgnn.inference.threads import Stop, interruptible

if TYPE_CHECKING:
    from pgnn.inference.factor_graph import FactorGraph

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Rows = NDArray[np.int64]

# differences of scores below this share of them are rounding
_ROUNDING = 1e-9
_ENTRY = 10.0  # nanoseconds


class DualBound:
    r"""Bounds and best assignments of several rows, improved by sweeps over the elements.

    .. math:: D(\delta) = \sum_i \max_{x_i} \Big[\theta_i(x_i) + \sum_{f \ni i}
        \delta_{fi}(x_i)\Big] + \sum_f \max_{x_f} \Big[\theta_f(x_f) - \sum_{i \in f}
        \delta_{fi}(x_i)\Big] \ge \max_x \log \tilde p(x)

    A sweep visits the elements in order, or back. At each one every factor hands over its
    max-marginal, and the sum is shared out to the factors that touch elements further on
    (TRW-S, Kolmogorov 2006; of any order: SRMP, Kolmogorov 2015). No step raises :math:`D`.

    States that no possible assignment has are dropped on the way; and once an assignment is
    known, so are states that would pull the bound below its score: they are in no better one.

    Args:
        graph: Elements and factors.
        log_field: ``(B, S)`` field of every element, evidence included.

    Attributes:
        original: ``(B, S)`` the field as it was given.
        fields: ``(B, S)`` the same, ``-inf`` at states that were dropped.
        deltas: ``(B, L)`` what factors have handed over, ``inf`` at states that were dropped.
        bounds: ``(B,)`` no assignment scores more; ``-inf`` where none is possible.
        scores: ``(B,)`` of the best assignment so far, ``-inf`` if none was possible.
        states: ``(B, E)`` the best assignment so far.
        decoded: ``(B, E)`` the assignment that the last decoding sweep came upon.
        sweeps: How many were made.
    """

    def __init__(self, graph: FactorGraph, log_field: Floats) -> None:
        rows = len(log_field)
        self.graph = graph
        self.original = np.ascontiguousarray(log_field)
        self.fields = self.original.copy()
        self.deltas = np.zeros((rows, int(graph.wiring.message[-1])))
        self.bounds = np.full(rows, np.inf)
        self.scores = np.full(rows, -np.inf)
        self.states = np.zeros((rows, len(graph.elements)), dtype=np.int64)
        self.decoded = self.states
        self.sweeps = 0
        self._tables = graph.log_tables

    @cached_property
    def others(self) -> NDArray[np.int8]:
        """``(L,)`` bits: whether a slot's factor touches earlier (1) and later (2) elements."""
        from pgnn.inference.search.kernels.dual import other_elements

        wiring = self.graph.wiring
        bits = np.zeros(len(wiring.slot_var), dtype=np.int8)
        run = KERNELS.choose(other_elements, _ENTRY * len(bits))
        run(wiring.factor_ptr, wiring.slot_var, bits)
        return bits

    @cached_property
    def tables(self) -> Floats:
        """``(1, T)`` or ``(B, T)`` log values of all factors."""
        return np.ascontiguousarray(self._tables)

    @property
    def gaps(self) -> Floats:
        """``(B,)`` how much better than the best one found an assignment could be."""
        impossible = np.isneginf(self.bounds)
        difference = self.bounds - np.where(impossible, 0.0, self.scores)
        return np.where(impossible, 0.0, np.maximum(difference, 0.0))

    def row(self, row: int) -> DualBound:
        """Return a copy for one row, to try things on; the tables are shared."""
        part = slice(row, row + 1)
        copy = DualBound(self.graph, self.fields[part])
        copy.deltas = self.deltas[part].copy()
        copy.bounds = self.bounds[part].copy()
        copy.sweeps = self.sweeps
        copy._tables = self.tables[part] if len(self.tables) > 1 else self.tables
        copy.__dict__["others"] = self.others
        return copy

    def choices(self, row: int) -> Ints:
        """``(E,)`` number of states of each element that are still in use."""
        first: Ints = self._choices(self.fields[row : row + 1])[0]
        return first

    def undecided(self) -> Ints:
        """``(B,)`` number of elements that have a choice."""
        counts: Ints = (self._choices(self.fields) > 1).sum(axis=1)
        return counts

    def _choices(self, fields: Floats) -> Ints:
        used = (~np.isneginf(fields)).astype(np.int64)
        counts: Ints = np.add.reduceat(used, self.graph.elements.offset[:-1], axis=1)
        return counts

    def sweep(self, rows: Rows, decode: bool = True, drop: bool = True) -> None:
        """Improve the bounds of some rows; look for better assignments on the way.

        Args:
            rows: Which.
            decode: Whether to look for assignments.
            drop: Whether to drop states that can only make assignments worse.
        """
        from pgnn.inference.search.kernels.dual import Sweep, sweep_rows

        rows = rows[~np.isneginf(self.bounds[rows])]
        cuts = np.full(len(self.bounds), np.inf)
        if drop:
            known = np.isfinite(self.scores) & np.isfinite(self.bounds)
            slack = _ROUNDING * (1.0 + np.abs(self.scores[known]))
            cuts[known] = np.maximum(self.bounds[known] - self.scores[known], 0.0) + slack
        bounds = self.bounds.copy()
        states = np.zeros_like(self.states)
        what = Sweep(self.sweeps % 2 == 1, self.sweeps == 0, decode, self.others)
        wiring, tables = self.graph.wiring, self.tables

        cost = _ENTRY * len(rows) * (tables.shape[1] + self.deltas.shape[1])
        run = KERNELS.choose(sweep_rows, cost)

        def work(stop: Stop) -> None:
            run(wiring, what, tables, self.fields, self.deltas, cuts, rows, states, bounds, stop)

        interruptible([work], cost=cost)
        self.bounds = np.minimum(self.bounds, bounds)
        self.sweeps += 1
        if decode:
            self.decoded = states
            self.offer(rows[~np.isneginf(self.bounds[rows])], states)

    def offer(self, rows: Rows, states: Ints) -> None:
        """Keep ``(B, E)`` states where, in some rows, they are better than the best ones known."""
        scores, row_scores = np.full(len(self.scores), -np.inf), np.zeros(len(rows))
        score_all(self.graph.wiring, self.tables, self.original, rows, states[rows], row_scores)
        scores[rows] = row_scores
        better = scores > self.scores
        self.scores[better] = scores[better]
        self.states[better] = states[better]
