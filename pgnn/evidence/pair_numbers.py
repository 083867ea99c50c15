"""Attributes that pairs of a text and a simple value stand for, as ``word`` and ``dog``."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pgnn.evidence.name_index import NameIndex

Floats = NDArray[np.float64]
Ints = NDArray[np.int32]

LARGEST = 1e50
"""Largest value of an attribute: what learning makes of it, such as its square, can be held."""

NUMBERS = {bool, int, float, np.float64}
SIMPLE = NUMBERS | {str, type(None)}
"""Types of values whose attributes follow from the value alone, equal ones for equal values."""

ABSENT = -2
"""The number of the attribute of a value that is None: there is none."""

_UNSEEN = -3
_MOST_NUMBERS = 100_000
_MOST_CELLS = 2**22
"""Largest size of the table, 16 MiB."""


class PairNumbers:
    """A table of the numbers that attributes have, by text and value.

    Text and value are looked up apart, in small dictionaries that stay in the cache; only of pairs
    that were not seen before are the names written down.

    Args:
        number: Returns the numbers of names of attributes.

    Example:
        >>> numbers = PairNumbers(NameIndex(["word:dog", "size"]).find)
        >>> numbers.find(["word", "size", "word", "word"], ["dog", 2.5, "cat", None])
        (array([ 0,  1, -1, -2], dtype=int32), array([1. , 2.5, 1. , nan]))
    """

    def __init__(self, number: Callable[[list[Any]], Ints]) -> None:
        self._number = number
        self._texts, self._cells = NameIndex(), NameIndex()
        self._values = np.empty(0)
        self._table = np.full((4, 256), _UNSEEN, dtype=np.int32)
        self._usable, self._counted, self._known = True, 0, 0

    def find(self, texts: Sequence[Any], cells: Sequence[Any]) -> tuple[Ints, Floats] | None:
        """Return the numbers and the values of attributes.

        Args:
            texts: First of each pair.
            cells: Second of each pair, of :data:`SIMPLE` types.

        Returns:
            Number and value of each; :data:`ABSENT` where there is no attribute. None where a text
            is none, a number is no usable value, or there are so many different pairs, or numbers,
            that they are better not remembered.
        """
        if not self._usable:
            return None
        seen = len(self._texts), len(self._cells)
        rows, columns = self._texts.add(texts), self._cells.add(cells)
        self._learn(self._texts.since(seen[0]), self._cells.since(seen[1]))
        many = len(self._texts) * len(self._cells) > _MOST_CELLS or self._counted > _MOST_NUMBERS
        self._usable &= not many
        if not self._usable:
            self._texts, self._cells, self._values = NameIndex(), NameIndex(), np.empty(0)
            self._table = np.empty((0, 0), dtype=np.int32)
            return None
        self._grow()
        places = rows.astype(np.int64) * self._table.shape[1] + columns
        table = self._table.reshape(-1)
        numbers = table[places]
        unseen = numbers == _UNSEEN
        if unseen.any():
            self._write(np.array([*dict.fromkeys(places[unseen].tolist())]))
            numbers = table[places]
        return numbers, self._values[columns]

    def _learn(self, texts: list[Any], cells: list[Any]) -> None:
        """Take note of texts and values that are new."""
        values = [1.0 if type(x) is str else math.nan if x is None else float(x) for x in cells]
        counted = [value for x, value in zip(cells, values, strict=True) if type(x) in NUMBERS]
        self._counted += len(counted)
        self._usable &= all(type(x) is str for x in texts)
        self._usable &= all(abs(value) <= LARGEST for value in counted)
        first, self._known = self._known, self._known + len(values)
        if self._known > len(self._values):
            self._values = np.resize(self._values, _room(len(self._values), self._known))
        self._values[first : self._known] = values

    def _grow(self) -> None:
        """Make the table large enough."""
        rows, columns = self._table.shape
        if len(self._texts) <= rows and len(self._cells) <= columns:
            return
        height, width = _room(rows, len(self._texts)), _room(columns, len(self._cells))
        if height * width > _MOST_CELLS:  # no room to grow into
            height = max(rows, len(self._texts))
            width = max(columns, len(self._cells), min(width, _MOST_CELLS // height))
        if height * width > _MOST_CELLS:  # a side that was made larger than it needed to be
            height, width = len(self._texts), len(self._cells)
        table = np.full((height, width), _UNSEEN, dtype=np.int32)
        rows, columns = min(rows, height), min(columns, width)
        table[:rows, :columns] = self._table[:rows, :columns]
        self._table = table

    def _write(self, places: NDArray[np.int64]) -> None:
        """Write the numbers of pairs that are new into the table."""
        texts, cells = self._texts.names, self._cells.names
        pairs = zip(*(x.tolist() for x in divmod(places, self._table.shape[1])), strict=True)
        names = [_named(texts[row], cells[column]) for row, column in pairs]
        here = np.array([name is not None for name in names])
        numbers = np.full(len(names), ABSENT, dtype=np.int32)
        numbers[here] = self._number([name for name in names if name is not None])
        self._table.reshape(-1)[places] = numbers


def _named(text: Any, cell: Any) -> str | None:
    """The name of an attribute, if there is one."""
    if type(cell) is str:
        return f"{text}:{cell}"
    return None if cell is None else str(text)


def _room(present: int, needed: int) -> int:
    """At least twice as much as before, if more is needed."""
    return present if needed <= present else max(needed, 2 * present)
