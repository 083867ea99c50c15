"""Expected statistics of a chain of states: the E-step of Baum and Welch."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from pgnn.abilities import EmittingModel, Inputs
from pgnn.errors import DataError
from pgnn.evidence.sequence_evidence import SequenceEvidence
from pgnn.factors.conditionals.conditional import Conditional
from pgnn.factors.conditionals.emission import kmeans
from pgnn.factors.conditionals.exponential_family import ExponentialFamily
from pgnn.factors.logspace import logsumexp
from pgnn.factors.variable import MISSING, Variable
from pgnn.inference.chains.chain import Chain
from pgnn.inference.chains.segment_chain import SegmentChain, SegmentExpectations
from pgnn.inference.learning.e_step import EStep
from pgnn.inference.learning.expected_statistics import (
    ExpectedStatistics,
    StatisticsCollector,
    Values,
    WeightedRows,
    configuration_weights,
    learnable,
)
from pgnn.inference.learning.training_data import check_possible, filled_in, read_sequences
from pgnn.inference.numba_support import has_numba
from pgnn.inference.time.emission_chain import at_steps, emission_tables, log_field, observed_values
from pgnn.inference.time.forward_backward import ForwardBackward

MAX_WORK = 2**18
"""Largest number of multiplications ``B T K^2`` of a chain that is joined with others.

