"""Names and their numbers."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterable, Sequence
from functools import cached_property
from itertools import count, islice, repeat

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int32]

NONE = -1
"""The number of a name that is not among those that have one."""


class NameIndex:
    """Different names, numbered in the order in which they came.

    Args:
        names: The first ones.

    Example:
        >>> index = NameIndex(["a", "b"])
        >>> index.find(["b", "c", "b"]), index.add(["b", "c", "b"]), index.find(["c"])
        (array([ 1, -1,  1], dtype=int32), array([1, 2, 1], dtype=int32), array([2], dtype=int32))
    """

    def __init__(self, names: Iterable[Hashable] = ()) -> None:
        self._numbers: defaultdict[Hashable, int] = defaultdict()
        self._numbers.update(zip(names, count()))
        self._source: NameIndex | None = None
        self._places = np.empty(0, np.int32)

    def renumbered(self, order: Sequence[int]) -> NameIndex:
        """Return an index of the same names in another order.

        Where all are kept they are looked up in this index, which must not grow meanwhile.

        Args:
            order: Present numbers of the names, as many as there are or fewer.
        """
        names = [*map(self.names.__getitem__, order)]
        if len(names) < len(self):
            return type(self)(names)
        index = NameIndex()
        index.names, index._source = names, self
        index._places = np.empty(len(self) + 1, np.int32)
        index._places[order] = np.arange(len(self))
        index._places[NONE] = NONE
        return index

    def __len__(self) -> int:
        return len(self._numbers if self._source is None else self._source)

    def find(self, names: Sequence[Hashable]) -> Ints:
        """Return the number of each name, -1 of those that have none.

        Raises:
            TypeError: If one is not hashable.
        """
        if self._source is not None:
            return self._places[self._source.find(names)]
        return np.fromiter(map(self._numbers.get, names, repeat(NONE)), np.int32, len(names))

    def numbers_of(self, other: NameIndex) -> Ints:
        """Return ``(len(other) + 1,)`` numbers of the names of another index, and -1."""
        if self._source is other:
            return self._places
        return np.append(self.find(other.names), np.int32(NONE))

    def add(self, names: Sequence[Hashable]) -> Ints:
        """Return the number of each name; new ones get the next numbers.

        Raises:
            TypeError: If one is not hashable.
        """
        self._part_from_source()
        numbers = self._numbers
        numbers.default_factory = numbers.__len__
        try:
            return np.fromiter(map(numbers.__getitem__, names), np.int32, len(names))
        finally:
            numbers.default_factory = None
            self.__dict__.pop("names", None)

    def since(self, number: int) -> list[Hashable]:
        """Return the names from a number on."""
        self._part_from_source()
        return [*islice(reversed(self._numbers), len(self) - number)][::-1]

    def _part_from_source(self) -> None:
        """Number the names of a renumbered index without the other one, as it will grow."""
        if self._source is not None:
            self._numbers.update(zip(self.names, count()))
            self._source = None

    @cached_property
    def names(self) -> list[Hashable]:
        """All names, in the order of their numbers."""
        return [*self._numbers]
