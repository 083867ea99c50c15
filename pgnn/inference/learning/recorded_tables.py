"""Tables that are leaves of a gradient, and what they were made from."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution

from pgnn.factors.conditionals.conditional import Conditional
from pgnn.factors.conditionals.exponential_family import ExponentialFamily, Statistics
from pgnn.factors.factor import Factor
from pgnn.inference.learning.expected_statistics import Places, Values, Weighted
from pgnn.inference.learning.family_weights import family_weights


@dataclass(frozen=True, eq=False)
class Record:
    """One table that was asked for.

    Attributes:
        conditional: Whose.
        table: The log table, a leaf that wants its gradient.
        values: ``(N, ...)`` what of the family was seen.
        inputs: Covariates ``(N, ...)``.
    """

    conditional: Conditional
    table: Factor
    values: Values
    inputs: Values

    def summed(self, weights: Tensor) -> Statistics | None:
        """Return sufficient statistics of the posterior; None without a closed form.

        Args:
            weights: Slope of the log evidence by the table: of each configuration, for each row
                or for all of them.
        """
        own = self.conditional
        if not isinstance(own, ExponentialFamily) or own.inputs:
            return None
        weights = weights if self.table.batch_shape else weights.unsqueeze(0)
        return own.statistics(self.values, family_weights(own, self.values, weights))

    def weighted(self, weights: Tensor) -> Weighted:
        """Return the rows, weighted by the posterior; arguments as of :meth:`summed`."""
        weights = weights if self.table.batch_shape else weights.unsqueeze(0)
        return Weighted(self.values, self.inputs, weights)


@dataclass(eq=False)
class Recorder:
    """Makes the tables of conditionals, and keeps them with their places.

    Attributes:
        places: The conditionals that are recorded.
        records: The tables made so far, by place.
    """

    places: Places
    records: dict[Hashable, list[Record]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._place = {id(c): place for place, c in self.places.items()}

    def factor(self, own: Conditional, observed: Values | None, inputs: Values | None) -> Factor:
        """Return a conditional's table; a leaf if it is one of the recorded."""
        with torch.no_grad():
            made = own.factor(observed, inputs)
        if id(own) not in self._place:
            return made
        place = self._place[id(own)]
        table = Factor(
            made.variables, made.log_values.detach().clone().requires_grad_(), made.child
        )
        names = [v.name for v in own.scope]
        values = {n: x for n, x in (observed or {}).items() if n in names}
        given = {n: x for n, x in (inputs or {}).items() if n in own.inputs}
        self.records.setdefault(place, []).append(Record(own, table, values, given))
        return table

    def slopes(
        self, total: Tensor, probes: Iterable[Tensor] = ()
    ) -> tuple[dict[Hashable, list[tuple[Record, Tensor]]], list[Tensor]]:
        """Return the slopes of a weighted sum of log evidence: expected counts.

        Args:
            total: The sum.
            probes: Further leaves.

        Returns:
            The records of each place with the slopes by their tables, and slopes by the probes.
        """
        every = [(n, r) for n, found in self.records.items() for r in found]
        extra = [*probes]
        leaves = [*(r.table.log_values for _, r in every), *extra]
        found: tuple[Tensor | None, ...] = (None,) * len(leaves)
        if total.requires_grad:
            found = torch.autograd.grad(total, leaves, allow_unused=True)
        by_place: dict[Hashable, list[tuple[Record, Tensor]]] = {}
        for (place, record), slope in zip(every, found, strict=False):
            if slope is not None:
                own = slope.clamp_min(0.0)  # rounding below zero
                by_place.setdefault(place, []).append((record, own))
        rest = zip(extra, found[len(every) :], strict=True)
        return by_place, [torch.zeros_like(p) if x is None else x for p, x in rest]


class Recorded(Conditional):
    """A conditional whose tables are recorded.

    Args:
        own: The conditional; used, not copied.
        recorder: Who keeps them.
    """

    def __init__(self, own: Conditional, recorder: Recorder) -> None:
        super().__init__(own.child, own.parents, own.inputs)
        self.own = own
        self.integrates_missing = own.integrates_missing
        self._recorder = recorder

    def distribution(
        self, parents: Mapping[Hashable, Tensor], inputs: Mapping[Hashable, Tensor] | None = None
    ) -> Distribution:
        """Return the conditional's distribution."""
        return self.own.distribution(parents, inputs)

    def factor(
        self,
        observed: Mapping[Hashable, Tensor] | None = None,
        inputs: Mapping[Hashable, Tensor] | None = None,
    ) -> Factor:
        """Return the conditional's table, recorded."""
        return self._recorder.factor(self.own, observed, inputs)


class RecordedSlice:
    """A model over time whose tables are recorded.

    Args:
        model: The model.
        recorder: Who keeps them.
    """

    def __init__(self, model: Any, recorder: Recorder) -> None:
        self._model = model
        self.conditionals = {n: Recorded(c, recorder) for n, c in model.conditionals.items()}
        self._first = {}
        for name, own in model.conditionals.items():
            first = model.first(name)
            same = first is own
            self._first[name] = self.conditionals[name] if same else Recorded(first, recorder)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def first(self, name: Hashable) -> Conditional:
        """Return the conditional of a variable at the first step."""
        return self._first[name]
