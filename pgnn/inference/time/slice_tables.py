"""The tables of a repeated slice given evidence."""

from __future__ import annotations

from collections.abc import Callable, Container, Hashable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from pgnn.abilities import SlicedModel
from pgnn.errors import Unsupported
from pgnn.evidence.sequence_evidence import SequenceEvidence
from pgnn.factors.conditionals.conditional import Conditional
from pgnn.factors.factor import Factor
from pgnn.factors.time_steps import has_lag, lagged_name, without_lag
from pgnn.factors.variable import Variable


@dataclass(frozen=True, eq=False)
class SliceTables:
    r"""Log tables of slices, with rows and steps of a span in one axis of ``N = B * steps``.

    Attributes:
        model: The slice.
        observed: Evidence.
        inputs: Covariates ``(B, T, ...)``.
        probes: Zeros ``(B, T, S)`` added to the logs of discrete variables: the gradient of
            :math:`\log p(e)` by one is that variable's marginal.
        wanted: Variables whose tables are needed even if no observation depends on them.
    """

    model: SlicedModel
    observed: SequenceEvidence
    inputs: Mapping[Hashable, Tensor]
    probes: Mapping[Hashable, Tensor] = field(default_factory=dict)
    wanted: frozenset[Hashable] = frozenset()

    # tables of evidence alone, by name and first step: cached while the parameters change
    _findings: dict[tuple[Hashable, int], Tensor] = field(
        default_factory=dict, init=False, repr=False
    )

    @cached_property
    def barren(self) -> set[Hashable]:
        """Barren variables, which sum to one: no descendant is observed or queried.

        The interface is never barren.
        """
        observed, conditionals = self.observed, self.model.conditionals
        known = {*observed.codes, *observed.reals, *observed.soft, *self.probes, *self.wanted}
        barren = {n for n in conditionals if n not in known and n not in self.model.interface}
        while True:
            needed = {
                without_lag(v.name)
                for child, c in conditionals.items()
                if child not in barren
                for v in (*c.parents, *self.model.first(child).parents)
            }
            if not barren & needed:
                return barren
            barren -= needed

    @property
    def leaves(self) -> set[Hashable]:
        """Discrete variables whose tables include their evidence."""
        return set()

    def steady(self, kept: Container[Hashable]) -> list[Hashable]:
        """Return observed variables with the same conditional at every step, over ``kept``."""
        steady = []
        for name, conditional in self.model.conditionals.items():
            closed = name in self.leaves or not conditional.child.is_discrete
            within = all(v.name in kept for v in conditional.parents if v.is_discrete)
            if closed and within and self.model.first(name) is conditional:
                steady.append(name)
        return steady

    def variable(self, name: Hashable) -> Variable:
        """Return a variable of one step."""
        return self.model.conditionals[name].child

    def conditionals(self, span: slice, names: Iterable[Hashable] | None = None) -> list[Factor]:
        """Return the tables of conditionals at the steps of a span.

        Args:
            span: The first step, or later steps; for variables of :meth:`steady` also all steps.
            names: Names of the variables; all by default.

        Raises:
            Unsupported: If a real variable was not observed and something depends on it.
        """
        at_first = span.start == 0
        factors = []
        for name in self.model.conditionals if names is None else names:
            if name in self.barren:
                continue
            conditional = self.model.first(name) if at_first else self.model.conditionals[name]
            factor = (
                self._discrete(conditional, span)
                if conditional.child.is_discrete
                else self._real(conditional, span)
            )
            if factor is not None:
                factors.append(factor)
        return factors

    def unary(self, name: Hashable, span: slice) -> Factor | None:
        """Return the evidence on a discrete variable, ``(N, S)``; None if there is none."""
        if name in self.observed.codes or name in self.observed.soft:
            total = self._cached_by_span(name, span, self._likelihood)
            if name in self.probes:
                total = total + self.probes[name][:, span].to(total.device)
        elif name in self.probes:
            total = self.probes[name][:, span].to(self._device(name))
        else:
            return None
        return Factor([self.variable(name)], total.flatten(0, 1))

    def _likelihood(self, name: Hashable, span: slice) -> Tensor:
        """``(B, steps, S)`` log-likelihoods of each state by codes and soft evidence."""
        observed, size = self.observed, self.variable(name).num_states
        likely = observed.soft[name][:, span].double().log() if name in observed.soft else None
        if name not in observed.codes:
            assert likely is not None
            return likely.to(self._device(name))
        codes = observed.codes[name][:, span]
        known = one_hot(codes.clamp_min(0), size).bool() | (codes < 0).unsqueeze(-1)
        log_likelihood = torch.zeros(known.shape, dtype=torch.float64).masked_fill(
            ~known, -torch.inf
        )
        total = log_likelihood if likely is None else log_likelihood + likely
        return total.to(self._device(name))

    def _device(self, name: Hashable) -> torch.device:
        """Return the device of the tables of a variable; evidence is on the CPU."""
        parameters = self.model.conditionals[name].parameters()
        return next((p.device for p in parameters), torch.device("cpu"))

    def _cached_by_span(
        self, name: Hashable, span: slice, make: Callable[[Hashable, slice], Tensor]
    ) -> Tensor:
        """Return a cached result that depends only on the evidence."""
        key = (name, span.start)
        if key not in self._findings:
            self._findings[key] = make(name, span)
        return self._findings[key]

    def _discrete(self, conditional: Conditional, span: slice) -> Factor:
        reals = {v.name: v for v in conditional.parents if not v.is_discrete}
        values = {n: self._values(n, span, conditional) for n in reals}
        for name, x in values.items():
            if bool(x[self._inside(span)].isnan().any()):
                raise _unobserved_error(name, conditional.child.name)
        reals_observed = {n: x.flatten(0, 1).nan_to_num() for n, x in values.items()}
        return conditional.factor(reals_observed or None, self._covariates(conditional, span))

    def _real(self, conditional: Conditional, span: slice) -> Factor | None:
        """Return the log densities of observed values; zero for unobserved ones."""
        name = conditional.child.name
        if name not in self.observed.reals:
            return None
        x = self._values(name, span, conditional)
        axes = tuple(range(2, x.dim()))
        present = self._inside(span) & ~(x.isnan().all(axes) if axes else x.isnan())
        values = {name: x[present]}
        for v in conditional.parents:
            if not v.is_discrete:
                values[v.name] = self._values(v.name, span, conditional)[present]
                if bool(values[v.name].isnan().any()):
                    raise _unobserved_error(v.name, name)
        rest = self._covariates(conditional, span) or {}
        at = present.flatten()
        table = conditional.factor(values, {n: c[at] for n, c in rest.items()} or None)
        full = table.log_values.new_zeros(at.shape[0], *table.log_values.shape[1:])
        return Factor(table.variables, full.index_put((at.to(full.device),), table.log_values))

    def _values(self, name: Hashable, span: slice, conditional: Conditional) -> Tensor:
        """Return ``(B, steps, ...)`` values of a real variable, at the previous step if lagged."""
        plain = without_lag(name)
        if plain not in self.observed.reals:
            raise _unobserved_error(plain, conditional.child.name)
        x = self.observed.reals[plain]
        if not has_lag(name):
            return x[:, span]
        return x[:, span.start - 1 : -1 if span.stop is None else span.stop - 1]

    def _inside(self, span: slice) -> Tensor:
        return self.observed.inside[:, span]

    def _covariates(self, conditional: Conditional, span: slice) -> dict[Hashable, Tensor] | None:
        names = [n for n in conditional.inputs if n in self.inputs]
        return {n: self.inputs[n][:, span].flatten(0, 1) for n in names} or None


