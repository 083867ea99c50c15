"""The E-step of dynamic Bayesian networks: gradients of the log evidence in the tables."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from pgnn.abilities import Inputs, NetworkModel, SlicedModel
from pgnn.errors import Intractable
from pgnn.evidence.sequence_evidence import SequenceEvidence
from pgnn.factors.conditionals.conditional import Conditional
from pgnn.factors.time_steps import lagged_name, without_lag
from pgnn.factors.variable import Variable
from pgnn.inference.engine import Engine
from pgnn.inference.exact.junction_tree import JunctionTree
from pgnn.inference.learning.e_step import reals_observed
from pgnn.inference.learning.expected_statistics import Values, WeightedRows
from pgnn.inference.learning.record import Record
from pgnn.inference.learning.recorded_tables import RecordedSlice, TableRecorder, recorded
from pgnn.inference.learning.table_e_step import RecordedEvidence, TableEStep, spread_along
from pgnn.inference.learning.training_data import filled_in, read_sequences
from pgnn.inference.time.engine_over_time import has_small_interface
from pgnn.inference.time.interface_algorithm import FIRST, REST, InterfaceAlgorithm, InterfaceChain
from pgnn.inference.time.slice_tables import LeafSliceTables
from pgnn.inference.time.unrolling import Unrolling


class SliceEStep(TableEStep[SequenceEvidence]):
    """Expectations under a dynamic Bayesian network with any missing values.

    One backward pass through the interface chain and the eliminations within slices gives the
    expected counts of all tables. For row-wise tables, such as those of observed real children, it
    gives the posterior weights of each row.

    Conditionals have the names of their variables, or ``("initial", name)`` for a different
    conditional at the first step.

    Args:
        model: A dynamic Bayesian network.
    """

    model: SlicedModel

    def __init__(self, model: Any) -> None:
        super().__init__(model)
        self._prepared: _Prepared | None = None

    @cached_property
    def conditionals(self) -> dict[Hashable, Conditional]:
        """All conditionals by name."""
        model = self.model
        differ: dict[Hashable, Conditional] = {}
        for name, conditional in model.conditionals.items():
            if model.first(name) is not conditional:
                differ["initial", name] = model.first(name)
        return {**differ, **model.conditionals}

    @property
    def states(self) -> Sequence[Hashable]:
        """Labels of the states, if there is one variable of them."""
        state = self._state
        return () if state is None else tuple(state.states or ())

    def read(self, data: Any, weights: Any, inputs: Inputs | None) -> SequenceEvidence:
        """Read sequences."""
        return read_sequences(self.model, data, weights, inputs)

    def values_of(
        self, name: Hashable, conditional: Conditional, observed: SequenceEvidence
    ) -> Values | None:
        """Return real values observed at any step, see :class:`EStep`."""
        flat = {n: x.flatten(end_dim=1) for n, x in observed.reals.items()}
        return reals_observed(conditional, flat | {lagged_name(n): x for n, x in flat.items()})

    def log_partition(self, observed: SequenceEvidence) -> Tensor:
        """Return ``(B,)`` log probabilities of the observations."""
        with torch.no_grad():
            return self._prepare(observed).log_partition()

    def evaluate(self, observed: SequenceEvidence) -> RecordedEvidence:
        """Return log evidence and the records it depends on, see :class:`TableEStep`."""
        prepared = self._prepare(observed)
        probes = [*prepared.tables.probes.values()]
        return RecordedEvidence(prepared.log_partition(), prepared.recorder, probes)

    def completed(self, observed: SequenceEvidence) -> SequenceEvidence:
        """Return sequences with their most probable states, see :class:`EStep`."""
        model: Any = self.model
        small = has_small_interface(model)
        exact = InterfaceAlgorithm() if small else Unrolling(JunctionTree())
        return filled_in(
            observed, exact.most_probable(model, observed, None, inputs=observed.inputs)
        )

    def hidden(self, observed: SequenceEvidence) -> list[Hashable]:
        """Return the discrete variables that are never observed."""
        pairs = self.model.conditionals.items()
        return [n for n, c in pairs if c.child.is_discrete and n not in observed.codes]

    def tables(self, observed: SequenceEvidence) -> list[Record]:
        """Return the tables of all conditionals."""
        recorder = TableRecorder(self.conditionals)
        tables = LeafSliceTables(RecordedSlice(self.model, recorder), observed, observed.inputs)
        for span in (FIRST, REST):
            tables.conditionals(span)
        return recorder.records

    def initialize(self, observed: SequenceEvidence, seed: int, at_random: bool) -> None:
        """Initialise by clusters of the observations of the children of hidden variables."""
        records, hidden = self.tables(observed), self.hidden(observed)
        values = {n: self._start_values(n, observed, records, hidden) for n in self.pieces}
        self.initialize_pieces(values, seed, at_random)

    def _start_values(
        self,
        name: Hashable,
        observed: SequenceEvidence,
        records: Sequence[Record],
        hidden: list[Hashable],
    ) -> Values | None:
        """Return the observed values of a child whose parents are hidden.

        ``{}`` for a child that is hidden itself and does not distinguish its parents' states; None
        if the conditional is to be left unchanged.
        """
        conditional = self.conditionals[name]
        child = conditional.child.name
        sources = [without_lag(v.name) for v in conditional.parents]
        unknown = [n for n in sources if n in hidden and n != child]
        records = [r for r in records if r.name == name]
        if not unknown or not records:
            return None
        if child in hidden:
            spreads = [
                spread_along(r.table, n, lagged_name(n)) or 0.0 for r in records for n in unknown
            ]
            return {} if max(spreads) <= self.SAME else None
        if all(child in r.values for r in records):
            empty = torch.zeros(0)
            return WeightedRows.joined(WeightedRows(r.values, {}, empty) for r in records).values
        codes = observed.codes[child]
        return {child: codes[observed.inside & (codes >= 0)]}

    def _prepare(self, observed: SequenceEvidence) -> _Prepared:
        """Return data that depend only on the structure and the evidence; the last is cached."""
        if self._prepared is None or self._prepared.observed is not observed:
            recorder = TableRecorder(self.pieces)
            slices = RecordedSlice(self.model, recorder)
            tables = LeafSliceTables(slices, observed, observed.inputs, self._probes(observed))
            self._prepared = _Prepared(observed, recorder, tables)
        return self._prepared

    def _probes(self, observed: SequenceEvidence) -> dict[Hashable, Tensor]:
        """Zeros whose gradients are the posterior of the states, if one variable has them."""
        state = self._state
        if state is None:
            return {}
        shape = (observed.num_rows, observed.steps, state.num_states)
        return {state.name: torch.zeros(shape, dtype=torch.float64, requires_grad=True)}

    @cached_property
    def _state(self) -> Variable | None:
        """The single discrete variable with children; None if there are several."""
        conditionals = self.model.conditionals
        inner = {without_lag(v.name) for c in conditionals.values() for v in c.parents}
        states = [c.child for n, c in conditionals.items() if n in inner and c.child.is_discrete]
        return states[0] if len(states) == 1 else None


@dataclass(frozen=True, eq=False)
class _Prepared:
    """The slices of some sequences, for changing parameters."""

    observed: SequenceEvidence
    recorder: TableRecorder
    tables: LeafSliceTables

    def log_partition(self) -> Tensor:
        """Return ``(B,)`` log probabilities, with newly recorded tables."""
        self.recorder.records.clear()
        return InterfaceChain.of(self.tables).chain.log_partition()


class UnrolledEStep(SliceEStep):
    """Expectations under a dynamic Bayesian network, by a junction tree of the unrolled network.

    For interfaces with too many states for a chain. Sequences of equal length are batched. Other
    than in :class:`SliceEStep`, an unobserved leaf contributes its expected counts.

    Args:
        model: A dynamic Bayesian network, or a hidden Markov model.
        engine: Engine that sums out unobserved variables, with a differentiable log evidence; exact
            if not given.
    """

    def __init__(self, model: Any, engine: Engine | None = None) -> None:
        super().__init__(model)
        self._engine = JunctionTree() if engine is None else engine
        self._recorder = TableRecorder(self.pieces)
        self._networks: dict[int, _Unrolled] = {}

    def evaluate(self, observed: SequenceEvidence) -> RecordedEvidence:
        """Return log evidence and the records it depends on, see :class:`TableEStep`."""
        self._recorder.records.clear()
        log_z = torch.zeros(observed.num_rows, dtype=torch.float64)
        for which, part in _by_length(observed):
            log_z = log_z.index_put((which,), self._network(part.steps).log_prob(part).double())
        return RecordedEvidence(log_z, self._recorder)

    def log_partition(self, observed: SequenceEvidence) -> Tensor:
        """Return ``(B,)`` log probabilities of the observations."""
        with torch.no_grad():
            return self.evaluate(observed).log_evidence

    def _network(self, steps: int) -> _Unrolled:
        """Return the network of a given number of steps, cached with its plans."""
        if steps not in self._networks:
            self._networks[steps] = _Unrolled(self.model, steps, self._recorder, self._engine)
        return self._networks[steps]


class _Unrolled(RecordedSlice):
    """A model over time that unrolls to a network of recorded conditionals."""

    def __init__(
        self, model: SlicedModel, steps: int, recorder: TableRecorder, engine: Engine
    ) -> None:
        super().__init__(model, recorder)
        self._engine = engine
        plain: Any = model.unroll(steps)
        pieces = {n: recorded(c, recorder) for n, c in plain.conditionals.items()}
        self._network: NetworkModel = plain.with_conditionals(pieces)

    def unroll(self, steps: int) -> NetworkModel:
        """Return the network."""
        return self._network

    def log_prob(self, observed: SequenceEvidence) -> Tensor:
        """Return ``(B,)`` log probabilities, whose gradients are the expected counts."""
        unrolled: Any = self
        try:
            log_z = Unrolling(self._engine).log_prob(unrolled, observed, inputs=observed.inputs)
        except Intractable as error:
            raise Intractable(
                f"EM needs exact inference in the unrolled network, and {error.reason}",
                f"{error.advice}; or learn with Gradient(engine=...)",
            ) from None
        return log_z.reshape(-1)


def _by_length(observed: SequenceEvidence) -> list[tuple[Tensor, SequenceEvidence]]:
    """Return the sequences grouped by length, without empty ones."""
    lengths = observed.lengths
    groups = [(lengths == n).nonzero()[:, 0] for n in sorted(set(lengths.tolist()) - {0})]
    return [(which, observed.take(which)) for which in groups]
