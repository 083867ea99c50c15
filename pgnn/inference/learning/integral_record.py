"""Expected statistics of conditionals whose real variables were integrated out."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
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
from pgnn.factors.gaussians.plain_elimination import PlainElimination
from pgnn.factors.variable import Variable
from pgnn.inference.learning.expected_statistics import (
    StatisticsCollector,
    WeightedRows,
    configuration_weights,
)
from pgnn.inference.learning.moment_points import moment_points
from pgnn.inference.learning.record import Record


@dataclass(frozen=True, eq=False)
class IntegralRecord(Record):
    r"""An integral over hidden real variables, recorded in place of a table.

    The gradient with respect to its table is the posterior of the discrete neighbours. Given their
    states the hidden real variables are normal, and quadratic statistics equal those of a few
    points with the same moments, see :func:`moment_points`.

    Attributes:
        integral: The integral.
        learned: The learnable conditionals with their names.

    References:
        Lauritzen (1995), The EM algorithm for graphical association models with missing data.
    """

    integral: HiddenIntegral
    learned: Sequence[tuple[Hashable, Conditional]]

    @classmethod
    def of(
        cls, integral: HiddenIntegral, leaf: Tensor, learned: Sequence[tuple[Hashable, Conditional]]
    ) -> Self:
        """Return the record of an integral.

        Args:
            integral: The integral.
            leaf: Its table.
            learned: The learnable conditionals with their names.
        """
        first = integral.component.conditionals[0]
        table = Factor(integral.system.free, leaf)
        return cls(first.child.name, first, table, {}, {}, integral, learned)

    def add_to(self, collector: StatisticsCollector, gradient: Tensor) -> None:
        """Add the expected statistics of all conditionals that have hidden reals."""
        first = 0
        for piece in self.integral.system.pieces():
            rows = slice(first, first + piece.num_rows)
            first += piece.num_rows
            elimination = piece.elimination()
            cliques = elimination.moments()
            for name, conditional in self.learned:
                self._add(
                    collector, name, conditional, piece, rows, gradient[rows], elimination, cliques
                )

    def _add(
        self,
        collector: StatisticsCollector,
        name: Hashable,
        conditional: Conditional,
        piece: LinearSystem,
        rows: slice,
        weights: Tensor,
        elimination: Elimination | PlainElimination,
        cliques: Mapping[int, Moments],
    ) -> None:
        """Add the statistics of one conditional in some rows.

        They equal those of a few points for each configuration of its discrete parents.
        """
        family = self._family(conditional, piece, rows, elimination, cliques)
        discrete = [v for v in conditional.parents if v.is_discrete]
        configuration = self._configuration(discrete, piece, rows)
        flat = weights.double().clamp_min(0.0).reshape(-1)
        points, counts, states = [], [], []
        for j in range(math.prod(v.num_states for v in discrete)):
            w = torch.where(configuration == j, flat, 0.0)
            total = w.sum()
            if float(total) > 0:
                points.append(family.points(w, total))
                counts.append(total.expand(len(points[-1])) / len(points[-1]))
                states.append(torch.full((len(points[-1]),), j))
        if not points:
            return
        values = family.split(torch.cat(points))
        label = torch.cat(states)
        for v in reversed(discrete):
            values[v.name] = label % v.num_states
            label = label // v.num_states
        each = torch.cat(counts)
        if isinstance(conditional, ExponentialFamily):
            spread = configuration_weights(conditional, values, each)
            collector.add_sums(name, conditional.statistics(values, spread))
        else:
            collector.add_rows(name, WeightedRows(values, {}, each))

    def _family(
        self,
        conditional: Conditional,
        piece: LinearSystem,
        rows: slice,
        elimination: Elimination | PlainElimination,
        cliques: Mapping[int, Moments],
    ) -> _Family:
        """Return the moments of the real variables of a conditional."""
        names = {v.name for v in piece.hidden}
        reals = [v for v in conditional.scope if not v.is_discrete]
        hidden = [v for v in reals if v.name in names]
        known = [v for v in reals if v.name not in names]
        mean, covariance = piece.moments(elimination, cliques, [v.name for v in hidden])
        observed = [self._rows(self.integral.observed[v.name], piece, rows) for v in known]
        columns = [x.double().reshape(piece.num_rows, -1) for x in observed]
        lead = (piece.num_rows, *piece.states)
        mean = mean.expand(*lead, mean.shape[-1]).reshape(-1, mean.shape[-1])
        per_row = math.prod(piece.states)
        side = [x.repeat_interleave(per_row, dim=0) for x in columns]
        return _Family((*hidden, *known), torch.cat([mean, *side], dim=1), covariance, lead)

    def _configuration(
        self, discrete: Sequence[Variable], piece: LinearSystem, rows: slice
    ) -> Tensor:
        """Index of the configuration of some variables, for each row and configuration of all."""
        lead = (piece.num_rows, *piece.states)
        axis = {v.name: k for k, v in enumerate(piece.free)}
        number = torch.zeros(lead, dtype=torch.int64)
        for v in discrete:
            shape = [1] * len(lead)
            if v.name in axis:
                shape[1 + axis[v.name]] = v.num_states
                states = torch.arange(v.num_states).reshape(shape)
            else:
                shape[0] = piece.num_rows
                states = self._rows(self.integral.known[v.name], piece, rows).reshape(shape)
            number = number * v.num_states + states
        return number.reshape(-1)

    @staticmethod
    def _rows(x: Tensor, piece: LinearSystem, rows: slice) -> Tensor:
        return x.expand(piece.num_rows, *x.shape[1:]) if len(x) == 1 else x[rows]


@dataclass(frozen=True, eq=False)
class _Family:
    """Moments of some real variables, for each row and configuration of discrete ones.

    Attributes:
        variables: The variables, hidden ones first.
        mean: ``(N, D)`` concatenated means.
        covariance: ``(B or 1, K1 or 1, ..., H, H)`` covariance of the hidden ones.
        lead: Leading shape ``(B, K1, ...)``, whose product is ``N``.
    """

    variables: tuple[Variable, ...]
    mean: Tensor
    covariance: Tensor
    lead: tuple[int, ...]

    def points(self, weights: Tensor, total: Tensor) -> Tensor:
        """Return points with the moments of rows with weights ``(N,)``."""
        mean = (weights.unsqueeze(1) * self.mean).sum(dim=0) / total
        error = self.mean - mean
        scatter = (weights.unsqueeze(1) * error).mT @ error
        weight = weights.reshape(self.lead).sum_to_size(self.covariance.shape[:-2])
        hidden = self.covariance.shape[-1]
        scatter[:hidden, :hidden] += torch.einsum(
            "n,nij->ij", weight.reshape(-1), self.covariance.reshape(-1, hidden, hidden)
        )
        return moment_points(mean, scatter / total)

    def split(self, points: Tensor) -> dict[Hashable, Tensor]:
        """Return values of each variable."""
        values, start = {}, 0
        for v in self.variables:
            part = points[:, start : start + v.num_elements]
            values[v.name] = part.reshape(len(points), *v.shape)
            start += v.num_elements
        return values
