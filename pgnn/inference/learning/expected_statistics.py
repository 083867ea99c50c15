"""Expected sufficient statistics by conditional, the result of an E-step."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from pgnn.errors import Unsupported
from pgnn.factors.conditionals.causal_independence import CausalIndependence
from pgnn.factors.conditionals.conditional import Conditional
from pgnn.factors.conditionals.exponential_family import ExponentialFamily, Statistics
from pgnn.factors.conditionals.renamed import bare
from pgnn.inference.learning.earlier_batches import EarlierBatches

Values = Mapping[Hashable, Tensor]
Pieces = Mapping[Hashable, Conditional]
"""Conditionals of a model by their names in EM and its priors."""


@dataclass(frozen=True, eq=False)
class WeightedRows:
    """Rows for a conditional without a closed form, weighted by the posterior.

    Attributes:
        values: Observed values, by name.
        inputs: Covariates, by name.
        weights: ``(N, K...)`` posterior weight of each unobserved configuration.
        earlier: Log-likelihood of earlier batches; None if all rows are learned from at once.
    """

    values: Values
    inputs: Values
    weights: Tensor
    earlier: EarlierBatches | None = None

    def times(self, factor: float) -> WeightedRows:
        """Return the rows with their weights multiplied by a number."""
        return replace(self, weights=self.weights * factor)

    @property
    def size(self) -> int:
        """Number of values and weights."""
        return sum(x.numel() for x in (*self.values.values(), *self.inputs.values(), self.weights))

    def observes_as(self, other: WeightedRows) -> bool:
        """Whether the same variables were observed as in other rows."""
        mine, theirs = (([*x.values], [*x.inputs], x.weights.shape[1:]) for x in (self, other))
        return mine == theirs

    @classmethod
    def joined(cls, parts: Iterable[WeightedRows]) -> WeightedRows:
        """Return the concatenated rows of some parts that observe the same variables."""
        parts = [*parts]
        if len(parts) == 1:
            return parts[0]
        values = {n: torch.cat([p.values[n] for p in parts]) for n in parts[0].values}
        inputs = {n: torch.cat([p.inputs[n] for p in parts]) for n in parts[0].inputs}
        return cls(values, inputs, torch.cat([p.weights for p in parts]))


@dataclass(frozen=True, eq=False)
class ExpectedStatistics:
    """Expected sufficient statistics of some rows or sequences.

    Attributes:
        log_likelihood: Weighted sum over the rows.
        weight: Total weight of the rows.
        sums: Sufficient statistics of conditionals with a closed form, by name.
        rows: Weighted rows of the others, by name.
        occupancy: ``(K,)`` expected steps in each state, for models with one state variable.
    """

    log_likelihood: float
    weight: float
    sums: Mapping[Hashable, Statistics] = field(default_factory=dict)
    rows: Mapping[Hashable, WeightedRows] = field(default_factory=dict)
    occupancy: Tensor | None = None

    def mixed(self, other: ExpectedStatistics, share: float, scale: float) -> ExpectedStatistics:
        """Return a convex combination with other statistics, for streaming EM."""

        def mix(ours: Tensor, theirs: Tensor) -> Tensor:
            return (1 - share) * ours + share * scale * theirs

        sums, occupancy = self._merged(other, mix)
        return ExpectedStatistics(other.log_likelihood, other.weight, sums, other.rows, occupancy)

    def __add__(self, other: ExpectedStatistics) -> ExpectedStatistics:
        """Return the statistics of the rows of both."""
        sums, occupancy = self._merged(other, torch.add)
        return ExpectedStatistics(
            self.log_likelihood + other.log_likelihood,
            self.weight + other.weight,
            sums,
            _joined(self.rows, other.rows),
            occupancy,
        )

    def _merged(
        self, other: ExpectedStatistics, merge: Callable[[Tensor, Tensor], Tensor]
    ) -> tuple[dict[Hashable, Statistics], Tensor | None]:
        """Return the sums of two statistics and of two occupancies; missing entries are zero."""
        sums, union = {}, {**self.sums, **other.sums}
        for name in union:
            nothing = tuple(torch.zeros_like(x) for x in union[name])
            ours, theirs = self.sums.get(name, nothing), other.sums.get(name, nothing)
            sums[name] = tuple(merge(a, b) for a, b in zip(ours, theirs, strict=True))
        occupancy = None
        if self.occupancy is not None and other.occupancy is not None:
            occupancy = merge(self.occupancy, other.occupancy)
        return sums, occupancy


def _joined(
    ours: Mapping[Hashable, WeightedRows], theirs: Mapping[Hashable, WeightedRows]
) -> dict[Hashable, WeightedRows]:
    """Return the rows of both, by name."""
    both = {n: WeightedRows.joined([ours[n], theirs[n]]) for n in ours if n in theirs}
    return {**ours, **theirs, **both}


class StatisticsCollector:
    """Accumulates the expected statistics of each conditional."""

    def __init__(self) -> None:
        self._sums: dict[Hashable, Statistics] = {}
        self._rows: dict[Hashable, list[WeightedRows]] = {}

    def add_sums(self, name: Hashable, statistics: Statistics) -> None:
        """Add sufficient statistics of a conditional with a closed form."""
        if name in self._sums:
            pairs = zip(self._sums[name], statistics, strict=True)
            statistics = tuple(a + b for a, b in pairs)
        self._sums[name] = statistics

    def add_rows(self, name: Hashable, rows: WeightedRows) -> None:
        """Add rows of a conditional without a closed form."""
        self._rows.setdefault(name, []).append(rows)

    def add_counts(
        self, name: Hashable, conditional: Conditional, counts: Tensor, rows: WeightedRows | None
    ) -> None:
        """Add counts ``(K...)`` of a table, or rows if it depends on inputs."""
        if conditional.inputs and rows is not None:
            self.add_rows(name, rows)
        elif isinstance(conditional, ExponentialFamily):
            self.add_sums(name, (counts.double(),))
        else:
            self.add_rows(name, WeightedRows({}, {}, counts.double()[None]))

    def collected(
        self, log_likelihood: float, weight: float, occupancy: Tensor | None = None
    ) -> ExpectedStatistics:
        """Return the accumulated statistics."""
        rows = {n: WeightedRows.joined(parts) for n, parts in self._rows.items()}
        return ExpectedStatistics(log_likelihood, weight, self._sums, rows, occupancy)


def learnable(pieces: Pieces) -> dict[Hashable, Conditional]:
    """Return the learnable conditionals."""
    return {n: c for n, c in pieces.items() if any(p.requires_grad for p in c.parameters())}


def tied(pieces: Pieces) -> list[list[Hashable]]:
    """Return the names of conditionals, grouped by shared learnable parameters."""
    group_of: dict[int, list[Hashable]] = {}
    groups: list[list[Hashable]] = []
    for name, conditional in pieces.items():
        parameters = [id(p) for p in conditional.parameters() if p.requires_grad]
        group = [name]
        for known in {id(g): g for p in parameters if (g := group_of.get(p)) is not None}.values():
            group = known + group
            groups.remove(known)
        groups.append(group)
        members = (pieces[n] for n in group)
        group_of.update({id(p): group for c in members for p in c.parameters() if p.requires_grad})
    return groups


def check_ties(pieces: Pieces) -> None:
    """Check that conditionals that share parameters can be learned together.

    Either all have the same parameters, and their statistics are added; or none has a closed form,
    and their gradients are added.

    Raises:
        Unsupported: If neither is the case.
    """
    for first, *others in tied(pieces):
        for other in others:
            one, two = bare(pieces[first]), bare(pieces[other])
            closed = [_has_closed_form(c) for c in (one, two)]
            shared = [[id(p) for p in c.parameters()] for c in (one, two)]
            if any(closed) and not (all(closed) and type(one) is type(two) and
                                    shared[0] == shared[1]):  # fmt: skip
                raise Unsupported(
                    f"the conditionals of {first!r} and {other!r} share only some parameters, "
                    "for which there is no M-step",
                    "learn with Gradient()",
                )


def _has_closed_form(conditional: Conditional) -> bool:
    return (
        isinstance(conditional, ExponentialFamily | CausalIndependence) and not conditional.inputs
    )


def check_owners(pieces: Pieces) -> None:
    """Check that no parameter is shared between conditionals.

    Raises:
        Unsupported: If conditionals share learnable parameters.
    """
    owners: dict[int, Hashable] = {}
    for name, conditional in pieces.items():
        for p in conditional.parameters():
            owner = owners.setdefault(id(p), name)
            if p.requires_grad and owner != name:
                raise Unsupported(
                    f"the conditionals of {owner!r} and {name!r} share parameters, which cannot "
                    "be estimated separately",
                    "learn with EM() or Gradient()",
                )


def configuration_weights(conditional: Conditional, values: Values, weights: Tensor) -> Tensor:
    """Return weights with an axis for each discrete parent, for sufficient statistics.

    For observed parents the weight is placed at the observed state.

    Args:
        conditional: The conditional.
        values: ``(N,)`` states of the parents that were observed; other names are ignored.
        weights: ``(N, ...)`` with an axis for each unobserved discrete parent, in order; further
            axes stay last.
    """
    axis = 1
    for v in conditional.parents:
        if not v.is_discrete:
            continue
        if v.name in values:
            hot = one_hot(values[v.name], v.num_states).to(weights)
            lead = [len(hot), *[1] * (axis - 1), v.num_states]
            weights = weights.unsqueeze(axis)
            weights = weights * hot.reshape(*lead, *[1] * (weights.dim() - len(lead)))
        axis += 1
    return weights
