"""The state of a dual decomposition: messages from factors to elements, bounds, assignments."""

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

# relative rounding error of scores
_ROUNDING = 1e-9
_ENTRY = 10.0  # nanoseconds


class DualBound:
    r"""Bounds and best assignments of several rows, improved by sweeps over the elements.

    .. math:: D(\delta) = \sum_i \max_{x_i} \Big[\theta_i(x_i) + \sum_{f \ni i}
        \delta_{fi}(x_i)\Big] + \sum_f \max_{x_f} \Big[\theta_f(x_f) - \sum_{i \in f}
        \delta_{fi}(x_i)\Big] \ge \max_x \log \tilde p(x)

    A sweep visits the elements in order, or in reverse. At each element every factor passes on its
    max-marginal, and the sum is distributed to the factors with later elements (TRW-S, Kolmogorov
    2006; for factors of any order SRMP, Kolmogorov 2015). No step increases :math:`D`.

    States that are in no possible assignment are removed; once an assignment is known, so are
    states whose bound is below its score, which cannot be in a better one.

    Args:
        graph: Elements and factors.
        log_field: ``(B, S)`` unary log potentials, evidence included.

    Attributes:
        original: ``(B, S)`` the given unary log potentials.
        fields: ``(B, S)`` the unary log potentials, ``-inf`` at removed states.
        deltas: ``(B, L)`` dual variables :math:`\delta`, ``inf`` at removed states.
        bounds: ``(B,)`` upper bounds on the score of any assignment; ``-inf`` if none is possible.
        scores: ``(B,)`` scores of the best assignments so far, ``-inf`` if none is possible.
        states: ``(B, E)`` the best assignments so far.
        decoded: ``(B, E)`` the assignments of the last decoding sweep.
        sweeps: Number of sweeps.
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
        """``(L,)`` bits: whether a slot's factor has earlier (1) and later (2) elements."""
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
        """``(B,)`` duality gaps: bounds minus scores."""
        impossible = np.isneginf(self.bounds)
        difference = self.bounds - np.where(impossible, 0.0, self.scores)
        return np.where(impossible, 0.0, np.maximum(difference, 0.0))

    def row(self, row: int) -> DualBound:
        """Return a copy for one row, for trials; the tables are shared."""
        part = slice(row, row + 1)
        copy = DualBound(self.graph, self.fields[part])
        copy.deltas = self.deltas[part].copy()
        copy.bounds = self.bounds[part].copy()
        copy.sweeps = self.sweeps
        copy._tables = self.tables[part] if len(self.tables) > 1 else self.tables
        copy.__dict__["others"] = self.others
        return copy

    def choices(self, row: int) -> Ints:
        """``(E,)`` number of remaining states of each element."""
        first: Ints = self._choices(self.fields[row : row + 1])[0]
        return first

    def undecided(self) -> Ints:
        """``(B,)`` number of elements with several remaining states."""
        counts: Ints = (self._choices(self.fields) > 1).sum(axis=1)
        return counts

    def _choices(self, fields: Floats) -> Ints:
        used = (~np.isneginf(fields)).astype(np.int64)
        counts: Ints = np.add.reduceat(used, self.graph.elements.offset[:-1], axis=1)
        return counts

    def sweep(self, rows: Rows, decode: bool = True, drop: bool = True) -> None:
        """Improve the bounds of some rows, and optionally decode assignments.

        Args:
            rows: Indices of the rows.
            decode: Whether to decode assignments.
            drop: Whether to remove states that cannot be in a better assignment.
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
        """Keep ``(B, E)`` states in those rows in which they are better than the best known."""
        scores, row_scores = np.full(len(self.scores), -np.inf), np.zeros(len(rows))
        score_all(self.graph.wiring, self.tables, self.original, rows, states[rows], row_scores)
        scores[rows] = row_scores
        better = scores > self.scores
        self.scores[better] = scores[better]
        self.states[better] = states[better]
