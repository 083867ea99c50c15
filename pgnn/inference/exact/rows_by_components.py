"""Log evidence and expected counts of rows with missing values, by connected components."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pgnn.inference.exact.compilation import KERNELS
from pgnn.inference.exact.expected_counts import ExpectedCounts
from pgnn.inference.exact.hidden_components import HiddenComponents
from pgnn.inference.exact.planner import Ask
from pgnn.inference.exact.solver import Solver

Codes = NDArray[np.int32]
Floats = NDArray[np.float64]

_MANY_ROWS = 32
"""Smallest number of rows that are inspected before evaluation."""


class RowsByComponents:
    """Rows that are evaluated repeatedly with different parameters, as in learning.

    Rows with small components are summed component by component; plans answer the others.

    Args:
        codes: ``(B, V)`` observed states, -1 where none.
        components: The connected components of the rows.
    """

    def __init__(self, codes: Codes, components: HiddenComponents) -> None:
        self._codes, self.components = codes, components

    @classmethod
    def of(cls, solver: Solver, codes: Codes) -> RowsByComponents | None:
        """Return the prepared rows; None if the kernels cannot be used, or there are few rows.

        Args:
            solver: The solver; only its structure and its plans are used.
            codes: ``(B, V)`` observed states, -1 where none.
        """
        graph = solver.graph
        if len(codes) < _MANY_ROWS or solver.cpu is None or not KERNELS.ready():
            return None
        if graph.rowwise.any() or HiddenComponents.bytes_needed(graph, codes) > solver.max_bytes:
            return None
        ask = Ask(belief=np.ones(graph.num_factors, dtype=np.bool_), prune=False)
        return cls(codes, solver.planner.components(graph, codes, ask))

    def log_evidence(self, solver: Solver) -> Floats:
        """Return ``(B,)`` log evidence.

        Args:
            solver: The solver with the current parameters.

        Raises:
            Intractable: If a plan exceeds the budget.
        """
        log_z, left = self.components.log_evidence(solver.graph), self.components.left
        if len(left):
            log_z[left] = solver.log_evidence(self._codes[left], None)
        return log_z

    def expected(self, solver: Solver, weights: Floats) -> list[Floats]:
        """See :meth:`Solver.expected`."""
        graph, left = solver.graph, self.components.left
        counts = ExpectedCounts(graph, 0)
        nobody = np.zeros(0, dtype=np.int64)
        counts.add(nobody, self.components.counts(graph, weights), np.zeros((0, 0)))
        expected = counts.by_source()
        if len(left):
            rest = solver.expected(self._codes[left], None, weights[left])
            expected = [a + b for a, b in zip(expected, rest, strict=True)]
        return expected
