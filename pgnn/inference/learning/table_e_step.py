"""The E-step of directed models: gradients of the log evidence in the tables."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import one_hot

from pgnn.abilities import Inputs, NetworkModel
from pgnn.errors import DataError, Unsupported
from pgnn.evidence.row_evidence import RowEvidence
from pgnn.factors.conditionals.conditional import Conditional
from pgnn.factors.conditionals.decomposition import Decomposition, HiddenName
from pgnn.factors.conditionals.emission import kmeans
from pgnn.factors.conditionals.exponential_family import ExponentialFamily
from pgnn.factors.factor import Factor
from pgnn.factors.time_steps import lagged_name
from pgnn.inference.engine import Engine
from pgnn.inference.exact.junction_tree import JunctionTree
from pgnn.inference.exact.solver import model_solver
from pgnn.inference.learning.e_step import EStep, EvidenceT, reals_observed
from pgnn.inference.learning.expected_statistics import (
    ExpectedStatistics,
    Pieces,
    StatisticsCollector,
    Values,
    learnable,
)
from pgnn.inference.learning.latent_reals import (
    latent_reals,
    principal_components,
    without_effect,
)
from pgnn.inference.learning.record import EffectsRecord, Record
from pgnn.inference.learning.recorded_tables import TableRecorder, recorded
from pgnn.inference.learning.training_data import check_possible, read_rows


@dataclass(frozen=True, eq=False)
class RecordedEvidence:
    """Log evidence whose gradients are expected counts.

    Attributes:
        log_evidence: ``(B,)``.
        recorder: The recorder of the tables.
        probes: Additional leaves: zeros ``(B, T, K)`` whose gradients are posteriors of the states.
    """

    log_evidence: Tensor
    recorder: TableRecorder
    probes: Sequence[Tensor] = ()


class TableEStep(EStep[EvidenceT]):
    r"""Expectations under a directed model with any missing values.

    .. math:: E[N_{jk} \mid e] = \frac{\partial \log p(e)}{\partial \log \theta_{jk}}

    The tables of all conditionals are leaves (:class:`TableRecorder`): one backward pass through
    the computation of the log evidence gives all expected statistics.

    References:
        Darwiche (2003), A differential approach to inference in Bayesian networks, section 4.
    """

    SAME = 1e-12
    """Largest difference of logs at which two states count as equal."""

    @property
    @abstractmethod
    def conditionals(self) -> Pieces:
        """All conditionals by name."""

    @cached_property
    def pieces(self) -> dict[Hashable, Conditional]:
        """The learnable conditionals by name."""
        return learnable(self.conditionals)

    @abstractmethod
    def evaluate(self, observed: EvidenceT) -> RecordedEvidence:
        """Return differentiable log evidence with the recorded tables."""

    @abstractmethod
    def hidden(self, observed: EvidenceT) -> list[Hashable]:
        """Return the discrete variables that are never observed."""

    @abstractmethod
    def tables(self, observed: EvidenceT) -> list[Record]:
        """Return the tables of all conditionals, learnable or not."""

    def expect(self, observed: EvidenceT) -> ExpectedStatistics:
        """Return expected statistics, see :class:`EStep`."""
        with torch.enable_grad():
            evaluation = self.evaluate(observed)
            check_possible(observed, evaluation.log_evidence, self.model)
            total = observed.weighted_sum(evaluation.log_evidence.double())
            if not total.requires_grad:
                raise Unsupported(
                    "the engine's log evidence is not differentiable",
                    "leave out engine=, or use BeliefPropagation() or Gibbs()",
                )
            by_record, posteriors = evaluation.recorder.gradients(total, evaluation.probes)
        collector = StatisticsCollector()
        for record, gradient in by_record:
            record.add_to(collector, gradient)
        occupancy = posteriors[0].sum((0, 1)) if posteriors else None
        weight = float(observed.row_weights.sum())
        return collector.collected(float(total.detach()), weight, occupancy)

    def symmetric(self, observed: EvidenceT) -> bool:
        """Whether some hidden variable has interchangeable states, or some conditional parts."""
        if any(c.is_unset for c in self._of_parts.values()):
            return True
        hidden = self.hidden(observed)
        tables = self.tables(observed) if hidden else []
        for name in hidden:
            others = [r.table for r in tables if name != r.conditional.child.name]
            spreads = [spread_along(t, name, lagged_name(name)) for t in others]
            known = [x for x in spreads if x is not None]
            if known and max(known) <= self.SAME:
                return True
        return False

    @property
    def _of_parts(self) -> dict[Hashable, ExponentialFamily]:
        """The learnable conditionals with hidden parts, such as mixtures, by name."""
        return {
            n: c
            for n, c in self.pieces.items()
            if isinstance(c, ExponentialFamily) and c.has_hidden_parts
        }


class NetworkEStep(TableEStep[RowEvidence]):
    """Expectations of a directed network from rows with missing values, by one batched query.

    Conditionals have the names of their variables.

    Args:
        model: A directed network.
        engine: Engine that sums out unobserved variables, with a differentiable log evidence.
    """

    model: NetworkModel
    takes_likelihoods = True

    def __init__(self, model: Any, engine: Engine | None = None) -> None:
        super().__init__(model)
        self._engine = JunctionTree() if engine is None else engine
        self._recorder = TableRecorder(self.pieces)
        pieces = {
            n: recorded(c, self._recorder, self._name(n))
            for n, c in self.model.conditionals.items()
        }
        self._network = self.model.with_conditionals(pieces)
        self._merged: tuple[RowEvidence, RowEvidence] | None = None

    @property
    def conditionals(self) -> Pieces:
        """Those of the model."""
        return self.model.conditionals

    def _name(self, name: Hashable) -> Hashable | None:
        """Return the name under which a conditional is recorded; None if it is not learnable."""
        return name if name in self.pieces else None

    def read(self, data: Any, weights: Any, inputs: Inputs | None) -> RowEvidence:
        """Read rows."""
        return read_rows(self.model, data, weights, inputs, soft=self.takes_likelihoods)

    def expect(self, observed: RowEvidence) -> ExpectedStatistics:
        """Return expected statistics, see :class:`EStep`; equal rows are evaluated once."""
        return super().expect(self._distinct(observed))

    def values_of(
        self, name: Hashable, conditional: Conditional, observed: RowEvidence
    ) -> Values | None:
        """Return observed real values, see :class:`EStep`."""
        return reals_observed(conditional, observed.reals)

    def completed(self, observed: RowEvidence) -> RowEvidence:
        """Return rows with their most probable states, see :class:`EStep`."""
        solver = model_solver(self.model, observed.reals or None, observed.inputs or None)
        row_evidence = solver.graph.evidence(observed)
        everything = np.ones(len(self.model.elements), dtype=np.bool_)
        soft = row_evidence.soft
        states, _ = solver.best(row_evidence.codes, soft, solver.graph.mask(everything))
        return replace(observed, codes=np.ascontiguousarray(states[:, : len(everything)]))

    def evaluate(self, observed: RowEvidence) -> RecordedEvidence:
        """Return log evidence and the records it depends on, see :class:`TableEStep`."""
        return RecordedEvidence(self._log_prob(observed), self._recorder)

    def log_partition(self, observed: RowEvidence) -> Tensor:
        """Return ``(B,)`` log probabilities of the observations."""
        with torch.no_grad():
            return self._log_prob(observed)

    def hidden(self, observed: RowEvidence) -> list[Hashable]:
        """Return the discrete variables whose states no row tells apart."""
        elements = self.model.elements
        known, numbers = observed.told_apart(elements.offset), elements.numbers
        pairs = self.conditionals.items()
        return [n for n, c in pairs if c.child.is_discrete and not known[numbers(n)].any()]

    def tables(self, observed: RowEvidence) -> list[Record]:
        """Return the tables of all conditionals, over all discrete variables."""
        recorder = TableRecorder(self.conditionals)
        pieces = {n: recorded(c, recorder) for n, c in self.conditionals.items()}
        network = self.model.with_conditionals(pieces)
        groups = network.factor_groups(observed.reals or None, observed.inputs or None)
        small = [
            f for g in groups for f in (g.decomposition() or Decomposition((), (), {})).factors
        ]
        records = [r for r in recorder.records if not isinstance(r, EffectsRecord)]
        for f in small:  # named after the conditional that contains them
            owner = f.child.child if isinstance(f.child, HiddenName) else f.child
            records.append(Record(owner, self.conditionals[owner], f, {}, {}))
        return records

    def symmetric(self, observed: RowEvidence) -> bool:
        """Whether hidden states are interchangeable, or a latent real variable has no effect."""
        latent = latent_reals(self.model, observed)
        return super().symmetric(observed) or without_effect(self.model, latent)

    def initialize(self, observed: RowEvidence, seed: int, at_random: bool) -> None:
        """Initialise by clusters of the rows for each hidden variable, see :class:`EStep`.

        Latent real variables are initialised by principal components of their descendants,
        conditionals that are mixtures by clusters of their child.
        """
        generator = torch.Generator().manual_seed(seed)
        for name, conditional in self._of_parts.items():
            values = self.values_of(name, conditional, observed)
            if values is not None and at_random:
                conditional.initialize_at_random(values, seed)
            elif values is not None:
                conditional.initialize(
                    {**values, **self._observed_parents(conditional, observed)}, seed
                )
        hidden, latent = self.hidden(observed), latent_reals(self.model, observed)
        if hidden or latent:
            reals = principal_components(
                self.model,
                latent,
                lambda name: self._features(self._descendants(name), observed),
                observed,
                generator,
            )
            rows = self._completed(hidden, observed, generator, at_random, noisy=not latent)
            try:
                self.initialize_by(*(replace(r, reals={**observed.reals, **reals}) for r in rows))
            except DataError:  # some states are impossible: add noise to the tables
                at_random = True
            else:
                return
        self.initialize_pieces({}, seed, at_random)

    def _observed_parents(
        self, conditional: Conditional, observed: RowEvidence
    ) -> dict[Hashable, Tensor]:
        """States ``(N,)`` of the discrete parents that every row has observed."""
        found = {}
        for v in (v for v in conditional.parents if v.is_discrete):
            column = observed.codes[:, self.model.elements.numbers(v.name).reshape(-1)[0]]
            if bool((column >= 0).all()):
                found[v.name] = torch.from_numpy(column).long()
        return found

    def _log_prob(self, observed: RowEvidence) -> Tensor:
        self._recorder.records.clear()
        log_z = self._engine.log_prob(self._network, observed, inputs=observed.inputs or None)
        return log_z.reshape(-1)

    def _distinct(self, observed: RowEvidence) -> RowEvidence:
        """Return the distinct rows; those of the last call are cached."""
        if self._merged is None or self._merged[0] is not observed:
            self._merged = observed, observed.merged()
        return self._merged[1]

    def _completed(
        self,
        hidden: Sequence[Hashable],
        observed: RowEvidence,
        generator: torch.Generator,
        at_random: bool,
        noisy: bool,
    ) -> list[RowEvidence]:
        """Return rows with hidden states filled in by clusters, and randomly if all is discrete.

        Clusters of discrete rows often equal one column, whose table would be deterministic and
        remain so.
        """
        codes, noise = observed.codes.copy(), observed.codes.copy()
        for name in hidden:
            column, size = self.model.elements.numbers(name), self.model.variables[name].num_states
            codes[:, column] = self._clusters(name, observed, generator, at_random)
            drawn = torch.randint(size, (observed.num_rows,), generator=generator)
            noise[:, column] = drawn.numpy().astype(np.int32)
            noisy &= not any(n in observed.reals for n in self._descendants(name))
        rows = [replace(observed, codes=codes)]
        return [*rows, replace(observed, codes=noise)] if noisy and hidden else rows

    def _clusters(
        self, name: Hashable, observed: RowEvidence, generator: torch.Generator, at_random: bool
    ) -> NDArray[np.int32]:
        """``(B,)`` states of a hidden variable: clusters of its observed descendants."""
        size = self.model.variables[name].num_states
        features = self._features(self._descendants(name), observed)
        if not features.shape[1]:
            drawn = torch.randint(size, (observed.num_rows,), generator=generator)
        else:
            drawn = kmeans(features, size, generator, 0 if at_random else 20)
        return drawn.numpy().astype(np.int32)

    def _features(self, names: Sequence[Hashable], observed: RowEvidence) -> Tensor:
        """Return ``(B, D)`` observed values as numbers, with means for missing ones."""
        columns = [torch.zeros(observed.num_rows, 0, dtype=torch.float64)]
        for name in names:
            if name in observed.reals:
                columns.append(observed.reals[name].double().reshape(observed.num_rows, -1))
            elif self.model.variables[name].is_discrete:
                codes = torch.from_numpy(
                    observed.codes[:, self.model.elements.numbers(name)]
                ).long()
                hot = one_hot(codes.clamp_min(0), self.model.variables[name].num_states).double()
                columns.append(hot.masked_fill((codes < 0).unsqueeze(-1), torch.nan))
        table = torch.cat(columns, dim=1)
        table = table[:, ~table.isnan().all(dim=0)]
        return torch.where(table.isnan(), table.nanmean(dim=0), table)

    def _descendants(self, name: Hashable) -> list[Hashable]:
        """Return the descendants of a variable."""
        descendants = {name}
        for child in self.model.order:
            if any(v.name in descendants for v in self.conditionals[child].parents):
                descendants.add(child)
        return [n for n in self.model.order if n in descendants and n != name]


def spread_along(table: Factor, *names: Hashable) -> float | None:
    """Return the variation of a table along some variables; None if it has none of them."""
    spreads = []
    for axis, name in enumerate(table.names):
        if name in names and table.log_values.numel():
            x = table.log_values.detach().movedim(len(table.batch_shape) + axis, -1)
            spreads.append(float((x.amax(-1) - x.amin(-1)).nan_to_num(nan=0.0).amax()))
    return max(spreads, default=None)
