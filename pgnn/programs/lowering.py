"""The tables of a program as factors, one for each cell of each site."""

from __future__ import annotations

import itertools
import math
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pgnn.factors.elements import Elements
from pgnn.factors.factor import Factor
from pgnn.factors.groups.factor_group import FactorGroup, TableGroup
from pgnn.factors.variable import Variable
from pgnn.programs.enumeration import SiteTable
from pgnn.programs.sites import Kind, Site

Ints = NDArray[np.int64]
Over = tuple[Variable, ...]


class Lowering:
    """Converts tables of sites into factors over elements.

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
        self._schemes: dict[Hashable, list[_Part]] = {}
        self._known: WeakKeyDictionary[Any, list[_Part]] = WeakKeyDictionary()

    def groups(self, tables: Mapping[str, SiteTable]) -> tuple[FactorGroup, ...]:
        """Return groups of factors that share a table or a table shape."""
        pattern = getattr(tables, "pattern", None)
        if pattern is not None:
            scheme = self._known.get(pattern)
            if scheme is None:
                scheme = self._known[pattern] = self._grouped(tables)
            return tuple(part.group(tables, self) for part in scheme)
        key, shared = [], dict[int, int]()
        for name, table in tables.items():
            x = table.log_values
            shown = shared.setdefault(id(x), len(shared))
            states = x.shape[x.dim() - len(table.scope) :]
            key.append((name, table.scope, table.shared, x.dim(), states, x.dtype, shown))
        scheme = self._schemes.get(tuple(key))
        if scheme is None:
            scheme = self._schemes[tuple(key)] = self._grouped(tables)
        return tuple(part.group(tables, self) for part in scheme)

    def _grouped(self, tables: Mapping[str, SiteTable]) -> list[_Part]:
        """Partition the sites by group."""
        groups: dict[Hashable, list[str]] = {}
        same: dict[Hashable, list[str]] = {}
        for name, table in tables.items():
            same.setdefault((id(table.log_values), self._child(name)), []).append(name)
        for name, table in tables.items():
            x, child = table.log_values, self._child(name)
            if self.sites[name].axes:
                key: Hashable = name
            elif len(same[id(x), child]) > 1:
                key = (id(x), self._widths(table), child)
            else:
                key = (tuple(x.shape), x.dtype, self._widths(table), child)
            groups.setdefault(key, []).append(name)
        return [self._part(names, tables) for names in groups.values()]

    def _widths(self, table: SiteTable) -> tuple[int, ...]:
        """Return the number of elements of each site in the scope of a table."""
        return tuple(math.prod(self.sites[n].elements) for n in table.scope)

    def _part(self, names: list[str], tables: Mapping[str, SiteTable]) -> _Part:
        scopes = np.concatenate([self._scope(n, tables[n].scope) for n in names])
        shared = len({id(tables[n].log_values) for n in names}) == 1
        return _Part(tuple(names), scopes, self._child(names[0]), shared)

    def _child(self, name: str) -> bool:
        """Whether the rows of the table of a site sum to one over its last variable."""
        site = self.sites[name]
        return site.kind is Kind.DISCRETE and not site.weighted and not site.elements

    def factors(self, tables: Mapping[str, SiteTable]) -> Iterable[Factor]:
        """Yield a factor for each cell of each site."""
        for name, table in tables.items():
            variables, child = self._over(name, table.scope)
            if not self.sites[name].axes:  # preserve shared tensors
                yield _factor(variables[0], self.of_elements(table, table.log_values), child[0])
                continue
            values = self.flat(name, table)
            cells = values.unbind(values.dim() - len(variables[0]) - 1)
            if len(cells) == 1:
                cells = tuple(itertools.repeat(cells[0], len(variables)))
            yield from map(_factor, variables, cells, child)

    def _over(self, name: str, scope: tuple[str, ...]) -> tuple[list[Over], list[Hashable]]:
        """Return the variables and the child of the factor of each cell of a site."""
        cached = self._variables.get(name)
        if cached is None or cached[0] != scope:
            singles = self.elements.singles
            over = [tuple(singles[e] for e in row) for row in self._scope(name, scope).tolist()]
            normal = self._child(name)
            cached = (scope, over, [v[-1].name if normal else None for v in over])
            self._variables[name] = cached
        return cached[1], cached[2]

    def _scope(self, name: str, scope: tuple[str, ...]) -> Ints:
        """Return ``(F, n)`` scopes of the cells of a site."""
        elements = self._scopes.get((name, scope))
        if elements is None:
            site = self.sites[name]
            columns = [self._numbers(site, self.sites[n]) for n in scope]
            cells = int(np.prod(site.sizes, dtype=np.int64))
            elements = np.concatenate([np.zeros((cells, 0), np.int64), *columns], axis=1)
            self._scopes[name, scope] = elements
        return elements

    def _numbers(self, site: Site, parent: Site) -> Ints:
        """Return ``(F, n)`` elements of a parent on which the cells of a site depend."""
        elements = self.elements.numbers(self.names[parent.name])
        shape = [a.size if a in parent.axes else 1 for a in site.axes]
        each = math.prod(parent.elements)
        return np.broadcast_to(elements.reshape([*shape, each]), [*site.sizes, each]).reshape(
            -1, each
        )

    def flat(self, name: str, table: SiteTable) -> Tensor:
        """Return the table as ``(*rows, F or 1, K1, ..., Kn)``."""
        site, values = self.sites[name], table.log_values
        count = len(site.axes)
        rows = values.dim() - count - len(table.scope)
        lead, states = values.shape[:rows], values.shape[rows + count :]
        if not table.shared:
            values = values.expand([*lead, *site.sizes, *states])
        cells = 1 if table.shared else math.prod(site.sizes)
        return self.of_elements(table, values.reshape([*lead, cells, *states]))

    def of_elements(self, table: SiteTable, values: Tensor) -> Tensor:
        """Reshape values to one axis per element, for sites of several elements."""
        if not any(self.sites[n].elements for n in table.scope):
            return values
        states: list[int] = []
        for name in table.scope:
            site = self.sites[name]
            states += [site.num_element_states] * math.prod(site.elements)
        return values.reshape([*values.shape[: values.dim() - len(table.scope)], *states])


@dataclass(frozen=True, eq=False)
class _Part:
    """Sites whose tables form one group.

    Attributes:
        names: Names of the sites.
        scopes: ``(F, n)`` scopes of the cells, as elements.
        child: Whether the rows of the tables sum to one over the last variable.
        shared: Whether all sites share one tensor.
    """

    names: tuple[str, ...]
    scopes: Ints
    child: bool
    shared: bool

    def group(self, tables: Mapping[str, SiteTable], lowering: Lowering) -> FactorGroup:
        """Return the group with the values of the given tables."""
        first = tables[self.names[0]]
        if self.shared:
            values = lowering.flat(self.names[0], first)
        else:
            each = [tables[n].log_values for n in self.names]
            values = torch.stack(each, dim=each[0].dim() - len(first.scope))
            values = lowering.of_elements(first, values)
        return TableGroup(self.scopes, values, self.scopes.shape[1] - 1 if self.child else None)


def _factor(variables: Over, table: Tensor, child: Hashable) -> Factor:
    """Create a factor without validation, which would be slow for many factors."""
    factor = Factor.__new__(Factor)
    factor.variables, factor.log_values, factor.child = variables, table, child
    return factor


def masked(
    tables: Mapping[str, SiteTable], unobserved: Mapping[str, Tensor]
) -> Mapping[str, SiteTable]:
    """Return tables with zeros at unobserved real cells, which integrate to one.

    Args:
        tables: Tables of all sites, with a first axis of rows.
        unobserved: ``(B, *sizes)`` masks of the unobserved cells, by site.
    """
    if not unobserved:
        return tables
    result = dict(tables)
    for name, cells in unobserved.items():
        t = tables[name]
        mask = cells.to(t.log_values.device)
        mask = mask.reshape([*mask.shape, *[1] * (t.log_values.dim() - mask.dim())])
        zero = torch.zeros_like(t.log_values)
        result[name] = SiteTable(t.scope, torch.where(mask, zero, t.log_values), False)
    return result


def conditioned(
    factor: Factor, codes: Mapping[Hashable, Tensor], variables: Mapping[Hashable, Variable]
) -> Factor:
    """Return a factor at the observed states of some of its variables."""
    observed: dict[Hashable, Tensor] = {}
    for v in factor.variables:
        if v.name in codes and v.name in variables:
            observed[v.name] = codes[v.name]
        elif isinstance(v.name, tuple) and v.name[0] in codes and v.name not in variables:
            observed[v.name] = codes[v.name[0]][(slice(None), *v.name[1:])]
    if not observed:
        return factor
    child = None if factor.child in observed else factor.child
    reduced = factor.condition(observed)
    return Factor(reduced.variables, reduced.log_values, child)
