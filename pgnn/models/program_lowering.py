"""A program's tables as factors: one for each site, or for each cell of its plates."""

from __future__ import annotations

import itertools
import math
from collections.abc import Hashable, Iterable, Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pgnn.factors.elements import Elements
from pgnn.factors.factor import Factor
from pgnn.factors.factor_group import FactorGroup
from pgnn.factors.variable import Variable
from pgnn.models.program_structure import Kind, Site
from pgnn.models.program_tables import SiteTable

Ints = NDArray[np.int64]
Over = tuple[Variable, ...]


class Lowering:
    """Turns tables of sites into factors over elements.

    Args:
        sites: All sites.
        names: The variable of each latent site.
        elements: The elements of the discrete variables.
    """

    def __init__(
        self, sites: Mapping[str, Site], names: Mapping[str, Hashable], elements: Elements
    ) -> None:
        self.sites, self.names, self.elements = sites, names, elements
        self._variables: dict[str, tuple[tuple[str, ...], list[Over], list[Hashable]]] = {}
        self._scopes: dict[tuple[str, tuple[str, ...]], Ints] = {}

    def groups(self, tables: Mapping[str, SiteTable]) -> tuple[FactorGroup, ...]:
        """Return groups of factors; small ones of one shape are joined."""
        found: list[FactorGroup] = []
        single: dict[tuple[object, ...], list[tuple[Ints, Tensor]]] = {}
        for name, table in tables.items():
            scopes, values = self._scope(name, table.scope), self._flat(name, table)
            if len(scopes) != 1:
                found.append(FactorGroup(scopes, values))
                continue
            key = (tuple(values.shape), values.dtype, values.dim() > len(table.scope) + 1)
            single.setdefault(key, []).append((scopes, values))
        for (_, _, rowwise), parts in single.items():
            scopes = np.concatenate([s for s, _ in parts])
            each = [v for _, v in parts]
            joined = each[0] if len(each) == 1 else torch.cat(each, dim=int(bool(rowwise)))
            found.append(FactorGroup(scopes, joined))
        return tuple(found)

    def factors(self, tables: Mapping[str, SiteTable]) -> Iterable[Factor]:
        """Yield a factor for each cell of each site."""
        for name, table in tables.items():
            over, child = self._over(name, table.scope)
            if not self.sites[name].axes:  # tables that are one tensor stay one
                yield _factor(over[0], table.log_values, child[0])
                continue
            values = self._flat(name, table)
            cells = values.unbind(values.dim() - len(table.scope) - 1)
            if len(cells) == 1:
                cells = tuple(itertools.repeat(cells[0], len(over)))
            yield from map(_factor, over, cells, child)

    def _over(self, name: str, scope: tuple[str, ...]) -> tuple[list[Over], list[Hashable]]:
        """Variables of the factors of a site, cell by cell, and their children."""
        found = self._variables.get(name)
        if found is None or found[0] != scope:
            site, singles = self.sites[name], self.elements.singles
            over = [tuple(singles[e] for e in row) for row in self._scope(name, scope).tolist()]
            normal = site.kind is Kind.DISCRETE and not site.weighted
            found = (scope, over, [v[-1].name if normal else None for v in over])
            self._variables[name] = found
        return found[1], found[2]

    def _scope(self, name: str, scope: tuple[str, ...]) -> Ints:
        """``(F, n)`` elements that the cells of a site are over."""
        found = self._scopes.get((name, scope))
        if found is None:
            site = self.sites[name]
            columns = [self._numbers(site, self.sites[n]) for n in scope]
            cells = int(np.prod(site.sizes, dtype=np.int64))
            found = np.stack(columns, axis=-1) if columns else np.zeros((cells, 0), np.int64)
            self._scopes[name, scope] = found
        return found

    def _numbers(self, site: Site, parent: Site) -> Ints:
        """Elements of a parent that the cells of a site depend on, ``(F,)``."""
        own = self.elements.numbers(self.names[parent.name])
        shape = [a.size if a in parent.axes else 1 for a in site.axes]
        return np.broadcast_to(own.reshape(shape), site.sizes).ravel()

    def _flat(self, name: str, table: SiteTable) -> Tensor:
        """``(*rows, F or 1, K1, ..., Kn)`` values."""
        site, values = self.sites[name], table.log_values
        count = len(site.axes)
        rows = values.dim() - count - len(table.scope)
        lead, states = values.shape[:rows], values.shape[rows + count :]
        if not table.shared:
            values = values.expand([*lead, *site.sizes, *states])
        cells = 1 if table.shared else math.prod(site.sizes)
        return values.reshape([*lead, cells, *states])


def _factor(variables: Over, table: Tensor, child: Hashable) -> Factor:
    """A factor whose variables and shape are known to fit: there may be very many."""
    made = Factor.__new__(Factor)
    made.variables, made.log_values, made.child = variables, table, child
    return made


def masked(tables: dict[str, SiteTable], unseen: Mapping[str, Tensor]) -> dict[str, SiteTable]:
    """Return tables that are zero in rows where a real site was not seen: it integrates to one."""
    found = dict(tables)
    for name, rows in unseen.items():
        t = tables[name]
        values = t.log_values
        mask = rows.to(values.device).reshape(-1, *[1] * (values.dim() - 1))
        found[name] = SiteTable(t.scope, values.masked_fill(mask, 0.0), t.shared)
    return found
