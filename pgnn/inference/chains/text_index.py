"""Indices of names that are strings, by a compiled hash table."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from threading import Lock
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pgnn.evidence.name_index import NONE, Ints, NameIndex
from pgnn.inference.numba_support import has_numba

Array = NDArray[Any]

FEW = 5_000
"""Number of names below which a Python dictionary is as fast."""


class _Texts(NamedTuple):
    """Concatenated strings separated by zeros, see ``kernels.text_lookups.split``."""

    text: Array
    starts: Array
    hashes: Array


class TextIndex(NameIndex):
    """A :class:`NameIndex` that takes a third of the time for many names.

    A compiled hash table loads several names from memory at once. If a name is not a string, or
    contains a zero character, the index falls back to a dictionary.

    Args:
        names: The first names.

    Example:
        >>> index = TextIndex(["a", "b"])
        >>> index.add(["b", "c"]), index.find(["c", "d"])
        (array([1, 2], dtype=int32), array([ 2, -1], dtype=int32))
    """

    def __init__(self, names: Iterable[Hashable] = ()) -> None:
        super().__init__()
        self.names = [*names]
        self._plain = True
        self._table, self._dictionary = _Table(), NameIndex()
        self._filling = Lock()

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.names,)

    def __len__(self) -> int:
        return len(self.names)

    def find(self, names: Sequence[Hashable]) -> Ints:
        """See the base class."""
        if not len(names):
            return np.empty(0, np.int32)
        texts = self._texts(names, len(self))
        return self._in_dictionary().find(names) if texts is None else self._table.find(texts)

    def add(self, names: Sequence[Hashable]) -> Ints:
        """See the base class."""
        texts = self._texts(names, len(self) + len(names))
        if texts is None:
            numbers = self._in_dictionary().add(names)
            self.names.extend(self._dictionary.since(len(self)))
            return numbers
        numbers, new = self._table.add(texts)
        self.names.extend(map(names.__getitem__, new))
        return numbers

    def since(self, number: int) -> list[Hashable]:
        """See the base class."""
        return self.names[number:]

    def _in_dictionary(self) -> NameIndex:
        """Return the dictionary of all names."""
        self._dictionary.add(self.names[len(self._dictionary) :])
        return self._dictionary

    def _texts(self, names: Sequence[Any], size: int) -> _Texts | None:
        """Return the names in the format of the table; None to use the dictionary."""
        if not self._plain or size < FEW or not names:
            return None
        with self._filling:  # several threads may query a newly loaded model
            own = self.names[self._table.count :]
            texts = texts_of(own) if own and has_numba() else None
            self._plain = has_numba() and (not own or texts is not None)
            if texts is not None:
                self._table.add(texts)
        return texts_of(names) if self._plain else None


class _Table:
    """Strings and their indices; the memory grows by doubling."""

    def __init__(self) -> None:
        self.count = 0
        self.names, self.starts = np.empty(0, np.uint8), np.zeros(1, np.int64)
        self.slots = np.zeros(1, np.uint64)

    def find(self, texts: _Texts) -> Ints:
        """Return indices, -1 for strings that are not in the table."""
        from pgnn.inference.chains.kernels.text_lookups import look_up

        numbers = np.empty(len(texts.hashes), np.int32)
        look_up(*texts, self.slots, self.names, self.starts, numbers)
        return numbers

    def add(self, texts: _Texts) -> tuple[Ints, list[int]]:
        """Return indices, and the positions of new strings."""
        from pgnn.inference.chains.kernels.text_lookups import insert

        self._make_room(self.count + len(texts.hashes), self.starts[self.count] + texts.starts[-1])
        numbers, new = self.find(texts), np.empty(len(texts.hashes), np.int32)
        more = insert(*texts, self.slots, self.names, self.starts, self.count, numbers, new)
        self.count += more
        return numbers, new[:more].tolist()

    def _make_room(self, count: int, size: int) -> None:
        """Reserve memory for ``count`` strings of ``size`` bytes in total."""
        if size > len(self.names):
            self.names = np.concatenate([self.names, np.empty(size, np.uint8)])
        if count >= len(self.starts):
            self.starts = np.concatenate([self.starts, np.empty(count, np.int64)])
        if 3 * count > 2 * len(self.slots):
            self.slots = np.zeros(1 << (2 * count - 1).bit_length(), np.uint64)
            self._insert_again()

    def _insert_again(self) -> None:
        """Insert all strings into a new array of slots."""
        from pgnn.inference.chains.kernels.text_lookups import insert

        if not self.count:
            return
        texts = _split(self.names[: self.starts[self.count] - 1], self.count)
        assert texts is not None
        numbers, new = np.full(self.count, NONE, np.int32), np.empty(self.count, np.int32)
        insert(*texts, self.slots, self.names, self.starts, 0, numbers, new)


def texts_of(names: Sequence[Any]) -> _Texts | None:
    """Return concatenated strings; None if a name is not a string or contains a zero character."""
    try:
        joined = "\0".join(names).encode("utf-8", "surrogatepass")
    except TypeError:
        return None
    return _split(np.frombuffer(joined, np.uint8), len(names))


def _split(text: Array, count: int) -> _Texts | None:
    from pgnn.inference.chains.kernels.text_lookups import split

    texts = _Texts(text, np.empty(count + 1, np.int64), np.empty(count, np.uint64))
    return texts if split(*texts) == count else None
