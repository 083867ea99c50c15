"""Expectations of a chain of states: the E-step of Baum and Welch."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from functools import cached_property
from typing import Any, NamedTuple

import torch
from torch import Tensor

from pgnn.evidence.sequences import Sequences
from pgnn.factors.conditionals.conditional import Conditional
from pgnn.factors.conditionals.exponential_family import ExponentialFamily, Statistics
from pgnn.factors.logspace import logsumexp
from pgnn.inference.chains.chain import Chain
from pgnn.inference.chains.segment_chain import SegmentChain
from pgnn.inference.learning.expected_statistics import (
    ExpectedStatistics,
    Values,
    Weighted,
    learnable,
)
from pgnn.inference.learning.family_weights import family_weights
from pgnn.inference.learning.training_data import check_possible
from pgnn.inference.time.emission_chain import (
    at_steps,
    emission_tables,
    log_field,
    observed,
)


class ChainSums(NamedTuple):
    """Sums over the paths of a chain, rows weighted by what they count."""

    log_z: Tensor
    """``(B,)``, not weighted."""
    posterior: Tensor
    """``(B, T, K)`` of the states."""
    initial: Tensor
    """``(K,)``."""
    transitions: Tensor
    """``(K, K)``; of each step if inputs drive them."""
    durations: Tensor | None = None
    """``(K, D)`` of segments."""


class ChainEStep:
    """Expectations under a hidden Markov model, with segments or without.

    Places are ``"initial"``, the state's name for its transitions, ``"durations"``, and the names
    of the emissions.

    Args:
        model: A hidden Markov model.
    """

    def __init__(self, model: Any) -> None:
        self.model = model

    @cached_property
    def places(self) -> dict[Hashable, Conditional]:
        """The learnable conditionals by place."""
        model = self.model
        places: dict[Hashable, Conditional] = {"initial": model.initial[model.state.name]}
        places |= model.conditionals
        if model.durations is not None:
            places["durations"] = model.durations
        return learnable(places)

    @property
    def states(self) -> Sequence[Hashable]:
        """Labels of the states."""
        return tuple(self.model.state.states)

    def chain(self, seen: Sequences) -> Chain | SegmentChain:
        """Return the chain given what was seen."""
        with torch.no_grad():
            made: Chain | SegmentChain = self.model.chain(seen, seen.inputs)
        return made

    def expect(self, seen: Sequences) -> ExpectedStatistics:
        """Return expected statistics, see :class:`EStep`."""
        chain = self.chain(seen)
        with torch.no_grad():
            found = chain.expectations(seen.row_weights)
        durations = getattr(found, "durations", None)
        posterior = _weighted(found.marginals, found.log_partition, seen.row_weights)
        sums = ChainSums(
            found.log_partition, posterior, found.initial, found.transitions, durations
        )
        return self.collect(seen, chain, sums)

    def collect(
        self, seen: Sequences, chain: Chain | SegmentChain, found: ChainSums
    ) -> ExpectedStatistics:
        """File sums over paths by place."""
        model, filed = self.model, _Filed({}, {})
        check_possible(seen, found.log_z)
        state, posterior = model.state.name, found.posterior
        for place, conditional in self.places.items():
            if place == "initial" and conditional is model.initial[state]:
                filed.counts(place, conditional, found.initial, _starts(seen, model, posterior))
            elif place == state:
                moves = _moves(seen, model, chain) if conditional.inputs else None
                filed.counts(place, conditional, found.transitions, moves)
            elif place == "durations" and found.durations is not None:
                filed.counts(place, conditional, found.durations, None)
            else:
                self._emission(place, conditional, seen, posterior, filed)
        return ExpectedStatistics(
            float(seen.weighted_sum(found.log_z.double())),
            float(seen.row_weights.sum()),
            filed.sums,
            filed.rows,
            posterior.sum((0, 1)),
        )

    def log_partition(self, seen: Sequences) -> Tensor:
        """Return ``(B,)`` log probabilities of what was seen."""
        return self.chain(seen).log_partition()

    def symmetric(self, seen: Sequences) -> bool:
        """Whether nothing that was seen tells one state from another."""
        with torch.no_grad():
            field = log_field(self.model, seen, seen.inputs)
        spread = field.amax(-1) - field.amin(-1)
        return bool((spread.nan_to_num(nan=0.0) <= 1e-12).all())

    def start_values(self, place: Hashable, seen: Sequences) -> Values | None:
        """Return what was seen of an emission."""
        if place not in self.model.emissions:
            return None
        if place not in seen.codes and place not in seen.reals:
            return None
        return observed(self.model.emissions[place], seen)[1]

    def _emission(
        self,
        name: Hashable,
        emission: Conditional,
        seen: Sequences,
        posterior: Tensor,
        filed: _Filed,
    ) -> None:
        if name in seen.soft:
            tables = emission_tables(self.model, name, seen, seen.inputs).detach()
            tables = tables + seen.soft[name].to(tables).log().unsqueeze(2)
            total = logsumexp(tables, [-1], keepdim=True)
            likely = (tables - total.masked_fill(total.isneginf(), 0.0)).exp()
            joint = (posterior.unsqueeze(-1) * likely).to(posterior)
            joint = joint if emission.parents else joint.sum(2)
            inputs = at_steps(seen.inputs, emission.inputs, seen.inside)
            rows = Weighted({}, inputs, joint[seen.inside])
            filed.counts(name, emission, joint.sum((0, 1)), rows)
        elif name in seen.codes or name in seen.reals:
            where, values = observed(emission, seen)
            own = posterior.flatten(0, 1) if bool(where.all()) else posterior[where]
            if all(v.name != self.model.state.name for v in emission.parents):
                own = own.sum(-1)
            if isinstance(emission, ExponentialFamily) and not emission.inputs:
                own = family_weights(emission, values, own)
                filed.sums[name] = emission.statistics(values, own)
            else:
                rows = Weighted(values, at_steps(seen.inputs, emission.inputs, where), own)
                filed.rows[name] = rows


class _Filed(NamedTuple):
    """Statistics by place."""

    sums: dict[Hashable, Statistics]
    rows: dict[Hashable, Weighted]

    def counts(
        self, place: Hashable, conditional: Conditional, counts: Tensor, rows: Weighted | None
    ) -> None:
        """File counts of a table, or rows where inputs drive it."""
        if conditional.inputs and rows is not None:
            self.rows[place] = rows
        elif isinstance(conditional, ExponentialFamily):
            self.sums[place] = (counts.double(),)
        else:
            self.rows[place] = Weighted({}, {}, counts.double()[None])


def _weighted(marginals: Tensor, log_z: Tensor, weights: Tensor) -> Tensor:
    """Posteriors times what their rows count; impossible rows count nothing. Copied if need be."""
    if bool(log_z.isneginf().any()):
        marginals = torch.nan_to_num(marginals)
    if bool((weights == 1).all()):
        return marginals
    return marginals * weights.to(marginals)[:, None, None]


def _starts(seen: Sequences, model: Any, posterior: Tensor) -> Weighted | None:
    first = model.initial[model.state.name]
    if not first.inputs:
        return None
    inputs = {n: seen.inputs[n][:, 0] for n in first.inputs if n in seen.inputs}
    return Weighted({}, inputs, posterior[:, 0])


def _moves(seen: Sequences, model: Any, chain: Any) -> Weighted:
    """Transitions that inputs drive: the posterior of each pair of neighbours."""
    with torch.no_grad():
        pairs = torch.nan_to_num(chain.pair_marginals())
    pairs = pairs * seen.row_weights.to(pairs)[:, None, None, None]
    names = [n for n in model.transitions.inputs if n in seen.inputs]
    inputs = {n: seen.inputs[n][:, 1:].flatten(0, 1) for n in names}
    return Weighted({}, inputs, pairs.flatten(0, 1))
