"""The mean log pseudo-likelihood on the CPU: a compiled walk over the rows, shared by threads."""

from __future__ import annotations

from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pgnn.factors.groups.factor_group import FactorGroup
from pgnn.inference.exact.known_slopes import with_slopes
from pgnn.inference.factor_graph import Codes, FactorGraph, Floats
from pgnn.inference.threads import in_threads
from pgnn.inference.wiring import Links, links_of

Ints = NDArray[np.int64]


class CpuPseudoLikelihood:
    """The mean over complete rows, as a function of the numbers of a graph of one structure.

    Args:
        codes: ``(N, E)`` states.
        shares: ``(N,)`` what each row counts.
    """

    def __init__(self, codes: Codes, shares: Floats) -> None:
        self.codes, self.shares = np.ascontiguousarray(codes, dtype=np.int32), shares
        self._links: Links | None = None

    def mean(self, graph: FactorGraph) -> Tensor:
        """Return the mean, ``()``, differentiable to first order.

        Args:
            graph: Row-wise tables have the rows of ``codes``; its structure is always the same.
        """
        if self._links is None:
            self._links = links_of(graph.wiring)
        walk = _Walk(self._links, graph, self.codes, self.shares)
        in_threads(walk.run, np.arange(len(self.codes)))
        value = torch.tensor(sum(walk.values), dtype=torch.float64)
        return with_slopes(
            value, [graph.log_field, *(g.numbers for g in graph.compiled)], walk.slopes
        )


class _Walk:
    """One evaluation."""

    def __init__(self, links: Links, graph: FactorGraph, codes: Codes, shares: Floats) -> None:
        self.links, self.graph, self.codes, self.shares = links, graph, codes, shares
        self.tables = np.ascontiguousarray(graph.log_tables)
        field = graph.log_field.detach().to(torch.float64).numpy()
        self.field = np.ascontiguousarray(field)
        self.values: list[float] = []
        self._parts: list[tuple[Floats, Floats]] = []
        # rows with numbers of their own write to slopes of their own, from any thread
        self._table_slopes = np.zeros_like(self.tables) if len(self.tables) > 1 else None
        self._field_slopes = np.zeros_like(self.field) if len(self.field) > 1 else None

    def run(self, rows: Ints) -> None:
        """Evaluate some rows."""
        from pgnn.inference.learning.kernels import pseudo_likelihood

        tables, field = self._table_slopes, self._field_slopes
        tables = np.zeros_like(self.tables) if tables is None else tables
        field = np.zeros_like(self.field) if field is None else field
        self.values.append(
            pseudo_likelihood.mean(
                self.links, self.tables, self.field, self.codes, self.shares, rows, tables, field
            )
        )
        self._parts.append((tables, field))

    @cached_property
    def slopes(self) -> list[Tensor]:
        """Derivatives by the field and by the numbers of each group."""
        tables, field = self._parts[0]
        for more, others in self._parts[1:]:
            tables = tables if self._table_slopes is not None else tables + more
            field = field if self._field_slopes is not None else field + others
        found, first = [torch.from_numpy(field)], 0
        for g in self.graph.compiled:
            size = g.num_entries * g.numbers.shape[len(g.batch_shape)]
            found.append(_like_numbers(g, torch.from_numpy(tables[:, first : first + size])))
            first += size
        return found


def _like_numbers(g: FactorGroup, gradient: Tensor) -> Tensor:
    """Derivatives by the entries in rows of tables as derivatives by a group's numbers."""
    if not g.batch_shape or g.batch_shape == (1,):
        gradient = gradient.sum(0)
    lead = g.numbers.shape[: len(g.batch_shape) + 1]
    return g.numbers_gradient(gradient.reshape(*lead, g.num_entries))
