"""Expectations of linear Gaussian chains, by the Kalman smoother."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from pgnn.abilities import GaussianChainModel, Inputs
from pgnn.errors import DataError
from pgnn.evidence.sequence_evidence import SequenceEvidence
from pgnn.factors.conditionals.conditional import Conditional
from pgnn.factors.conditionals.exponential_family import ExponentialFamily
from pgnn.factors.time_steps import lagged_name
from pgnn.inference.learning.e_step import EStep, reals_observed
from pgnn.inference.learning.expected_statistics import (
    ExpectedStatistics,
    StatisticsCollector,
    Values,
    WeightedRows,
    learnable,
)
from pgnn.inference.learning.moment_points import moment_points
from pgnn.inference.learning.training_data import read_sequences
from pgnn.inference.time.gaussian_chain import StepMoments
from pgnn.inference.time.kalman_filter import chain_of, slice_of

_NOISE = 0.3
"""Standard deviation of the noise that is added to the initial states."""


class KalmanEStep(EStep[SequenceEvidence]):
    """Expectations under a linear Gaussian chain; any observations may be missing.

    Statistics are quadratic, so that those of all steps and rows equal those of a few points with
    the same moments. Steps without observations contribute nothing to the emission.

    Args:
        model: The chain.

    References:
        Shumway and Stoffer (1982), An approach to time series smoothing and forecasting using the
        EM algorithm.
    """

    model: GaussianChainModel

    @cached_property
    def conditionals(self) -> dict[Hashable, Conditional]:
        """All conditionals by name."""
        state = self.model.hidden[0]
        return {("initial", state): self.model.first(state), **self.model.conditionals}

    @cached_property
    def pieces(self) -> dict[Hashable, Conditional]:
        """The learnable conditionals by name."""
        return learnable(self.conditionals)

    def read(self, data: Any, weights: Any, inputs: Inputs | None) -> SequenceEvidence:
        """Read sequences.

        Raises:
            DataError: If there is no data, or states were observed.
        """
        observed, state = read_sequences(self.model, data, weights, inputs), self.model.hidden[0]
        if state in observed.reals and not bool(observed.reals[state].isnan().all()):
            raise DataError(f"{state!r} was observed: EM() learns from observations alone")
        return observed

    def values_of(
        self, name: Hashable, conditional: Conditional, observed: SequenceEvidence
    ) -> Values | None:
        """Return observations, see :class:`EStep`."""
        flat = {n: x.flatten(end_dim=1) for n, x in observed.reals.items()}
        return reals_observed(conditional, flat)

    def log_partition(self, observed: SequenceEvidence) -> Tensor:
        """Return ``(B,)`` log densities of the observations."""
        with torch.no_grad():
            return chain_of(self.model, observed).filtered().increments.sum(dim=1)

    def expect(self, observed: SequenceEvidence) -> ExpectedStatistics:
        """Return expected statistics, see :class:`EStep`."""
        with torch.no_grad():
            return self._expect(observed)

    def _expect(self, observed: SequenceEvidence) -> ExpectedStatistics:
        chain = chain_of(self.model, observed)
        filtered = chain.filtered()
        smoothed = chain.smoothed(filtered)
        states = smoothed.states
        weights = torch.from_numpy(observed.row_weights)
        total = float((weights * filtered.increments.sum(dim=1)).sum())
        collector, kind = StatisticsCollector(), chain.kind
        counted = weights[:, None] * observed.inside
        state, observation = (v.name for v in slice_of(self.model))
        first = StepMoments(states.mean[:, :1], states.covariance[:, :1])
        self._add(collector, ("initial", state), [state], first, counted[:, :1], kind)
        before = StepMoments(states.mean[:, :-1], states.covariance[:, :-1])
        after = StepMoments(states.mean[:, 1:], states.covariance[:, 1:])
        across = after.covariance @ smoothed.gain.mT
        both = _together(after, before, across)
        self._add(collector, state, [state, lagged_name(state)], both, counted[:, 1:], kind)
        values, across = chain.observations(states)
        present_weight = counted * chain.patterns[kind].any(dim=-1)
        both = _together(values, states, across)
        self._add(collector, observation, [observation, state], both, present_weight, kind)
        return collector.collected(total, float(weights.sum()))

    def symmetric(self, observed: SequenceEvidence) -> bool:
        """Whether observations do not depend on the states."""
        conditional = self.pieces.get(slice_of(self.model)[1].name)
        return conditional is not None and not bool(conditional.regression().weight.detach().any())

    def initialize(self, observed: SequenceEvidence, seed: int, at_random: bool) -> None:
        """Initialise by principal components of the observations as states, and noise."""
        generator = torch.Generator().manual_seed(seed)
        chain = chain_of(self.model, observed)
        rows, steps, width = chain.observed.shape
        size = self.model.conditionals[self.model.hidden[0]].child.num_elements
        inside = observed.inside.reshape(-1)
        flat = chain.observed.reshape(-1, width)[inside]
        mean = flat.nanmean(dim=0).nan_to_num()
        centred = (flat - mean).nan_to_num(nan=0.0)
        deviation = centred.std(dim=0, correction=0)
        left, _, _ = torch.linalg.svd(
            centred / deviation.masked_fill(deviation == 0, 1.0), full_matrices=False
        )
        scale = _NOISE if not at_random else 3.0 * _NOISE
        noise = torch.randn(len(flat), size, dtype=torch.float64, generator=generator)
        noise[:, : left.shape[1]] *= scale
        noise[:, : left.shape[1]] += left[:, :size] * len(flat) ** 0.5
        values = torch.zeros(rows * steps, size, dtype=torch.float64)
        values[inside] = noise
        states = values.reshape(rows, steps, size)
        counted = torch.from_numpy(observed.row_weights)[:, None] * observed.inside
        complete = counted * ~chain.observed.isnan().any(dim=-1)
        state, observation = (v.name for v in slice_of(self.model))
        self._start(("initial", state), {state: states[:, :1]}, counted[:, :1])
        pairs = {state: states[:, 1:], lagged_name(state): states[:, :-1]}
        self._start(state, pairs, counted[:, 1:])
        self._start(observation, {observation: chain.observed, state: states}, complete)

    def _start(self, name: Hashable, values: Mapping[Hashable, Tensor], weights: Tensor) -> None:
        """Fit a learnable conditional to complete steps."""
        conditional = self.pieces.get(name)
        kept = weights.reshape(-1) > 0
        if isinstance(conditional, ExponentialFamily) and int(kept.sum()) > 1:
            shapes = {v.name: v.shape for v in conditional.scope}
            flat = {
                n: x.flatten(end_dim=1)[kept].reshape(-1, *shapes[n]) for n, x in values.items()
            }
            with torch.no_grad():
                conditional.prepare(flat)
                conditional.maximize(conditional.statistics(flat, weights.reshape(-1)[kept]))

    def _add(
        self,
        collector: StatisticsCollector,
        name: Hashable,
        scope: Sequence[Hashable],
        moments: StepMoments,
        weights: Tensor,
        kind: Tensor,
    ) -> None:
        """Add the statistics of a conditional at the included steps ``(B, T)``."""
        conditional, total = self.pieces.get(name), weights.sum()
        if conditional is None or not float(total) > 0:
            return
        mean = (weights.unsqueeze(-1) * moments.mean).sum((0, 1)) / total
        error = (moments.mean - mean).flatten(end_dim=1)
        scatter = (weights.reshape(-1, 1) * error).mT @ error
        by_kind = weights.new_zeros(len(moments.covariance), weights.shape[1])
        by_kind = by_kind.index_add(0, kind, weights)
        scatter = scatter + torch.einsum("ut,utij->ij", by_kind, moments.covariance)
        points = moment_points(mean, scatter / total)
        values, start = {}, 0
        shapes = {v.name: v for v in conditional.scope}
        for n in scope:
            v = shapes[n]
            values[n] = points[:, start : start + v.num_elements].reshape(-1, *v.shape)
            start += v.num_elements
        each = total.expand(len(points)) / len(points)
        if isinstance(conditional, ExponentialFamily):
            collector.add_sums(name, conditional.statistics(values, each))
        else:
            collector.add_rows(name, WeightedRows(values, {}, each))


def _together(a: StepMoments, b: StepMoments, across: Tensor) -> StepMoments:
    """Return joint moments of two vectors, from their cross-covariances ``(U, T, A, B)``."""
    upper = torch.cat([a.covariance, across], dim=-1)
    lower = torch.cat([across.mT, b.covariance], dim=-1)
    return StepMoments(torch.cat([a.mean, b.mean], dim=-1), torch.cat([upper, lower], dim=-2))
