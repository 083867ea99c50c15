"""Tables that were asked for, and the statistics that gradients by them stand for."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass

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
    """One table that was asked for.

    Attributes:
        name: What its conditional is called.
        conditional: Whose.
        table: The log table, a leaf that wants its gradient.
        values: ``(N, ...)`` what of its scope was observed.
        inputs: Covariates ``(N, ...)``.
    """

    name: Hashable
    conditional: Conditional
    table: Factor
    values: Values
    inputs: Values

    def add_to(self, collector: StatisticsCollector, gradient: Tensor) -> None:
        """Add the statistics that a gradient stands for.

        Args:
            collector: To which.
            gradient: Of the log evidence by the table: the posterior weight of each configuration,
                for each row or for all of them.
        """
        conditional = self.conditional
        weights = gradient if self.table.batch_shape else gradient.unsqueeze(0)
        if isinstance(conditional, ExponentialFamily) and not conditional.inputs:
            spread = configuration_weights(conditional, self.values, weights)
            collector.add_sums(self.name, conditional.statistics(self.values, spread))
        else:
            collector.add_rows(self.name, WeightedRows(self.values, self.inputs, weights))


class EffectsRecord(Record):
    """The effects of independent causes, recorded in place of a large table.

    ``table`` is over the rows of :meth:`CausalIndependence.log_effects` and the child's states.
    """

    def add_to(self, collector: StatisticsCollector, gradient: Tensor) -> None:
        """Add the expected counts of the single effects."""
        collector.add_sums(self.name, (gradient.double(),))
