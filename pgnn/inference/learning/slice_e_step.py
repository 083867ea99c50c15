"""Expectations of a slice that repeats: slopes of the log evidence by its tables."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from pgnn.evidence.sequences import Sequences
from pgnn.factors.conditionals.conditional import Conditional
from pgnn.factors.conditionals.exponential_family import Statistics
from pgnn.inference.learning.expected_statistics import (
    ExpectedStatistics,
    Values,
    Weighted,
    learnable,
)
from pgnn.inference.learning.recorded_tables import Record, RecordedSlice, Recorder
from pgnn.inference.learning.training_data import check_possible
from pgnn.inference.time.interface_chain import FIRST, REST, InterfaceChain
from pgnn.inference.time.slice_tables import FamilyTables

_SAME = 1e-12
"""Difference of logs at which two states are the same."""


class SliceEStep:
    r"""Expectations under a dynamic Bayesian network, whatever was seen of it.

    .. math:: E[N_{jk} \mid e] = \frac{\partial \log p(e)}{\partial \log \theta_{jk}}

    The tables of the slices are leaves of a gradient: one pass backward through the chain of the
    interface, and through the elimination in the slices, finds the counts of all families. A table
    that differs by row, as where a real child was seen, gets the posterior weights of each row.

    Places are the names of the variables; ``("initial", name)`` at the first step, where the
    conditional is another one.

    Args:
        model: A dynamic Bayesian network.

    References:
        Darwiche (2003), A differential approach to inference in Bayesian networks, section 4.
    """

    def __init__(self, model: Any) -> None:
        self.model = model
        self._prepared: _Prepared | None = None

    @cached_property
    def every(self) -> dict[Hashable, Conditional]:
        """All conditionals by place."""
        model = self.model
        firsts = {("initial", n): model.first(n) for n in model.conditionals}
        differ = {p: c for p, c in firsts.items() if c is not model.conditionals[p[1]]}
        return {**differ, **model.conditionals}

    @cached_property
    def places(self) -> dict[Hashable, Conditional]:
        """The learnable conditionals by place."""
        return learnable(self.every)

    @property
    def states(self) -> Sequence[Hashable]:
        """Labels of the states, if there is one variable of them."""
        names = self.model.hidden
        return tuple(self.model.variables[names[0]].states) if len(names) == 1 else ()

    def expect(self, seen: Sequences) -> ExpectedStatistics:
        """Return expected statistics, see :class:`EStep`."""
        prepared = self._prepare(seen)
        with torch.enable_grad():
            log_z = prepared.log_partition()
            check_possible(seen, log_z)
            total = seen.weighted_sum(log_z.double())
            by_place, slopes = prepared.recorder.slopes(total, prepared.tables.probes.values())
        sums: dict[Hashable, Statistics] = {}
        rows: dict[Hashable, Weighted] = {}
        for place, found in by_place.items():
            parts = [record.summed(slope) for record, slope in found]
            closed = [p for p in parts if p is not None]
            if closed:
                sums[place] = tuple(sum(x) for x in zip(*closed, strict=True))
            else:
                rows[place] = Weighted.joined(r.weighted(slope) for r, slope in found)
        occupancy = slopes[0].sum((0, 1)) if slopes else None
        weight = float(seen.row_weights.sum())
        return ExpectedStatistics(float(total.detach()), weight, sums, rows, occupancy)

    def log_partition(self, seen: Sequences) -> Tensor:
        """Return ``(B,)`` log probabilities of what was seen."""
        with torch.no_grad():
            return self._prepare(seen).log_partition()

    def symmetric(self, seen: Sequences) -> bool:
        """Whether some hidden variable has states that all else takes for the same."""
        tables = self._tables(seen)
        for name in self._hidden(seen):
            others = [r.table for n, r in tables if name not in (n, *_plain(n))]
            spreads = [_spread(t, name) for t in others]
            known = [x for x in spreads if x is not None]
            if known and max(known) <= _SAME:
                return True
        return False

    def start_values(self, place: Hashable, seen: Sequences) -> Values | None:
        """Return what was seen of a child whose parents are hidden.

        Nothing, ``{}``, of a child that is hidden itself and does not tell its parents' states
        apart; None if the conditional is to stay as it is.
        """
        own, hidden = self.every[place], self._hidden(seen)
        unknown = [n for n in (_source(v.name, self.model) for v in own.parents) if n in hidden]
        unknown = [n for n in unknown if n != own.child.name]
        records = [r for n, r in self._tables(seen) if n == place]
        if not unknown or not records:
            return None
        name = own.child.name
        if name in hidden:
            spreads = [_spread(r.table, n) or 0.0 for r in records for n in unknown]
            return {} if max(spreads) <= _SAME else None
        if all(name in r.values for r in records):
            return Weighted.joined(Weighted(r.values, {}, torch.zeros(0)) for r in records).values
        codes = seen.codes[name]
        return {name: codes[seen.inside & (codes >= 0)]}

    # --- helpers ------------------------------------------------------------------------------

    def _prepare(self, seen: Sequences) -> _Prepared:
        """What depends on the structure and the evidence alone; the last is kept."""
        if self._prepared is None or self._prepared.seen is not seen:
            recorder = Recorder(self.places)
            slices: Any = RecordedSlice(self.model, recorder)
            tables = FamilyTables(slices, seen, seen.inputs, self._probes(seen))
            self._prepared = _Prepared(seen, recorder, tables)
        return self._prepared

    def _tables(self, seen: Sequences) -> list[tuple[Hashable, Record]]:
        """The tables of all conditionals, by place."""
        recorder = Recorder(self.every)
        slices: Any = RecordedSlice(self.model, recorder)
        tables = FamilyTables(slices, seen, seen.inputs)
        for span in (FIRST, REST):
            tables.conditionals(span)
        return [(n, r) for n, found in recorder.records.items() for r in found]

    def _hidden(self, seen: Sequences) -> list[Hashable]:
        """Discrete variables of which no state was seen."""
        every = self.model.conditionals.items()
        return [n for n, c in every if c.child.is_discrete and n not in seen.codes]

    def _probes(self, seen: Sequences) -> dict[Hashable, Tensor]:
        """Zeros whose slopes are the posterior of the states, if one variable has them."""
        names, shape = self.model.hidden, (seen.num_rows, seen.steps)
        if len(names) != 1:
            return {}
        size = self.model.conditionals[names[0]].child.num_states
        return {names[0]: torch.zeros(*shape, size, dtype=torch.float64, requires_grad=True)}


@dataclass(frozen=True, eq=False)
class _Prepared:
    """The slices of some sequences, whose numbers may change."""

    seen: Sequences
    recorder: Recorder
    tables: FamilyTables

    def log_partition(self) -> Tensor:
        """``(B,)`` log probabilities; the tables that they are made from are recorded anew."""
        self.recorder.records.clear()
        return InterfaceChain.of(self.tables).chain.log_partition()


def _source(name: Hashable, model: Any) -> Hashable:
    """The variable of a slice that a parent is, in this slice or the one before."""
    late = name not in model.conditionals and isinstance(name, tuple)
    return name[0] if isinstance(name, tuple) and late else name


def _plain(place: Hashable) -> tuple[Hashable, ...]:
    """The variable of an initial conditional's place."""
    return (place[1],) if isinstance(place, tuple) and place[0] == "initial" else ()


def _spread(table: Any, name: Hashable) -> float | None:
    """How much a table differs along a variable, of this step or the one before."""
    found = None
    for axis, own in enumerate(table.names):
        if own in (name, (name, -1)) and table.log_values.numel():
            x = table.log_values.detach().movedim(len(table.batch_shape) + axis, -1)
            gap = float((x.amax(-1) - x.amin(-1)).nan_to_num(nan=0.0).amax())
            found = gap if found is None else max(found, gap)
    return found