def _unobserved_error(name: Hashable, child: Hashable) -> Unsupported:
    return Unsupported(
        f"{without_lag(name)!r} is real and not observed everywhere, but {child!r} depends on "
        "it; this engine only sums over discrete states",
        "leave out engine=, or learn with Gradient()",
    )


@dataclass(frozen=True, eq=False)
class LeafSliceTables(SliceTables):
    """Tables of slices in which the evidence on a leaf is applied first.

    A discrete leaf is treated like a real variable: if it is observed, its table is over its
    parents only; otherwise it is barren.
    """

    @cached_property
    def leaves(self) -> set[Hashable]:
        """Discrete variables observed somewhere, with discrete parents and no children."""
        model, observed = self.model, self.observed
        conditionals = {n: (c, model.first(n)) for n, c in model.conditionals.items()}
        inner = {v.name for pair in conditionals.values() for c in pair for v in c.parents}
        known = {n for n in observed.codes if n not in observed.soft and n not in self.probes}
        return {
            n
            for n, pair in conditionals.items()
            if n in known
            and n not in inner
            and lagged_name(n) not in inner
            and all(v.is_discrete for c in pair for v in c.parents)
        }

    def unary(self, name: Hashable, span: slice) -> Factor | None:
        """See :meth:`SliceTables.unary`; None for a leaf, whose table includes its evidence."""
        return None if name in self.leaves else super().unary(name, span)

    def _discrete(self, conditional: Conditional, span: slice) -> Factor:
        name = conditional.child.name
        if name not in self.leaves:
            return super()._discrete(conditional, span)
        if not conditional.inputs:
            return self._read(conditional.factor(), name, span)
        present = (
            self._cached_by_span(name, span, self._rows) < conditional.child.num_states
        ).nonzero()[:, 0]
        codes, rest = (
            self.observed.codes[name][:, span].flatten(),
            self._covariates(conditional, span) or {},
        )
        table = conditional.factor(
            {name: codes[present]}, {n: c[present] for n, c in rest.items()} or None
        )
        full = table.log_values.new_zeros(len(codes), *table.log_values.shape[1:])
        return Factor(table.variables, full.index_put((present.to(full.device),), table.log_values))

    def _read(self, table: Factor, name: Hashable, span: slice) -> Factor:
        """Return the log table at the observed states; zeros if not observed."""
        axis = table.names.index(name)
        rows = table.log_values.movedim(axis, 0)
        rows = torch.cat([rows, rows.new_zeros(1, *rows.shape[1:])])
        rest = [v for v in table.variables if v.name != name]
        known = self._cached_by_span(name, span, self._rows).to(rows.device)
        return Factor(rest, rows.index_select(0, known))

    def _rows(self, name: Hashable, span: slice) -> Tensor:
        """Return ``(N,)`` observed states; the number of states if not observed."""
        codes = self.observed.codes[name][:, span]
        present = self._inside(span) & (codes >= 0)
        return codes.masked_fill(~present, self.variable(name).num_states).flatten()
