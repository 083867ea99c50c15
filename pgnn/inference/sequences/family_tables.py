"""The tables of slices as expected counts need them."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from functools import cached_property

from pgnn.factors.conditional import Conditional
from pgnn.factors.factor import Factor
from pgnn.inference.sequences.slice_tables import SliceTables


@dataclass(frozen=True, eq=False)
class FamilyTables(SliceTables):
    """Tables of slices in which what was seen of a leaf is put in at once.

    A discrete variable on which nothing depends is treated as a real one is: where it was seen its
    table is that of its parents alone, where it was not it says nothing, and counts nothing.
    """

    @cached_property
    def leaves(self) -> set[Hashable]:
        """Discrete variables that were seen somewhere, with discrete parents and no children."""
        model = self.model
        families = {n: (c, model.first(n)) for n, c in model.conditionals.items()}
        inner = {v.name for pair in families.values() for c in pair for v in c.parents}
        return {
            n
            for n, pair in families.items()
            if n in self.seen.codes
            and n not in inner
            and (n, -1) not in inner
            and n not in self.probes
            and all(v.is_discrete for c in pair for v in c.parents)
        }

    def unary(self, name: Hashable, span: slice) -> Factor | None:
        """See :meth:`SliceTables.unary`; nothing of a leaf, whose table has it."""
        return None if name in self.leaves else super().unary(name, span)

    def _discrete(self, own: Conditional, span: slice) -> Factor:
        name = own.child.name
        if name not in self.leaves:
            return super()._discrete(own, span)
        codes = self.seen.codes[name][:, span]
        there = self._inside(span) & (codes >= 0)
        rest = self._covariates(own, span) or {}
        at = there.flatten()
        table = own.factor({name: codes[there]}, {n: c[at] for n, c in rest.items()} or None)
        if len(table.log_values) == len(at):
            return table
        full = table.log_values.new_zeros(at.shape[0], *table.log_values.shape[1:])
        return Factor(table.variables, full.index_put((at,), table.log_values))
