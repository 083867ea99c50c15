"""Columns of a frame that are the numbers of an array, by names of their own."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from pgnn.factors.variable import Variable


class CellNames:
    """Names of the numbers of the array that a model is about.

    Args:
        array: The array.
        names: Of its numbers in order; empty where they have none. The columns of a frame, as many
            as there are numbers, are then taken as they come.

    Example:
        >>> cells = CellNames(Variable("x", shape=(2, 2)), ["a", "b", "c", "d"])
        >>> cells.place("c")
        ('x', 1, 0)
    """

    def __init__(self, array: Variable, names: Sequence[Hashable] = ()) -> None:
        self.array, self.names = array, tuple(names)
        self._places = self._in_order(self.names)

    def arranged(
        self, findings: Sequence[tuple[Hashable, Any]], in_rows: bool,
        is_variable: Callable[[Hashable], bool],
    ) -> list[tuple[Hashable, Any]]:  # fmt: skip
        """Return findings by the names of variables and elements.

        Args:
            findings: Names and values.
            in_rows: Whether they are columns of a frame, which may have no names that are known.
            is_variable: Whether a name is that of a variable or an element.
        """
        columns = dict(findings)
        foreign = bool(self.names) or not any(map(is_variable, columns))
        if len(columns) < len(findings) or not (in_rows and foreign and self.are_all(columns)):
            return [(self.place(n), x) for n, x in findings]
        rows = self.rows(columns)
        return [(self.array.name, rows)] if rows is not None else [*self.renamed(columns).items()]

    def place(self, name: Hashable) -> Hashable:
        """Return the element that has a name; the name itself if none has."""
        return self._places.get(name, name)

    def are_all(self, columns: Iterable[Hashable]) -> bool:
        """Whether columns are the numbers of the array, all of them and nothing else.

        Args:
            columns: Names, none of which is that of a variable if the numbers have no names.
        """
        found = [*columns]
        if len(found) != self.array.num_elements or len({*found}) < len(found):
            return False
        return not self.names or all(n in self._places for n in found)

    def renamed(self, columns: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return all numbers of the array by the names of its elements."""
        places = self._places or self._in_order([*columns])
        return {places[n]: x for n, x in columns.items()}

    def rows(self, columns: Mapping[Hashable, Any]) -> Any:
        """Return all numbers as ``(N, *shape)``; None where a column does not hold numbers."""
        parts = [np.asarray(columns[n]) for n in self.names or columns]
        if not parts or any(x.ndim != 1 or x.dtype.kind not in "biuf" for x in parts):
            return None
        rows = np.stack(parts, axis=1).reshape(-1, *self.array.shape)
        return rows if self.array.is_discrete else rows.astype(np.float64)

    def _in_order(self, names: Sequence[Hashable]) -> dict[Hashable, Hashable]:
        name, shape = self.array.name, self.array.shape
        if not shape:
            return dict.fromkeys(names, name)
        places = np.ndindex(*map(int, shape))
        return {n: (name, *place) for n, place in zip(names, places, strict=False)}
