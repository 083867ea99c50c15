"""Recorded tables, whose gradients are expected statistics."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass

import torch
from torch import Tensor

from pgnn.factors.conditionals.conditional import Conditional
from pgnn.factors.conditionals.exponential_family import ExponentialFamily
from pgnn.factors.factor import Factor
from pgnn.inference.learning.expected_statistics import (
    StatisticsCollector,
    Values,
    WeightedRows,
    configuration_weights,
)


@dataclass(frozen=True, eq=False)
class Record:
    """A recorded table.

    Attributes:
        name: Name of its conditional.
        conditional: The conditional.
        table: The log table, a leaf that requires a gradient.
        values: ``(N, ...)`` observed values of its scope.
        inputs: Covariates ``(N, ...)``.
    """

    name: Hashable
    conditional: Conditional
    table: Factor
    values: Values
    inputs: Values

    def add_to(self, collector: StatisticsCollector, gradient: Tensor) -> None:
        """Add the statistics given by a gradient.

        Args:
            collector: The collector.
            gradient: Gradient of the log evidence with respect to the table: the posterior weight
                of each configuration, for each row or for all of them.
        """
        conditional = self.conditional
        weights = gradient if self.table.batch_shape else gradient.unsqueeze(0)
        if isinstance(conditional, ExponentialFamily) and not conditional.inputs:
            spread = configuration_weights(conditional, self.values, weights)
            collector.add_sums(self.name, conditional.statistics(self.values, spread))
        else:
            collector.add_rows(self.name, WeightedRows(self.values, self.inputs, weights))


class ElementsRecord(Record):
    """The tables of the elements of an array of discrete variables, which are independent.

    ``table`` is over the discrete parents, the elements, and their states.
    """

    def add_to(self, collector: StatisticsCollector, gradient: Tensor) -> None:
        """Add the statistics of a row for each element and state, with the others missing."""
        conditional, states = self.conditional, gradient.shape[-1]
        if not isinstance(conditional, ExponentialFamily) or self.table.batch_shape:
            super().add_to(collector, gradient)
            return
        elements = gradient.shape[-2]
        rows = gradient.new_full((elements, states, elements), torch.nan)
        each = torch.arange(elements)
        rows[each, :, each] = torch.arange(states).to(rows)
        child = conditional.child
        values = {child.name: rows.reshape(-1, *child.shape)}
        weights = gradient.reshape(-1, elements * states).T
        spread = weights.reshape(-1, *gradient.shape[:-2])
        collector.add_sums(self.name, conditional.statistics(values, spread))


class EffectsRecord(Record):
    """The effects of independent causes, recorded in place of a large table.

    ``table`` is over the rows of :meth:`CausalIndependence.log_effects` and the child's states.
    """

    def add_to(self, collector: StatisticsCollector, gradient: Tensor) -> None:
        """Add the expected counts of the single effects."""
        collector.add_sums(self.name, (gradient.double(),))
