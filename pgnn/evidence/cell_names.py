"""Columns of a frame that hold the elements of an array under their own names."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from pgnn.factors.variable import Variable


class CellNames:
    """Names of the elements of a model's array.

    Args:
        array: The array.
        names: Names of its elements in order; empty if they have none, then the columns of a frame,
            one for each element, are used in their order.

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
        """Return findings keyed by the names of variables and elements.

        Args:
            findings: Names and values.
            in_rows: Whether they are columns of a frame, which may have unknown names beside those
                of other variables.
            is_variable: Returns whether a name is that of a variable or an element.
        """
        columns = dict(findings)
        found = self.among(columns, is_variable)
        if not in_rows or len(columns) < len(findings) or not self.are_all(found):
            return [(self.place(n), x) for n, x in findings]
        rows = self.rows(found)
        cells = self.renamed(found) if rows is None else {self.array.name: rows}
        return [*cells.items(), *((n, x) for n, x in findings if n not in found)]

    def places(
        self, names: Sequence[Hashable], is_variable: Callable[[Hashable], bool]
    ) -> dict[Hashable, Hashable]:
        """Return the variable or element that each column of a frame belongs to.

        Args:
            names: Names of the columns.
            is_variable: See :meth:`arranged`.
        """
        found = self.among(dict.fromkeys(names), is_variable)
        places = self._places or (self._in_order([*found]) if self.are_all(found) else {})
        return {n: places.get(n, n) for n in names}

    def among(
        self, columns: Mapping[Hashable, Any], is_variable: Callable[[Hashable], bool]
    ) -> dict[Hashable, Any]:
        """Return the columns that may be elements: known names of them, or of nothing else.

        Columns that spell all elements (``"('x', 1, 0)"``) come in the order of the elements.
        """
        found = {n: x for n, x in columns.items() if n in self._places or not is_variable(n)}
        spelled = {str(e.name): None for e in self.array.elements()} if self._spells(found) else {}
        return {n: found[n] for n in spelled} if found.keys() == spelled.keys() else found

    def hint(self, columns: Iterable[Hashable], is_variable: Callable[[Hashable], bool]) -> str:
        """Return what a frame of other columns should be; empty if it is not one of elements.

        Args:
            columns: Names of all columns.
            is_variable: See :meth:`arranged`.
        """
        own_name, columns = self.array.name, [*columns]
        if any(n == own_name or (isinstance(n, tuple) and n[:1] == (own_name,)) for n in columns):
            return ""  # the array is there, and the others are something else
        others = [n for n in columns if n not in self._places and not is_variable(n)]
        number, size = len(others), self.array.num_elements
        if self.names or number < 2 or size < 2 or number == size:
            return ""
        return (
            f"; {self.array.name!r} has {size} elements, and a frame has a column for each of "
            f"them, but this one has {number}"
        )

    def place(self, name: Hashable) -> Hashable:
        """Return the element with a given name; the name itself if there is none."""
        return self._places.get(name, name)

    def are_all(self, columns: Iterable[Hashable]) -> bool:
        """Whether columns are exactly the elements of the array.

        Args:
            columns: Names, none of them that of a variable if the elements have no names.
        """
        found = [*columns]
        if len(found) != self.array.num_elements or len({*found}) < len(found):
            return False
        if not self.names:  # a single column of any name is more likely a mistake
            return len(found) > 1
        return all(n in self._places for n in found)

    def renamed(self, columns: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return all values of the array by the names of its elements."""
        places = self._places or self._in_order([*columns])
        return {places[n]: x for n, x in columns.items()}

    def rows(self, columns: Mapping[Hashable, Any]) -> Any:
        """Return all values as ``(N, *shape)``; None if a column is not numeric."""
        parts = [np.asarray(columns[n]) for n in self.names or columns]
        if not parts or any(x.ndim != 1 or x.dtype.kind not in "biuf" for x in parts):
            return None
        rows = np.stack(parts, axis=1).reshape(-1, *self.array.shape)
        return rows if self.array.is_discrete else rows.astype(np.float64)

    def _spells(self, columns: Mapping[Hashable, Any]) -> bool:
        """Whether columns may be the elements of the array, spelled."""
        if self.names or len(columns) != self.array.num_elements:
            return False
        return all(isinstance(n, str) and n.startswith("(") for n in columns)

    def _in_order(self, names: Sequence[Hashable]) -> dict[Hashable, Hashable]:
        name, shape = self.array.name, self.array.shape
        if not shape:
            return dict.fromkeys(names, name)
        places = np.ndindex(*map(int, shape))
        return {n: (name, *place) for n, place in zip(names, places, strict=False)}
