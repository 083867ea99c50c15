"""Probability tables in data frames and series of pandas, read by their labels."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

from pgnn.errors import ModelError
from pgnn.factors.cells import is_unlabelled
from pgnn.factors.variable import Variable


def by_labels(child: Variable, parents: Sequence[Variable], table: Any) -> Any:
    """Return a data frame or series as a mapping or an array; other tables unchanged.

    Rows of a frame are configurations of the parents, columns are states of the child. A series
    has states of the child as its index, after those of the parents if there are any. Where rows
    or columns have no labels, their order is that of the states.

    Args:
        child: The variable whose distributions these are.
        parents: Its parents.
        table: A table in any form.

    Raises:
        ModelError: If labels are not the states of the variables, or occur twice.
    """
    if hasattr(table, "columns") and hasattr(table, "iterrows"):
        return _frame(child, parents, table)
    if hasattr(table, "index") and hasattr(table, "to_numpy"):
        return _series(child, parents, table)
    return table


def _frame(child: Variable, parents: Sequence[Variable], table: Any) -> Any:
    columns = None if is_unlabelled(table.columns) else _checked(child, table.columns, "columns")
    if not parents and len(table) == 1:
        row = table.iloc[0]
        return row.to_numpy() if columns is None else dict(zip(columns, row, strict=True))
    if is_unlabelled(table.index):
        if columns is None:
            return table.to_numpy()
        return table.to_numpy()[:, [columns.index(s) for s in child.states or ()]]
    if not parents or table.index.nlevels != len(parents):
        raise ModelError(
            f"rows of the table of {child.name!r} must be labelled by the states of its parents "
            f"{[v.name for v in parents]!r}, got the index {[*table.index][:4]!r}",
            "give .to_numpy() for a table in the order of the states",
        )
    if not table.index.is_unique:
        raise ModelError(f"table of {child.name!r} has a duplicate row label")
    rows = zip(table.index, table.to_numpy(), strict=True)
    if columns is None:
        return dict(rows)
    return {key: dict(zip(columns, row, strict=True)) for key, row in rows}


def _series(child: Variable, parents: Sequence[Variable], table: Any) -> Any:
    if is_unlabelled(table.index):
        return table.to_numpy()
    if not table.index.is_unique:
        raise ModelError(f"table of {child.name!r} has a duplicate label")
    if not parents:
        return dict(zip(_checked(child, table.index, "index"), table, strict=True))
    if table.index.nlevels != len(parents) + 1:
        raise ModelError(
            f"a series with the table of {child.name!r} must have an index level for each of "
            f"{[v.name for v in (*parents, child)]!r}, got {table.index.nlevels}"
        )
    rows: dict[Hashable, dict[Hashable, Any]] = {}
    for (*key, state), value in table.items():
        rows.setdefault(key[0] if len(key) == 1 else tuple(key), {})[state] = value
    return rows


def _checked(child: Variable, labels: Any, what: str) -> list[Hashable]:
    """Return labels, which must be the states of the child in some order."""
    names, states = [*labels], [*(child.states or ())]
    if len(names) != len(states) or set(names) != set(states):
        raise ModelError(
            f"{what} of the table of {child.name!r} must be its states {states[:8]!r}, got "
            f"{names[:8]!r}",
            "give .to_numpy() for a table in the order of the states",
        )
    return names
