"""Sums of beliefs over rows and over factors that share a table."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pgnn.inference.factor_graph import FactorGraph

Floats = NDArray[np.float64]
Rows = NDArray[np.int64]


class ExpectedCounts:
    r"""Sums :math:`\sum_b w_b\, p(x_f \mid e_b)` of all factors; single terms for row-wise ones.

    Args:
        graph: The factor graph, with row-wise or shared tables.
        rows: Number of rows of evidence ``B``.
    """

    def __init__(self, graph: FactorGraph, rows: int) -> None:
        self.graph = graph
        self._shared = np.zeros(int(graph.sizes[~graph.rowwise].sum()))
        self._single = np.zeros((rows, int(graph.sizes[graph.rowwise].sum())))

    def add(self, rows: Rows, shared: Floats, single: Floats) -> None:
        """Add concatenated sums over some rows, and ``(R, .)`` terms of row-wise factors."""
        self._shared += shared
        self._single[rows] = single

    def add_beliefs(self, rows: Rows, weights: Floats, beliefs: Sequence[Floats]) -> None:
        """Add ``(R, K1, ..., Kn)`` beliefs of every factor."""
        graph = self.graph
        for f, table in enumerate(beliefs):
            flat = table.reshape(len(rows), -1)
            place = slice(graph.start[f], graph.start[f] + flat.shape[1])
            if graph.rowwise[f]:
                self._single[rows, place] = flat * weights[:, None]
            else:
                self._shared[place] += weights @ flat

    def by_source(self) -> list[Floats]:
        """Return the counts for each source of the graph, in its shape."""
        return [self._counts_of_group(k) for k in range(len(self.graph.sources))]

    def _counts_of_group(self, k: int) -> Floats:
        graph = self.graph
        f, count = int(graph.first[k]), int(graph.first[k + 1] - graph.first[k])
        shape = tuple(graph.sources[k].shape)
        if not count:
            return np.zeros(shape)
        held = self._single if graph.rowwise[f] else self._shared[None]
        size, start = int(graph.sizes[f]), int(graph.start[f])
        cells = held[:, start : start + count * size].reshape(len(held), count, size)
        if np.prod(shape) < cells.size:  # factors that share a table
            cells = cells.sum(axis=1)
        return cells.reshape(shape)
