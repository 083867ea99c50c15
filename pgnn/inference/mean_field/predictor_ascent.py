"""Mean field for graphs with factors without tables, whose expected logs are bounded from below."""

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
"""Largest number of entries, over all rows, of a conditional that is expanded to a table."""
_STEPS, _FIRST_STEPS = 2, 10


def with_bounds(question: Question) -> tuple[Question, list[SoftmaxBound]]:
    """Return a query of the factors with tables, and bounds on the others.

    Raises:
        Intractable: If a factor is too large and has no bound.
    """
    graph = question.graph
    if graph.written_down:
        return question, []
    graph = graph.expanded(WRITTEN)
    observed = graph.evidence(question.observed)
    groups = []
    for g in graph.groups:
        if not g.written_down:
            scope = g.scopes[0]
            hidden = scope[(observed.codes[:, scope] < 0).any(axis=0)]
            entries = math.prod(graph.card[hidden].tolist()) * len(observed.codes)
            g = g.given(observed.codes) if entries <= _TABLE else g
        groups.append(g)
    tabular, predictors = split_predictors(graph.elements, groups)
    written = FactorGraph(graph.elements, [g.given(observed.codes) for g in tabular])
    return question.over(written, observed), [SoftmaxBound(p) for p in predictors]


@dataclass(frozen=True, eq=False)
class PredictorAscent(CoordinateAscent):
    r"""Maximises :math:`E_q[\log \tilde p] + H(q)` with some expectations bounded from below.

    Each element is set to the optimum of a minorant that is tight at the current distributions, so
    that no step decreases the bound.

    Args:
        softmax_bounds: Bounds on the factors without tables.
    """

    softmax_bounds: Sequence[SoftmaxBound] = ()
    _tilts: dict[int, Floats] = field(default_factory=dict)

    def sweep(
        self, q: Floats, rows: Ints, elements: Ints, tables: Floats, residual: Floats
    ) -> None:
        """See :class:`CoordinateAscent`."""
        bounded = np.zeros(len(self.wiring.card), dtype=np.bool_)
        for bound in self.softmax_bounds:
            bounded[bound.predictors.parent] = bounded[bound.predictors.child] = True
        super().sweep(q, rows, elements[~bounded[elements]], tables, residual)
        size = min(b.rows_at_once() for b in self.softmax_bounds)
        for k in range(0, len(rows), size):
            part = rows[k : k + size]
            self._sweep_bounded(q, part, elements[bounded[elements]], tables, residual)

    def _sweep_bounded(
        self, q: Floats, rows: Ints, elements: Ints, tables: Floats, residual: Floats
    ) -> None:
        moments = [self._moments(k, q, rows) for k in range(len(self.softmax_bounds))]
        wiring, element = self.wiring, np.zeros(1, dtype=np.int64)
        hidden = np.asarray((self.question.observed.codes[rows] < 0).any(axis=0))
        for e in elements[hidden[elements]].tolist():
            columns = slice(int(wiring.offset[e]), int(wiring.offset[e + 1]))
            before = q[rows]
            field = self.field[rows, columns]
            for bound, m in zip(self.softmax_bounds, moments, strict=True):
                self.field[rows, columns] += bound.message(m, e, before)
            element[0] = e
            super().sweep(q, rows, element, tables, residual)
            self.field[rows, columns] = field
            after = q[rows]
            for bound, m in zip(self.softmax_bounds, moments, strict=True):
                bound.update(m, e, before, after)

    def _moments(self, k: int, q: Floats, rows: Ints) -> Moments:
        """Return moments of a bound; the tilts are cached as initial values of the next call."""
        bound, tilts = self.softmax_bounds[k], self._tilts.get(k)
        if tilts is None:
            predictors = bound.predictors
            tilts = np.full((len(q), len(predictors.child), predictors.num_classes), np.nan)
            self._tilts[k] = tilts
        fresh = bool(np.isnan(tilts[rows]).any())
        moments = bound.moments(
            q[rows], rows, None if fresh else tilts[rows], _FIRST_STEPS if fresh else _STEPS
        )
        tilts[rows] = moments.tilt
        return moments

    def bounds(self, q: Floats) -> Floats:
        """See :class:`CoordinateAscent`."""
        contributions: Floats = self.expected_bounds(torch.from_numpy(q)).detach().numpy()
        return super().bounds(q) + contributions

    @property
    def requires_grad(self) -> bool:
        """See :class:`CoordinateAscent`."""
        predictors = (b.predictors for b in self.softmax_bounds)
        learned = any(p.terms.requires_grad or p.offset.requires_grad for p in predictors)
        return learned or super().requires_grad

    def expected_bounds(self, q: torch.Tensor) -> torch.Tensor:
        """Return ``(B,)`` bounds on factors without tables; differentiable in the parameters."""
        total = torch.zeros(len(q), dtype=torch.float64)
        for k, bound in enumerate(self.softmax_bounds):
            size, parts = bound.rows_at_once(), []
            for first in range(0, len(q), size):
                rows = np.arange(first, min(first + size, len(q)))
                tilt = self._moments(k, q.numpy(), rows).tilt
                parts.append(bound.value(q[rows], tilt, rows))
            total = total + torch.cat(parts)
        return total
