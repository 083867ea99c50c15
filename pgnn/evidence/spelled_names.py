"""Names of variables and of elements of arrays, as files and command lines write them."""

from __future__ import annotations

import ast
from collections.abc import Hashable, Mapping
from typing import Any

from pgnn.errors import closest
from pgnn.factors.variable import Variable


class SpelledNames:
    """What a text names: a variable, or an element of an array.

    A file has texts where a model may have numbers and tuples: ``"3"`` is the variable ``3``, and
    ``"('y', 0, 1)"`` the element ``("y", 0, 1)`` of the array ``"y"``, as ``str`` writes them.

    Args:
        variables: Those of a model, by name.

    Example:
        >>> names = SpelledNames({"y": Variable("y", 2, shape=(2, 2)), 3: Variable(3, 2)})
        >>> names.find("('y', 0, 1)"), names.find("3"), names.find("z")
        (Variable(('y', 0, 1), [0, 1]), Variable(3, [0, 1]), None)
        >>> names.of("('y', 0, 1)"), names.of("z")
        (('y', 0, 1), 'z')
    """

    def __init__(self, variables: Mapping[Hashable, Variable]) -> None:
        self.variables = variables
        self._by_text: dict[str, Variable] = {}
        for variable in variables.values():
            self._by_text.setdefault(str(variable.name), variable)

    def find(self, text: Hashable) -> Variable | None:
        """Return a variable, or an element as a variable, by its name or the text of it.

        Returns:
            None if there is none of that name.
        """
        known = self.variables.get(text)
        if known is None and isinstance(text, str):
            return self._by_text.get(text) or self._element(_tuple(text))
        return known or self._element(text)

    def of(self, text: Hashable) -> Hashable:
        """Return the name that a text spells; the text itself if it is the name of nothing."""
        found = self.find(text)
        return text if found is None else found.name

    def __getitem__(self, text: Hashable) -> Variable:
        found = self.find(text)
        if found is None:
            raise KeyError(text)
        return found

    def renamed(self, frame: Any) -> Any:
        """Return a data frame of pandas whose columns have the names that theirs spell."""
        import pandas as pd

        names = [self.of(name) for name in frame.columns]
        return frame.set_axis(pd.Index(names, tupleize_cols=False), axis=1)

    def columns(self) -> list[str]:
        """Return names that columns of a table may have: of variables, and first elements."""
        return [_first_column(v) for v in self.variables.values()]

    def advice(self, text: Hashable) -> str:
        """Return what a column of an unsuitable name should be called, to follow a message."""
        array = self.find(text)
        if array is None or not array.shape:
            return closest(text, self.columns())
        return (
            f", but an array of the shape {array.shape}: give each element a column of its own, "
            f"such as {_first_column(array)!r}"
        )

    def __contains__(self, text: object) -> bool:
        return isinstance(text, Hashable) and self.find(text) is not None

    def _element(self, name: object) -> Variable | None:
        """The element of an array that a tuple names."""
        if not isinstance(name, tuple) or len(name) < 2:
            return None
        try:
            array = self.variables.get(name[0])
        except TypeError:  # not hashable
            return None
        return array.element(*name[1:]) if array and array.has_element(name[1:]) else None


def _tuple(text: str) -> object:
    """The value of a text in brackets; None for any other text."""
    try:
        return ast.literal_eval(text) if text.startswith("(") else None
    except (SyntaxError, ValueError, TypeError, RecursionError, MemoryError):
        return None


def _first_column(variable: Variable) -> str:
    """The name of a variable, or of the first element of an array, as a text."""
    origin = (0 for _ in variable.shape)
    return str((variable.name, *origin) if variable.shape else variable.name)
