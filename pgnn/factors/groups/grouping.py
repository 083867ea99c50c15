"""Factors gathered into groups of one shape, and groups of one kind joined."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Hashable, Iterable, Sequence
from typing import Any

import numpy as np
import torch

from pgnn.factors.elements import Elements
from pgnn.factors.factor import Factor
from pgnn.factors.groups.factor_group import FactorGroup, TableGroup

_SHARED = 8
"""So many factors with the very same table are a group of their own."""


class Grouping:
    """The assignment of factors over single elements to groups of one shape.

    Factors that share one tensor share one table of a group.

    Args:
        factors: The factors; groups are in the order in which their shapes appear.
        elements: Their variables, as elements.
    """

    def __init__(self, factors: Sequence[Factor], elements: Elements) -> None:
        number = {v.name: k for k, v in enumerate(elements.singles)}
        times = Counter(id(f.log_values) for f in factors)
        scopes: dict[Hashable, list[list[int]]] = {}
        members: dict[Hashable, list[int]] = {}
        for k, f in enumerate(factors):
            table = id(f.log_values)
            child = None if f.child is None else f.names.index(f.child)
            key = (_shape(f), f.batch_shape, f.log_values.dtype, child,
                   table if times[table] >= _SHARED else None)  # fmt: skip
            scopes.setdefault(key, []).append([number[n] for n in f.names])
            members.setdefault(key, []).append(k)
        self._known = [(f.variables, f.child, f.log_values.dtype, f.log_values.dim())
                       for f in factors]  # fmt: skip
        self._groups = [
            (np.array(s, dtype=np.int64).reshape(len(s), -1), members[key], *key[1:])  # type: ignore[index]
            for key, s in scopes.items()
        ]

    def fits(self, factors: Sequence[Factor]) -> bool:
        """Whether factors differ from these in their values only."""
        if len(factors) != len(self._known):
            return False
        for f, (variables, child, dtype, axes) in zip(factors, self._known, strict=True):
            table = f.log_values
            if f.variables is not variables or f.child != child:
                return False
            if table.dtype != dtype or table.dim() != axes:
                return False
        return all(
            factors[k].log_values is factors[members[0]].log_values
            for _, members, _, _, _, shared in self._groups
            if shared
            for k in members
        )

    def groups(self, factors: Sequence[Factor]) -> tuple[FactorGroup, ...]:
        """Return the groups of factors that fit."""
        groups = []
        for scopes, members, batch, _, child, shared in self._groups:
            tables = [factors[k].log_values for k in (members[:1] if shared else members)]
            groups.append(TableGroup(scopes, torch.stack(tables, dim=1 if batch else 0), child))
        return tuple(groups)


def grouped(
    factors: Iterable[Factor], elements: Elements, known: deque[Grouping] | None = None
) -> tuple[FactorGroup, ...]:
    """Gather factors over single elements into groups of one shape, in order of appearance.

    Args:
        factors: Tables over single elements.
        elements: Elements of their variables.
        known: Cache of earlier groupings; it is extended.
    """
    each = tuple(factors)
    grouping = next((g for g in known or () if g.fits(each)), None)
    if grouping is None:
        grouping = Grouping(each, elements)
        if known is not None:
            known.append(grouping)
    return grouping.groups(each)


def _shape(f: Factor) -> tuple[int, ...]:
    return tuple(v.num_states for v in f.variables)


def merged(groups: Sequence[FactorGroup]) -> tuple[FactorGroup, ...]:
    """Merge groups of one kind, shape and type; groups with shared parameters stay unchanged.

    Args:
        groups: Of any potentials; the order of the first ones is kept.
    """
    by_key: dict[Any, list[FactorGroup]] = {}
    for k, g in enumerate(groups):
        separate = g.num_factors == 1 or not g.shared
        by_key.setdefault(g.merge_key if separate else k, []).append(g)
    return tuple(_joined(held) if len(held) > 1 else held[0] for held in by_key.values())


def _joined(groups: Sequence[FactorGroup]) -> FactorGroup:
    numbers = torch.cat([g.numbers for g in groups], dim=len(groups[0].batch_shape))
    return groups[0].with_numbers(numbers, np.concatenate([g.scopes for g in groups]))
