"""The tables of slices as sums over what is hidden need them."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from pgnn.factors.conditionals.conditional import Conditional
from pgnn.factors.factor import Factor
from pgnn.inference.time.slice_tables import SliceTables


@dataclass(frozen=True, eq=False)
class FamilyTables(SliceTables):
    """Tables of slices in which what was seen of a leaf is put in at once.

    A discrete variable on which nothing depends is treated as a real one is: where it was seen its
    table is that of its parents alone, where it was not it says nothing, and counts nothing.
    """

    @cached_property
    def leaves(self) -> set[Hashable]:
        """Discrete variables that were seen somewhere, with discrete parents and no children."""
        model, seen = self.model, self.seen
        families = {n: (c, model.first(n)) for n, c in model.conditionals.items()}
        inner = {v.name for pair in families.values() for c in pair for v in c.parents}
        known = {n for n in seen.codes if n not in seen.soft and n not in self.probes}
        return {
            n
            for n, pair in families.items()
            if n in known
            and n not in inner
            and (n, -1) not in inner
            and all(v.is_discrete for c in pair for v in c.parents)
        }

    def unary(self, name: Hashable, span: slice) -> Factor | None:
        """See :meth:`SliceTables.unary`; nothing of a leaf, whose table has it."""
        return None if name in self.leaves else super().unary(name, span)

    def _discrete(self, own: Conditional, span: slice) -> Factor:
        name = own.child.name
        if name not in self.leaves:
            return super()._discrete(own, span)
        if not own.inputs:
            return self._read(own.factor(), name, span)
        there = (self._once(name, span, self._rows) < own.child.num_states).nonzero()[:, 0]
        codes, rest = self.seen.codes[name][:, span].flatten(), self._covariates(own, span) or {}
        table = own.factor({name: codes[there]}, {n: c[there] for n, c in rest.items()} or None)
        full = table.log_values.new_zeros(len(codes), *table.log_values.shape[1:])
        return Factor(table.variables, full.index_put((there,), table.log_values))

    def _read(self, table: Factor, name: Hashable, span: slice) -> Factor:
        """The table at the states that were seen; zeros, as logs, where none was."""
        axis = table.names.index(name)
        rows = table.log_values.movedim(axis, 0)
        rows = torch.cat([rows, rows.new_zeros(1, *rows.shape[1:])])
        rest = [v for v in table.variables if v.name != name]
        return Factor(rest, rows.index_select(0, self._once(name, span, self._rows)))

    def _rows(self, name: Hashable, span: slice) -> Tensor:
        """``(N,)`` states that were seen, one past the last where there is none."""
        codes = self.seen.codes[name][:, span]
        there = self._inside(span) & (codes >= 0)
        return codes.masked_fill(~there, self.variable(name).num_states).flatten()
