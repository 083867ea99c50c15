r"""Tables as leaves of backpropagation, whose gradients are expected statistics.

.. math:: E[N_{jk} \mid e] = \frac{\partial \log p(e)}{\partial \log \theta_{jk}}

A recorded conditional returns its tables as leaves and records them. After a differentiable engine
has computed the log evidence of a model of recorded conditionals, one backward pass gives the
expected counts of all tables.

References:
    Darwiche (2003), A differential approach to inference in Bayesian networks, section 4.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution

from pgnn.abilities import Inputs, SlicedModel
from pgnn.evidence.sequence_evidence import SequenceEvidence
from pgnn.factors.conditionals.causal_independence import CausalIndependence
from pgnn.factors.conditionals.conditional import Conditional
from pgnn.factors.conditionals.decomposition import Decomposition, HiddenName
from pgnn.factors.conditionals.regression import Regression
from pgnn.factors.conditionals.renamed import Renamed, bare
from pgnn.factors.factor import Factor
from pgnn.factors.gaussians.component import HiddenIntegral
from pgnn.factors.variable import Variable
from pgnn.inference.learning.expected_statistics import Pieces, Values
from pgnn.inference.learning.integral_record import IntegralRecord
from pgnn.inference.learning.record import EffectsRecord, ElementsRecord, Record


@dataclass(eq=False)
class TableRecorder:
    """Creates and records the tables of some conditionals.

    Attributes:
        pieces: The conditionals to record.
        records: The recorded tables.
    """

    pieces: Pieces
    records: list[Record] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._names = {id(c): name for name, c in self.pieces.items()}

    def name_of(self, conditional: Conditional) -> Hashable | None:
        """Return the name of a conditional; None if it is not recorded."""
        inner = bare(conditional)
        return inner.name if isinstance(inner, Recorded) else self._names.get(id(conditional))

    def factor(
        self,
        name: Hashable | None,
        conditional: Conditional,
        observed: Values | None,
        inputs: Values | None,
    ) -> Factor:
        """Return a conditional's table; a leaf if the conditional is recorded."""
        with torch.no_grad():
            factor = conditional.factor(observed, inputs)
        if name is None:
            return factor
        leaf = factor.log_values.detach().clone().requires_grad_()
        table = Factor(factor.variables, leaf, factor.child)
        self._record(name, conditional, table, observed, inputs)
        return table

    def elements(
        self,
        name: Hashable | None,
        conditional: Conditional,
        observed: Values | None,
        inputs: Values | None,
    ) -> list[Factor]:
        """Return a table for each element of an array; parts of a leaf if it is recorded."""
        with torch.no_grad():
            tables = conditional.tables(observed, inputs)
        if name is None:
            return tables
        leaf = torch.stack([f.log_values for f in tables], -2).requires_grad_()
        child = conditional.child
        which, state = Variable(HiddenName(child.name, -1), len(tables)), next(child.elements())
        parents = tables[0].variables[:-1]
        table = Factor([*parents, which, state], leaf)
        self._record(name, conditional, table, observed, inputs, ElementsRecord)
        parts = zip(tables, leaf.unbind(-2), strict=True)
        return [Factor(f.variables, part) for f, part in parts]

    def _record(
        self,
        name: Hashable,
        conditional: Conditional,
        table: Factor,
        observed: Values | None,
        inputs: Values | None,
        kind: type[Record] = Record,
    ) -> None:
        scope = [v.name for v in conditional.scope]
        values = {n: x for n, x in (observed or {}).items() if n in scope}
        covariates = {n: x for n, x in (inputs or {}).items() if n in conditional.inputs}
        self.records.append(kind(name, conditional, table, values, covariates))

    def integral(self, hidden: HiddenIntegral) -> Tensor:
        """Return a leaf in place of an integral over hidden real variables."""
        if self.records and self.records[-1].table.log_values is hidden.table:
            return hidden.table
        named = ((self.name_of(c), unwrapped(c)) for c in hidden.component.conditionals)
        learned = [(name, conditional) for name, conditional in named if name is not None]
        if not learned:
            return hidden.table
        leaf = hidden.table.detach().clone().requires_grad_()
        self.records.append(IntegralRecord.of(hidden, leaf, learned))
        return leaf

    def decomposition(
        self, name: Hashable | None, conditional: Conditional, ranks: Sequence[int] | None = None
    ) -> Decomposition | None:
        """Return the decomposition of a conditional; with leaves if it is recorded."""
        with torch.no_grad():
            if name is None or not isinstance(conditional, CausalIndependence):
                return conditional.decomposition(ranks)
            logs = conditional.log_effects()
        leaf = logs.detach().clone().requires_grad_()
        rows = Variable(HiddenName(conditional.child.name, -1), len(leaf))
        table = Factor([rows, conditional.child], leaf, conditional.child.name)
        self.records.append(EffectsRecord(name, conditional, table, {}, {}))
        return conditional.chained(leaf, ranks)

    def gradients(
        self, total: Tensor, probes: Iterable[Tensor] = ()
    ) -> tuple[list[tuple[Record, Tensor]], list[Tensor]]:
        """Return the gradients of a weighted sum of log evidence: expected counts.

        Args:
            total: The sum.
            probes: Additional leaves.

        Returns:
            The relevant records with the gradients of their tables, and the gradients of the
            probes.
        """
        extra = [*probes]
        leaves = [*(r.table.log_values for r in self.records), *extra]
        gradients: tuple[Tensor | None, ...] = (None,) * len(leaves)
        if total.requires_grad and leaves:
            gradients = torch.autograd.grad(total, leaves, allow_unused=True)
        by_record = [
            (record, gradient.clamp_min(0.0))  # negative by rounding
            for record, gradient in zip(self.records, gradients, strict=False)
            if gradient is not None
        ]
        rest = zip(extra, gradients[len(self.records) :], strict=True)
        return by_record, [torch.zeros_like(p) if x is None else x for p, x in rest]


