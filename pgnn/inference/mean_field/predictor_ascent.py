"""Mean field of graphs in which some factors have no tables, but a bound."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray

from pgnn.inference.expansion import WRITTEN
from pgnn.inference.factor_graph import FactorGraph
from pgnn.inference.linear_predictors import split_predictors
from pgnn.inference.mean_field.coordinate_ascent import CoordinateAscent
from pgnn.inference.mean_field.softmax_bound import Moments, SoftmaxBound
from pgnn.inference.question import Question

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_TABLE = 2**18
"""Entries, those of all rows together, of the largest table that is rather written down."""
_STEPS, _FIRST_STEPS = 2, 10


def with_bounds(question: Question) -> tuple[Question, list[SoftmaxBound]]:
    """Return a question of factors that are written down, and bounds of those that are too large.

    Raises:
        Intractable: If a factor is too large and has no bound.
    """
    graph = question.graph
    if graph.written_down:
        return question, []
    graph = graph.expanded(WRITTEN)
    seen = graph.evidence(question.seen)
    groups = []
    for g in graph.groups:
        if not g.written_down:
            scope = g.scopes[0]
            hidden = scope[(seen.codes[:, scope] < 0).any(axis=0)]
            entries = math.prod(graph.card[hidden].tolist()) * len(seen.codes)
            g = g.given(seen.codes) if entries <= _TABLE else g
        groups.append(g)
    rest, predictors = split_predictors(graph.elements, groups)
    written = FactorGraph(graph.elements, [g.given(seen.codes) for g in rest])
    return question.over(written, seen), [SoftmaxBound(p) for p in predictors]


@dataclass(frozen=True, eq=False)
class PredictorAscent(CoordinateAscent):
    r"""Maximises :math:`E_q[\log \tilde p] + H(q)`, some of the expectations bounded from below.

    An element goes to the optimum of what touches the bounds at the present distributions, and is
    nowhere above them: no step lowers the bound.

    Args:
        bounds_of: What has no tables.
    """

    bounds_of: Sequence[SoftmaxBound] = ()
    _tilts: dict[int, Floats] = field(default_factory=dict)

    def sweep(
        self, q: Floats, rows: Ints, elements: Ints, tables: Floats, residual: Floats
    ) -> None:
        """See :class:`CoordinateAscent`."""
        touched = np.zeros(len(self.wiring.card), dtype=np.bool_)
        for bound in self.bounds_of:
            touched[bound.predictors.parent] = touched[bound.predictors.child] = True
        super().sweep(q, rows, elements[~touched[elements]], tables, residual)
        size = min(b.rows_at_once() for b in self.bounds_of)
        for k in range(0, len(rows), size):
            part = rows[k : k + size]
            self._sweep_bounded(q, part, elements[touched[elements]], tables, residual)

    def _sweep_bounded(
        self, q: Floats, rows: Ints, elements: Ints, tables: Floats, residual: Floats
    ) -> None:
        moments = [self._moments(k, q, rows) for k in range(len(self.bounds_of))]
        wiring, plain = self.wiring, np.zeros(1, dtype=np.int64)
        hidden = np.asarray((self.question.seen.codes[rows] < 0).any(axis=0))
        for e in elements[hidden[elements]].tolist():
            columns = slice(int(wiring.offset[e]), int(wiring.offset[e + 1]))
            now = q[rows]
            kept = self.field[rows, columns]
            for bound, m in zip(self.bounds_of, moments, strict=True):
                self.field[rows, columns] += bound.message(m, e, now)
            plain[0] = e
            super().sweep(q, rows, plain, tables, residual)
            self.field[rows, columns] = kept
            after = q[rows]
            for bound, m in zip(self.bounds_of, moments, strict=True):
                bound.move(m, e, now, after)

    def _moments(self, k: int, q: Floats, rows: Ints) -> Moments:
        """What a bound is made of; the tilts are kept, to begin with the next time."""
        bound, known = self.bounds_of[k], self._tilts.get(k)
        if known is None:
            own = bound.predictors
            known = np.full((len(q), len(own.child), own.num_classes), np.nan)
            self._tilts[k] = known
        fresh = bool(np.isnan(known[rows]).any())
        found = bound.moments(
            q[rows], rows, None if fresh else known[rows], _FIRST_STEPS if fresh else _STEPS
        )
        known[rows] = found.tilt
        return found

    def bounds(self, q: Floats) -> Floats:
        """See :class:`CoordinateAscent`."""
        own: Floats = self.expected_bounds(torch.from_numpy(q)).detach().numpy()
        return super().bounds(q) + own

    @property
    def requires_grad(self) -> bool:
        """See :class:`CoordinateAscent`."""
        own = (b.predictors for b in self.bounds_of)
        learned = any(p.terms.requires_grad or p.offset.requires_grad for p in own)
        return learned or super().requires_grad

    def expected_bounds(self, q: torch.Tensor) -> torch.Tensor:
        """Return ``(B,)`` what the factors without tables add; differentiable by their numbers."""
        total = torch.zeros(len(q), dtype=torch.float64)
        for k, bound in enumerate(self.bounds_of):
            size, parts = bound.rows_at_once(), []
            for first in range(0, len(q), size):
                rows = np.arange(first, min(first + size, len(q)))
                tilt = self._moments(k, q.numpy(), rows).tilt
                parts.append(bound.value(q[rows], tilt, rows))
            total = total + torch.cat(parts)
        return total
