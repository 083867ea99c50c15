"""Summing out whole arrays of conditionally independent variables (plates) at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from pgnn.factors.groups.factor_group import FactorGroup, TableGroup
from pgnn.factors.variable import Variable
from pgnn.inference.exact.torch_elimination import Table, product_without
from pgnn.inference.factor_graph import FactorGraph
from pgnn.inference.graph_structure import GraphStructure
from pgnn.inference.semiring import SUM

Ints = NDArray[np.int64]
Mask = NDArray[np.bool_]

_MANY = 16
"""So many variables at least; a few are summed out quicker by the kernel."""
_LARGEST = 2**10
"""Most entries of one table on the way."""


class PlateFactors(NamedTuple):
    """A group of factors over the variables of an array, one factor for each variable.

    Attributes:
        group: Index of the group in the list of groups.
        order: ``(N,)`` the group's factor for each variable.
        axes: Position of each of its axes among those of the product.
    """

    group: int
    order: Ints
    axes: tuple[int, ...]


class PlateStep(NamedTuple):
    """The elimination of one array.

    Attributes:
        parts: The factors of the product; a group at the end of the list replaces their groups.
        scopes: ``(N, n)`` scopes of the result.
    """

    parts: tuple[PlateFactors, ...]
    scopes: Ints


@dataclass(frozen=True, eq=False)
class PlateElimination:
    r"""Sums over arrays of variables by a few torch operations, whatever their length.

    If each of the variables :math:`z_1, \dots, z_N` is in one factor of each of some groups,

    .. math:: \sum_{z_i} \prod_g \phi_g(z_i, x_{s_{gi}})

    is one operation on the groups' arrays for all :math:`i`, so that the size of a plate hardly
    matters. It is differentiable like any torch operation.

    Attributes:
        steps: The steps, in order.
        kept: ``(V',)`` indices of the remaining variables.
        variables: The remaining variables.
        left: The remaining groups, and their scopes in the new indices.

    References:
        Obermeyer et al. (2019), Tensor variable elimination for plated factor graphs.
    """

    steps: tuple[PlateStep, ...]
    kept: Ints
    variables: tuple[Variable, ...]
    left: tuple[tuple[int, Ints], ...]
    _known: list[GraphStructure] = field(default_factory=list)

    @classmethod
    def find(cls, graph: FactorGraph, free: Mask) -> PlateElimination:
        """Find arrays that can be summed out.

        Args:
            graph: The factor graph; only its structure is used.
            free: ``(V,)`` variables that no row observes.

        Cost: One pass over all scopes of each group.
        """
        scopes: list[Ints | None] = [g.scopes for g in graph.groups]
        gone, steps = np.zeros(len(free), dtype=np.bool_), []
        k = 0
        while k < len(scopes):
            step = None
            for axis in range(0 if scopes[k] is None else scopes[k].shape[1]):  # type: ignore[union-attr]
                step = _step(scopes, k, axis, free, graph.card)
                if step is not None:
                    gone[scopes[k][:, axis]] = True  # type: ignore[index]
                    break
            if step is None:
                k += 1
                continue
            steps.append(step)
            for part in step.parts:
                scopes[part.group] = None
            scopes.append(step.scopes)
        kept = np.flatnonzero(~gone)
        place = np.cumsum(~gone) - 1
        left = [(g, place[s]) for g, s in enumerate(scopes) if s is not None and s.shape[1]]
        return cls(tuple(steps), kept, tuple(graph.variables[v] for v in kept), tuple(left))

    def __call__(self, graph: FactorGraph) -> FactorGraph:
        """Return the graph with these variables summed out."""
        groups = [*graph.groups]
        for step in self.steps:
            groups.append(_summed(groups, step))
        summed = [groups[-k - 1] for k in range(len(self.steps))]
        constants = [g.product() for g in (*summed, *graph.groups) if not g.arity]
        left = [TableGroup(s, groups[g].log_values, groups[g].child) for g, s in self.left]
        reduced = FactorGraph(self.variables, (*left, *constants))
        if not reduced.adopt_structure(self._known):
            self._known[:] = [reduced.structure]
        return reduced


def _step(
    scopes: Sequence[Ints | None], k: int, axis: int, free: Mask, card: Ints
) -> PlateStep | None:
    """Return the step that sums out the variables on an axis of a group, if possible."""
    scope_of_group = scopes[k]
    assert scope_of_group is not None
    chosen = scope_of_group[:, axis]
    if len(chosen) < _MANY or not free[chosen].all() or len(np.unique(chosen)) < len(chosen):
        return None
    place = np.full(len(free), -1, dtype=np.int64)
    place[chosen] = np.arange(len(chosen))
    inside = place >= 0
    columns: list[Ints] = []  # axes of the product, that of the array's own variable last
    members: list[tuple[int, Ints, list[int]]] = []
    for g, scope in enumerate(scopes):
        if scope is None or not inside[scope].any():
            continue
        complete: Mask = np.asarray(inside[scope].all(axis=0))
        if complete.sum() != 1 or inside[scope].sum() != len(scope) or len(scope) != len(chosen):
            return None
        order = np.argsort(place[scope[:, int(complete.argmax())]])
        if not np.array_equal(scope[order, int(complete.argmax())], chosen):
            return None  # a variable is in two factors of the group
        axes = []
        for j in range(scope.shape[1]):
            if complete[j]:
                axes.append(-1)
                continue
            column = scope[order, j]
            same = [i for i, c in enumerate(columns) if np.array_equal(c, column)]
            if not same and any((c == column).any() for c in columns):
                return None  # the same variable for some factors, another one for others
            axes.append(same[0] if same else len(columns))
            if not same:
                columns.append(column)
        members.append((g, order, axes))
    entries = card[chosen[0]] * np.prod([card[c[0]] for c in columns])
    if entries > _LARGEST:
        return None
    last = len(columns)
    parts = [
        PlateFactors(g, o, tuple(last if a < 0 else a for a in axes)) for g, o, axes in members
    ]
    empty = np.zeros((len(chosen), 0), dtype=np.int64)
    return PlateStep(tuple(parts), np.stack(columns, axis=1) if columns else empty)


def _summed(groups: Sequence[FactorGroup], step: PlateStep) -> FactorGroup:
    columns = step.scopes.shape[1]
    # the axis of the array's own variable first
    place = {columns: 0, **{k: k + 1 for k in range(columns)}}
    product = product_without([_table(groups[part.group], part) for part in step.parts], place, SUM)
    axes = range(product.values.dim())
    return TableGroup(step.scopes, product.values.permute([*axes[columns:], *axes[:columns]]))


def _table(group: FactorGroup, part: PlateFactors) -> Table:
    """Return the tables of a group, with the variables of the array along the batch axis."""
    values, batch = group.log_values, len(group.batch_shape)
    if values.shape[batch] > 1 and (np.diff(part.order) != 1).any():
        values = values.index_select(batch, torch.from_numpy(part.order).to(values.device))
    axes = range(values.dim())
    return Table(part.axes, values.permute([*axes[batch + 1 :], *axes[: batch + 1]]))
