r"""Variable elimination on log tables by torch, and the backward pass that chooses states.

The tables that contain a variable are multiplied and reduced over it; the last result is the
answer, and a pass in reverse order chooses states. All exact torch computations use this: sums,
maxima and samples for rows of evidence, whole plates, and the variables of a time slice for all
sequences and steps at once.

References:
    Dechter (1999), Bucket elimination: a unifying framework for reasoning, sections 4-6.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from pgnn.inference.semiring import Reduction, contract

Choose = Callable[[int, Tensor], Tensor]
"""Maps the number of a step and ``(K, N)`` log weights to ``(N,)`` states."""


class Table(NamedTuple):
    """A log table over some variables.

    The batch is last and the variable to be eliminated next is first, so that every reduction is
    over the outermost axis, on contiguous memory whatever the state counts.

    Attributes:
        scope: The variables.
        values: ``(K1, ..., Kn, *batch)`` logs; a batch axis along which values are shared has
            length one, and the batch is omitted if all of it shares them.
    """

    scope: tuple[Any, ...]
    values: Tensor

    @property
    def batch(self) -> torch.Size:
        """The lengths of the batch axes."""
        return self.values.shape[len(self.scope) :]


class Step(NamedTuple):
    """A variable and the reduction that eliminates it."""

    variable: Hashable
    reduction: Reduction


@dataclass(frozen=True, eq=False)
class Elimination:
    """The result of an elimination, with the tables that contained each variable.

    Attributes:
        steps: The eliminated variables, in order.
        buckets: For each step the tables that were multiplied, with the variable first.
        left: Tables over the remaining variables, and scalar tables.
    """

    steps: tuple[Step, ...]
    buckets: tuple[tuple[Table, ...], ...]
    left: tuple[Table, ...]

    @classmethod
    def of(
        cls,
        tables: Iterable[Table],
        steps: Sequence[Step],
        ones: Callable[[Hashable], Table] | None = None,
        rows: int | None = None,
    ) -> Elimination:
        """Eliminate variables.

        Args:
            tables: The tables, with axes in any order.
            steps: The variables to eliminate, with their reductions.
            ones: Creates the table of a variable that is in no table.
            rows: Length of the batch, for reductions that differ by row.
        """
        place = {step.variable: k for k, step in enumerate(steps)}
        waiting: list[list[Table]] = [[] for _ in steps]
        left: list[Table] = []

        def put(table: Table) -> None:
            first = place.get(table.scope[0]) if table.scope else None
            (left if first is None else waiting[first]).append(table)

        for table in tables:
            put(_sorted(table, place))
        for step, bucket in zip(steps, waiting, strict=True):
            if not bucket and ones is not None:
                bucket.append(ones(step.variable))
            put(product_without(bucket, place, step.reduction, rows))
        return cls(tuple(steps), tuple(map(tuple, waiting)), tuple(left))

    def walk_back(
        self,
        states: Mapping[Hashable, Tensor],
        rows: Tensor,
        choose: Choose,
        first: int = 0,
    ) -> dict[Hashable, Tensor]:
        """Choose states from the last step to the first, each given the later ones.

        Args:
            states: ``(N,)`` states of the remaining variables, and of others where known; -1
                elsewhere.
            rows: ``(N,)`` the row of the batch that each entry belongs to.
            choose: The function that chooses a state.
            first: The step at which to stop.

        Returns:
            All states, including the known ones.
        """
        chosen_states = dict(states)
        for k in range(len(self.steps) - 1, first - 1, -1):
            variable = self.steps[k].variable
            logs: Tensor | None = None
            for table in self.buckets[k]:
                logs_of_table = _at_states(table, chosen_states, rows)
                logs = logs_of_table if logs is None else logs + logs_of_table
            assert logs is not None
            chosen = choose(k, logs.expand(-1, len(rows)))
            known = chosen_states.get(variable)
            chosen_states[variable] = (
                chosen if known is None else torch.where(known >= 0, known, chosen)
            )
        return chosen_states


def product_without(
    tables: Sequence[Table],
    place: Mapping[Hashable, int],
    reduction: Reduction,
    rows: int | None = None,
) -> Table:
    """Multiply tables and reduce over their common first variable.

    Args:
        tables: At least one.
        place: Position of variables in the order of axes; unnamed variables come last.
        reduction: The reduction over the first variable.
        rows: Length of the batch, for reductions that differ by row.
    """
    union = dict.fromkeys(v for t in tables for v in t.scope)
    scope = tuple(sorted(union, key=lambda v: place.get(v, len(place))))
    batch = max(len(t.batch) for t in tables)
    views = [aligned(t, scope, batch) for t in tables]
    if reduction.rowwise and rows is not None:
        views = [v.expand([*v.shape[:-1], rows]) for v in views]
    return Table(scope[1:], contract(views, reduction, 0))


def _sorted(table: Table, place: Mapping[Hashable, int]) -> Table:
    """Return the table with its axes sorted by elimination position."""
    rank, axes = len(table.scope), range(len(table.scope))
    order = sorted(axes, key=lambda k: place.get(table.scope[k], len(place)))
    if order == [*axes]:
        return table
    values = table.values.permute(*order, *range(rank, table.values.dim()))
    return Table(tuple(table.scope[k] for k in order), values)


def aligned(table: Table, scope: Sequence[Hashable], batch: int) -> Tensor:
    """Return a view with an axis for each variable of a scope, of length one if it is absent.

    Args:
        table: A table over some of the variables.
        scope: The order of the axes.
        batch: Number of batch axes.
    """
    table_scope, values = table
    rank, places = len(table_scope), [scope.index(v) for v in table_scope]
    if sorted(places) != places:
        order = sorted(range(rank), key=places.__getitem__)
        values = values.permute(*order, *range(rank, values.dim()))
        places.sort()
    shape = [1] * len(scope)
    for k, place in enumerate(places):
        shape[place] = values.shape[k]
    rest = values.shape[rank:]
    return values.reshape([*shape, *[1] * (batch - len(rest)), *rest])


def _at_states(table: Table, states: Mapping[Hashable, Tensor], rows: Tensor) -> Tensor:
    """The slice of a table at the chosen states of all but its first variable, ``(K, 1 or N)``."""
    (_, *others), values = table
    wide = bool(table.batch) and values.shape[-1] != 1
    if not others and not wide:
        return values.reshape(len(values), 1)
    index = torch.zeros_like(rows)
    for k, v in enumerate(others):
        index = index * values.shape[k + 1] + states[v].clamp_min(0)
    if wide:
        index = index * values.shape[-1] + rows
    return values.flatten(1).index_select(1, index)