Beyond, a separate chain is faster, because its rows share a transition."""


class ChainSums(NamedTuple):
    """Weighted sums over the paths of a chain."""

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


class ChainEStep(EStep[SequenceEvidence]):
    """Expectations under a hidden Markov or semi-Markov model.

    Its conditionals are called ``"initial"``, by the state's name for its transitions,
    ``"durations"``, and by the names of the emissions.

    Args:
        model: A hidden Markov model.
    """

    model: EmittingModel

    @cached_property
    def pieces(self) -> dict[Hashable, Conditional]:
        """The learnable conditionals by name."""
        model = self.model
        pieces: dict[Hashable, Conditional] = {"initial": model.initial[model.state.name]}
        pieces |= model.conditionals
        if model.durations is not None:
            pieces["durations"] = model.durations
        return learnable(pieces)

    @property
    def states(self) -> Sequence[Hashable]:
        """Labels of the states."""
        return tuple(self.model.state.states or ())

    def read(self, data: Any, weights: Any, inputs: Inputs | None) -> SequenceEvidence:
        """Read sequences."""
        return read_sequences(self.model, data, weights, inputs)

    def values_of(
        self, name: Hashable, conditional: Conditional, observed: SequenceEvidence
    ) -> Values | None:
        """Return reals that were observed, see :class:`EStep`."""
        return observed_values(conditional, observed)[1] if name in observed.reals else None

    def chain(self, observed: SequenceEvidence) -> Chain | SegmentChain:
        """Return the chain given the observations."""
        with torch.no_grad():
            chain: Any = self.model.chain(observed, observed.inputs)
        found: Chain | SegmentChain = chain
        return found

    def expect(self, observed: SequenceEvidence) -> ExpectedStatistics:
        """Return expected statistics, see :class:`EStep`."""
        chain = self.chain(observed)
        with torch.no_grad():
            expected = chain.expectations(torch.from_numpy(observed.row_weights))
        durations = expected.durations if isinstance(expected, SegmentExpectations) else None
        posterior = _weighted(
            expected.marginals, expected.log_partition, torch.from_numpy(observed.row_weights)
        )
        sums = ChainSums(
            expected.log_partition, posterior, expected.initial, expected.transitions, durations
        )
        return self.collect(observed, chain, sums)

    def collect(
        self, observed: SequenceEvidence, chain: Chain | SegmentChain, sums: ChainSums
    ) -> ExpectedStatistics:
        """Return sums over paths as statistics of the conditionals."""
        model, collector = self.model, StatisticsCollector()
        check_possible(observed, sums.log_z, self.model)
        state, posterior = model.state.name, sums.posterior
        for name, conditional in self.pieces.items():
            if name == "initial" and conditional is model.initial[state]:
                first = _first_rows(observed, model, posterior)
                collector.add_counts(name, conditional, sums.initial, first)
            elif name == state:
                moves = _pair_rows(observed, model, chain) if conditional.inputs else None
                collector.add_counts(name, conditional, sums.transitions, moves)
            elif name == "durations" and sums.durations is not None:
                collector.add_counts(name, conditional, sums.durations, None)
            else:
                self._add_emission(name, conditional, observed, posterior, collector)
        log_likelihood = float(observed.weighted_sum(sums.log_z.double()))
        weight = float(observed.row_weights.sum())
        return collector.collected(log_likelihood, weight, posterior.sum((0, 1)))

    def completed(self, observed: SequenceEvidence) -> SequenceEvidence:
        """Return sequences with their most probable states, see :class:`EStep`."""
        model: Any = self.model
        state = [self.model.state.name]
        best = ForwardBackward().most_probable(model, observed, state, inputs=observed.inputs)
        return filled_in(observed, best)

    def log_partition(self, observed: SequenceEvidence) -> Tensor:
        """Return ``(B,)`` log probabilities of the observations."""
        return self.chain(observed).log_partition()

    def symmetric(self, observed: SequenceEvidence) -> bool:
        """Whether the observations do not distinguish the states."""
        with torch.no_grad():
            field = log_field(self.model, observed, observed.inputs)
        spread = field.amax(-1) - field.amin(-1)
        return bool((spread.nan_to_num(nan=0.0) <= 1e-12).all())

    def initialize(self, observed: SequenceEvidence, seed: int, at_random: bool) -> None:
        """Initialise by clusters; for left-to-right chains, by segments of time.

        See :class:`EStep`. Clusters are unordered, but the states of a left-to-right chain are not:
        there each sequence is split into equal segments (at random points on restarts).
        """
        if self._left_to_right and self.model.state.name not in observed.codes:
            try:
                self.initialize_by(_in_parts(self.model.state, observed, seed, at_random))
            except DataError:  # the segments are impossible: use clusters
                pass
            else:
                return
        if self._needs_states(observed):
            try:
                self.initialize_by(self._in_clusters(observed, seed, at_random))
            except DataError:  # some states are impossible: initialise each conditional separately
                pass
            else:
                return
        values: dict[Hashable, Values | None] = {}
        for name, emission in self.model.emissions.items():
            if name in observed.codes or name in observed.reals:
                values[name] = observed_values(emission, observed)[1]
        self.initialize_pieces(values, seed, at_random)

    def _needs_states(self, observed: SequenceEvidence) -> bool:
        """Whether an observed emission can only be initialised given states."""
        return self.model.state.name not in observed.codes and any(
            not isinstance(c, ExponentialFamily) or c.inputs
            for n, c in self.pieces.items()
            if n in observed.codes or n in observed.reals
        )

    def _in_clusters(
        self, observed: SequenceEvidence, seed: int, at_random: bool
    ) -> SequenceEvidence:
        """Sequences whose states are filled in: clusters of the observations at each step."""
        columns = []
        for name in self.model.emissions:
            if name in observed.reals:
                columns.append(observed.reals[name].double().reshape(*observed.inside.shape, -1))
            elif name in observed.codes:
                codes = observed.codes[name]
                hot = one_hot(codes.clamp_min(0), self.model.variables[name].num_states).double()
                columns.append(hot.masked_fill((codes < 0).unsqueeze(-1), torch.nan))
        rows = torch.cat(columns, dim=-1)[observed.inside]
        rows = torch.where(rows.isnan(), rows.nanmean(dim=0).nan_to_num(), rows)
        generator, k = torch.Generator().manual_seed(seed), self.model.state.num_states
        states = torch.full(observed.inside.shape, MISSING)
        states[observed.inside] = kmeans(rows, k, generator, 0 if at_random else 20)
        return replace(observed, codes={**observed.codes, self.model.state.name: states})

    @property
    def _left_to_right(self) -> bool:
        """Whether all transitions are to later states, including the next one."""
        moves = self.model.transitions
        k = self.model.state.num_states
        if moves.inputs or k < 2 or self.model.durations is not None:
            return False
        with torch.no_grad():
            possible = ~moves.factor().log_values.isneginf()
        return not bool(possible.tril(-1).any()) and bool(possible.diagonal(1).all())

    def _add_emission(
        self,
        name: Hashable,
        emission: Conditional,
        observed: SequenceEvidence,
        posterior: Tensor,
        collector: StatisticsCollector,
    ) -> None:
        if name in observed.soft:
            tables = emission_tables(self.model, name, observed, observed.inputs).detach()
            tables = tables + observed.soft[name].to(tables).log().unsqueeze(2)
            total = logsumexp(tables, [-1], keepdim=True)
            likely = (tables - total.masked_fill(total.isneginf(), 0.0)).exp()
            joint = (posterior.unsqueeze(-1) * likely).to(posterior)
            joint = joint if emission.parents else joint.sum(2)
            inputs = at_steps(observed.inputs, emission.inputs, observed.inside)
            rows = WeightedRows({}, inputs, joint[observed.inside])
            collector.add_counts(name, emission, joint.sum((0, 1)), rows)
        elif name in observed.codes or name in observed.reals:
            where, values = observed_values(emission, observed)
            weights = posterior.flatten(0, 1) if bool(where.all()) else posterior[where]
            if all(v.name != self.model.state.name for v in emission.parents):
                weights = weights.sum(-1)
            if isinstance(emission, ExponentialFamily) and not emission.inputs:
                weights = configuration_weights(emission, values, weights)
                collector.add_sums(name, emission.statistics(values, weights))
            else:
                inputs = at_steps(observed.inputs, emission.inputs, where)
                collector.add_rows(name, WeightedRows(values, inputs, weights))


def _in_parts(
    state: Variable, observed: SequenceEvidence, seed: int, at_random: bool
) -> SequenceEvidence:
    """Return sequences with states filled in by as many segments of time as there are states."""
    k, lengths = state.num_states, observed.lengths
    cuts = (torch.arange(1, k) / k).expand(len(lengths), k - 1)
    if at_random:
        generator = torch.Generator().manual_seed(seed)
        cuts = torch.rand(len(lengths), k - 1, generator=generator).sort(dim=1).values
    step = torch.arange(observed.steps)
    begins = (cuts * lengths[:, None]).ceil().long().clamp_min(1)
    states = (step[None, :, None] >= begins[:, None, :]).sum(-1)
    states = torch.minimum(states, step)  # one step per segment in short sequences
    states = states.masked_fill(~observed.inside, MISSING)
    return replace(observed, codes={**observed.codes, state.name: states})


def _weighted(marginals: Tensor, log_z: Tensor, weights: Tensor) -> Tensor:
    """Posteriors times the weights of their rows, zero for impossible rows; copied if necessary."""
    if bool(log_z.isneginf().any()):
        marginals = torch.nan_to_num(marginals)
    if bool((weights == 1).all()):
        return marginals
    return marginals * weights.to(marginals)[:, None, None]


def _first_rows(observed: SequenceEvidence, model: Any, posterior: Tensor) -> WeightedRows | None:
    first = model.initial[model.state.name]
    if not first.inputs:
        return None
    inputs = {n: observed.inputs[n][:, 0] for n in first.inputs if n in observed.inputs}
    return WeightedRows({}, inputs, posterior[:, 0])


def _pair_rows(observed: SequenceEvidence, model: Any, chain: Any) -> WeightedRows:
    """Return transitions that depend on inputs: the posterior of each pair of neighbours."""
    with torch.no_grad():
        pairs = torch.nan_to_num(chain.pair_marginals())
    pairs = pairs * torch.from_numpy(observed.row_weights).to(pairs)[:, None, None, None]
    names = [n for n in model.transitions.inputs if n in observed.inputs]
    inputs = {n: observed.inputs[n][:, 1:].flatten(0, 1) for n in names}
    return WeightedRows({}, inputs, pairs.flatten(0, 1))


def expect_side_by_side(
    steps: Sequence[EStep[Any]], observed: Any
) -> list[ExpectedStatistics] | None:
    """Return the expectations of several models by one pass; None if separate passes are better.

    Args:
        steps: E-steps of models of one kind, with different parameters.
        observed: The sequences of all of them.
    """
    chain_steps = [s for s in steps if isinstance(s, ChainEStep)]
    if len(chain_steps) < len(steps) or not has_numba():
        return None
    k = chain_steps[0].model.state.num_states
    if observed.num_rows * observed.steps * k**2 > MAX_WORK:
        return None
    chains = []
    for step in chain_steps:
        chain = step.chain(observed)
        if not isinstance(chain, Chain) or not _joins(chain):
            return None
        chains.append(chain)
    sums = sums_side_by_side(chains, torch.from_numpy(observed.row_weights))
    together = zip(chain_steps, chains, sums, strict=True)
    return [step.collect(observed, chain, sums) for step, chain, sums in together]


def sums_side_by_side(chains: Sequence[Chain], weights: Tensor) -> list[ChainSums]:
    """Return sums over the paths of chains of the same shape, each with one transition.

    They are gradients of log Z, with different transitions for each row.

    Args:
        chains: The chains.
        weights: ``(B,)`` weights of the rows of a chain.
    """
    count, rows = len(chains), chains[0].tensors.num_rows
    parts = [c.tensors for c in chains]
    with torch.enable_grad():
        initial, transition = (
            torch.cat([x.expand(rows, *x.shape[1:]) for x in part]).requires_grad_()
            for part in ([p.initial for p in parts], [p.transition[:, 0] for p in parts])
        )
        field = torch.cat([p.field for p in parts]).requires_grad_()
        lengths = parts[0].lengths.repeat(count)
        log_z = Chain(initial, transition, field, lengths).log_partition()
        total = (log_z.masked_fill(log_z.isneginf(), 0.0) * weights.to(log_z).repeat(count)).sum()
        gradients = torch.autograd.grad(total, [initial, transition, field])
    first, moves, states = (x.reshape(count, rows, *x.shape[1:]) for x in gradients)
    split = log_z.detach().reshape(count, rows)
    sums = first.sum(1), moves.sum(1)
    return [ChainSums(split[r], states[r], sums[0][r], sums[1][r]) for r in range(count)]


def _joins(chain: Chain) -> bool:
    """Whether a chain has a single transition matrix, on the CPU."""
    tensors = chain.tensors
    return tensors.transition.shape[:2] == (1, 1) and tensors.field.device.type == "cpu"