class Recorded(Conditional):
    """A conditional whose tables are recorded.

    Args:
        conditional: The conditional, not copied.
        recorder: The recorder.
        name: Name of its records; by default that of the recorder.
    """

    def __init__(
        self, conditional: Conditional, recorder: TableRecorder, name: Hashable | None = None
    ) -> None:
        super().__init__(conditional.child, conditional.parents, conditional.inputs)
        self.conditional = conditional
        self.integrates_missing, self.is_table = (
            conditional.integrates_missing,
            conditional.is_table,
        )
        self.is_linear_gaussian = conditional.is_linear_gaussian
        self._recorder = recorder
        self.name = recorder.name_of(conditional) if name is None else name

    def distribution(
        self, parents: Mapping[Hashable, Tensor], inputs: Mapping[Hashable, Tensor] | None = None
    ) -> Distribution:
        """Return the conditional's distribution."""
        return self.conditional.distribution(parents, inputs)

    @property
    def decomposes(self) -> bool:
        """Whether the conditional decomposes."""
        return self.conditional.decomposes

    def decomposition(self, ranks: Sequence[int] | None = None) -> Decomposition | None:
        """Return the conditional's decomposition, recorded."""
        return self._recorder.decomposition(self.name, self.conditional, ranks)

    def regression(self) -> Regression:
        """Return the conditional's regression, with constant parameters."""
        with torch.no_grad():
            return self.conditional.regression()

    def recorded_integral(self, integral: HiddenIntegral) -> Tensor:
        """Return a leaf in place of an integral."""
        return self._recorder.integral(integral)

    def factor(
        self,
        observed: Mapping[Hashable, Tensor] | None = None,
        inputs: Mapping[Hashable, Tensor] | None = None,
    ) -> Factor:
        """Return the conditional's table, recorded."""
        return self._recorder.factor(self.name, self.conditional, observed, inputs)

    def tables(
        self,
        observed: Mapping[Hashable, Tensor] | None = None,
        inputs: Mapping[Hashable, Tensor] | None = None,
    ) -> list[Factor]:
        """Return the conditional's tables, recorded."""
        if not self.conditional.is_split(observed):
            return [self.factor(observed, inputs)]
        return self._recorder.elements(self.name, self.conditional, observed, inputs)


class RecordedSlice(SlicedModel):
    """A model over time whose tables are recorded.

    Args:
        model: The model.
        recorder: The recorder.
    """

    def __init__(self, model: SlicedModel, recorder: TableRecorder) -> None:
        self._model = model
        self._conditionals = {n: Recorded(c, recorder) for n, c in model.conditionals.items()}
        self._first: dict[Hashable, Conditional] = {}
        for name, conditional in model.conditionals.items():
            first = model.first(name)
            same = first is conditional
            self._first[name] = self._conditionals[name] if same else Recorded(first, recorder)

    @property
    def variables(self) -> Mapping[Hashable, Variable]:
        """The variables of the model."""
        return self._model.variables

    @property
    def conditionals(self) -> Mapping[Hashable, Conditional]:
        """The conditionals of the model, recorded."""
        return self._conditionals

    @property
    def initial(self) -> Mapping[Hashable, Conditional]:
        """The conditionals of the first slice, recorded."""
        return {n: self._first[n] for n in self._model.initial}

    @property
    def interface(self) -> list[Hashable]:
        """That of the model."""
        return self._model.interface

    @property
    def order(self) -> Sequence[Hashable]:
        """That of the model."""
        return self._model.order

    def parameters(self) -> Iterable[Tensor]:
        """Return the learnable parameters, so that answers are differentiable."""
        conditionals = [*self._conditionals.values(), *self._first.values()]
        return [p for conditional in conditionals for p in conditional.parameters()]

    def first(self, name: Hashable) -> Conditional:
        """Return the conditional of a variable at the first step, recorded."""
        return self._first[name]

    def covariates(
        self, inputs: Inputs | None, observed: SequenceEvidence
    ) -> dict[Hashable, Tensor]:
        """Return those of the model."""
        return self._model.covariates(inputs, observed)

    def unroll(self, steps: int) -> Any:
        """Return the model's own unrolled network, not recorded."""
        return self._model.unroll(steps)


def unwrapped(c: Conditional) -> Conditional:
    """Return a conditional that is not recorded, of the same variables."""
    if isinstance(c, Renamed):
        return c.around(unwrapped(c.conditional))
    return c.conditional if isinstance(c, Recorded) else c


def recorded(
    conditional: Conditional, recorder: TableRecorder, name: Hashable | None = None
) -> Conditional:
    """Return a conditional whose tables are recorded.

    For a renamed conditional, the tables of the original one are recorded.

    Args:
        conditional: The conditional.
        recorder: Who keeps its tables.
        name: Name of its records; by default that of the recorder.
    """
    name = recorder.name_of(conditional) if name is None else name
    if isinstance(conditional, Renamed):
        return conditional.around(recorded(conditional.conditional, recorder, name))
    return Recorded(conditional, recorder, name)
