"""Expected statistics of conditionals whose real variables were integrated out."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from pgnn.factors.conditionals.conditional import Conditional
from pgnn.factors.conditionals.exponential_family import ExponentialFamily
from pgnn.factors.factor import Factor
from pgnn.factors.gaussians.component import HiddenIntegral
from pgnn.factors.gaussians.elimination import Elimination, Moments
from pgnn.factors.gaussians.linear_system import LinearSystem
from pgnn.inference.gaussian_marginals import semidefinite_cholesky
from pgnn.inference.learning.expected_statistics import (
    StatisticsCollector,
    WeightedRows,
    configuration_weights,
)
from pgnn.inference.learning.record import Record


@dataclass(frozen=True, eq=False)
class IntegralRecord(Record):
    r"""An integral over hidden reals, recorded in place of a table.

    The gradient by its table is the posterior of the discrete neighbours. Given their states the
    hidden reals are normal, and statistics that are sums of products have the same expectations
    under points with the same mean and covariance,

    .. math:: \mu \pm \sqrt d \, L_i, \quad i = 1, \dots, d, \qquad L L^\top = \Sigma .

    Attributes:
        integral: What was integrated.
        learnt: Names of the learnable conditionals, and these.

    References:
        Lauritzen (1995), The EM algorithm for graphical association models with missing data.
        Julier and Uhlmann (1997), for the points.
    """

    integral: HiddenIntegral
    learnt: Sequence[tuple[Hashable, Conditional]]

    @classmethod
    def of(
        cls, integral: HiddenIntegral, leaf: Tensor, learnt: Sequence[tuple[Hashable, Conditional]]
    ) -> Self:
        """Return the record of an integral.

        Args:
            integral: What was integrated.
            leaf: Its table.
            learnt: Names of the learnable conditionals, and these.
        """
        first = integral.component.conditionals[0]
        table = Factor(integral.system.free, leaf)
        return cls(first.child.name, first, table, {}, {}, integral, learnt)

    def add_to(self, collector: StatisticsCollector, gradient: Tensor) -> None:
        """Add the expected statistics of all conditionals that have hidden reals."""
        first = 0
        for piece in self.integral.system.pieces():
            rows = slice(first, first + piece.num_rows)
            first += piece.num_rows
            found = piece.elimination()
            cliques = found.moments()
            for name, own in self.learnt:
                self._add(collector, name, own, piece, rows, gradient[rows], found, cliques)

    def _add(
        self,
        collector: StatisticsCollector,
        name: Hashable,
        own: Conditional,
        piece: LinearSystem,
        rows: slice,
        weights: Tensor,
        found: Elimination,
        cliques: dict[int, Moments],
    ) -> None:
        """Add the statistics of one conditional in some rows."""
        names = {v.name for v in piece.hidden}
        hidden = [v for v in own.scope if v.name in names]
        mean, covariance = piece.moments(found, cliques, [v.name for v in hidden])
        size = mean.shape[-1]
        lead = (piece.num_rows, *piece.states)
        mean = mean.expand(*lead, size).reshape(-1, size)
        root = semidefinite_cholesky(covariance).mT.expand(*lead, size, size)
        steps = math.sqrt(size) * root.reshape(-1, size, size)
        points = torch.cat([mean.unsqueeze(1) + steps, mean.unsqueeze(1) - steps], dim=1)
        count, each = len(mean), 2 * size
        values, start = {}, 0
        for v in hidden:
            part = points[..., start : start + v.num_elements]
            values[v.name] = part.reshape(count * each, *v.shape)
            start += v.num_elements
        per_row = count // piece.num_rows if piece.num_rows else 0
        axis = {v.name: k for k, v in enumerate(piece.free)}
        for v in own.scope:
            if v.name in axis:
                shape = [1] * len(lead)
                shape[1 + axis[v.name]] = v.num_states
                states = torch.arange(v.num_states).reshape(shape).expand(lead)
                values[v.name] = states.reshape(-1).repeat_interleave(each)
            elif v.name not in names:
                given = self.integral.known if v.is_discrete else self.integral.observed
                x = given[v.name]
                x = x.expand(piece.num_rows, *x.shape[1:]) if len(x) == 1 else x[rows]
                values[v.name] = x.repeat_interleave(per_row * each, dim=0)
        flat = weights.double().clamp_min(0.0).reshape(-1).repeat_interleave(each) / each
        if isinstance(own, ExponentialFamily):
            spread = configuration_weights(own, values, flat)
            collector.add_sums(name, own.statistics(values, spread))
        else:
            collector.add_rows(name, WeightedRows(values, {}, flat))
