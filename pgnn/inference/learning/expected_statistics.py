"""What expectation maximisation counts, and its M-step."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from pgnn.factors.conditionals.conditional import Conditional
from pgnn.factors.conditionals.exponential_family import ExponentialFamily, Statistics
from pgnn.inference.learning.numeric_step import numeric_step

Values = Mapping[Hashable, Tensor]
Places = Mapping[Hashable, Conditional]


@dataclass(frozen=True, eq=False)
class Weighted:
    """Rows for a conditional without a closed form.

    Attributes:
        values: What was seen, by name.
        inputs: Covariates, by name.
        weights: ``(N, K...)`` posterior weight of each unseen configuration.
    """

    values: Values
    inputs: Values
    weights: Tensor

    @classmethod
    def joined(cls, parts: Iterable[Weighted]) -> Weighted:
        """Return the rows of some parts, which saw the same things, one after the other."""
        every = [*parts]
        if len(every) == 1:
            return every[0]
        values = {n: torch.cat([p.values[n] for p in every]) for n in every[0].values}
        inputs = {n: torch.cat([p.inputs[n] for p in every]) for n in every[0].inputs}
        return cls(values, inputs, torch.cat([p.weights for p in every]))


@dataclass(frozen=True, eq=False)
class ExpectedStatistics:
    """Expected sufficient statistics of some sequences.

    Attributes:
        log_likelihood: Weighted sum over the sequences.
        weight: Weight of the sequences.
        sums: Of conditionals with a closed form, by place.
        rows: Of the others.
        occupancy: ``(K,)`` expected steps in each state, where there is one variable of states.
    """

    log_likelihood: float
    weight: float
    sums: Mapping[Hashable, Statistics] = field(default_factory=dict)
    rows: Mapping[Hashable, Weighted] = field(default_factory=dict)
    occupancy: Tensor | None = None

    def mixed(self, other: ExpectedStatistics, share: float, scale: float) -> ExpectedStatistics:
        """Return ``1 - share`` of this and ``share`` of another, scaled: streaming EM."""

        def mix(ours: Tensor, theirs: Tensor) -> Tensor:
            return (1 - share) * ours + share * scale * theirs

        sums, every = {}, {**self.sums, **other.sums}
        for place in every:
            nothing = tuple(torch.zeros_like(x) for x in every[place])
            ours, theirs = self.sums.get(place, nothing), other.sums.get(place, nothing)
            sums[place] = tuple(mix(a, b) for a, b in zip(ours, theirs, strict=True))
        occupancy = None
        if self.occupancy is not None and other.occupancy is not None:
            occupancy = mix(self.occupancy, other.occupancy)
        return ExpectedStatistics(other.log_likelihood, other.weight, sums, other.rows, occupancy)


def learnable(places: Places) -> dict[Hashable, Conditional]:
    """Return the conditionals that may change."""
    return {n: c for n, c in places.items() if any(p.requires_grad for p in c.parameters())}


def improve(places: Places, found: ExpectedStatistics, priors: Mapping[Hashable, Any]) -> None:
    """Set learnable conditionals to what fits expected statistics best, in place."""
    for place, conditional in places.items():
        if place in found.sums and isinstance(conditional, ExponentialFamily):
            conditional.maximize(found.sums[place], priors.get(place))
        elif place in found.rows:
            rows = found.rows[place]
            numeric_step(conditional, rows.values, rows.inputs, rows.weights)


def log_prior(places: Places, priors: Mapping[Hashable, Any]) -> float:
    """Return what the priors add to the log-likelihood."""
    total = 0.0
    for place, conditional in places.items():
        prior = priors.get(place)
        if prior is not None and isinstance(conditional, ExponentialFamily):
            total += float(conditional.log_prior(prior).detach())
    return total
