"""A table of texts: hashes with open addressing, many texts at a time.

One text after the other would wait for memory most of the time. So the texts of a call are hashed
first, then their places are looked up, which processors do for several at once, and only then are
the texts themselves compared.
"""

from __future__ import annotations

import numpy as np

from pgnn.inference.kernels.compiled import entry, inner

EMPTY = -1
"""The number of a text that is not in the table."""

_SEED, _FACTOR = np.uint64(14695981039346656037), np.uint64(1099511628211)
_NOTHING, _ONE, _HALF = np.uint64(0), np.uint64(1), np.uint64(32)
_LOW = np.uint64(0xFFFFFFFF)


@entry
def split(text, starts, hashes) -> int:
    """Hash texts that are separated by zeros (Fowler, Noll and Vo, FNV-1a); return their number.

    Args:
        text: ``(S,)`` uint8.
        starts: ``(N + 1,)`` int64, filled: where they begin, and the end with a zero more.
        hashes: ``(N,)`` uint64, filled.
    """
    n, h = 0, _SEED
    starts[0] = 0
    for s in range(text.shape[0]):
        c = text[s]
        if c == 0:
            if n + 1 == hashes.shape[0]:
                return n + 2  # more than there is room for
            hashes[n] = h
            n += 1
            starts[n] = s + 1
            h = _SEED
        else:
            h = (h ^ np.uint64(c)) * _FACTOR
    hashes[n] = h
    starts[n + 1] = text.shape[0] + 1
    return n + 1


@inner
def _equal(text, begin, end, names, name_begin, name_end):
    """Whether two texts, zeros behind them included, are the same."""
    if end - begin != name_end - name_begin:
        return False
    s = 0
    while s < end - begin - 1 and text[begin + s] == names[name_begin + s]:
        s += 1
    return s == end - begin - 1


@inner
def _slot(text, begin, end, hashed, slots, names, name_starts):
    """The slot of a text: the one that has its number, or the free one where it belongs."""
    mask, tag = np.uint64(slots.shape[0] - 1), hashed >> _HALF
    s = (hashed ^ tag) & mask
    while slots[s] != _NOTHING:
        k = np.int64(slots[s] & _LOW) - 1
        if slots[s] >> _HALF == tag and _equal(
            text, begin, end, names, name_starts[k], name_starts[k + 1]
        ):
            break
        s = (s + _ONE) & mask
    return s


@entry
def look_up(text, starts, hashes, slots, names, name_starts, numbers):
    """Fill in the numbers of texts in a table, -1 where they are not in it.

    Args:
        text, starts, hashes: Texts, see :func:`split`.
        slots: ``(2^p,)`` uint64: half of a hash, and one more than a number; zero where free.
        names: uint8, the texts of the table.
        name_starts: Where these begin.
        numbers: ``(N,)`` int32.
    """
    mask = np.uint64(slots.shape[0] - 1)
    for n in range(numbers.shape[0]):
        tag = hashes[n] >> _HALF
        s = (hashes[n] ^ tag) & mask
        while slots[s] != _NOTHING and slots[s] >> _HALF != tag:
            s = (s + _ONE) & mask
        numbers[n] = np.int64(slots[s] & _LOW) - 1
    for n in range(numbers.shape[0]):
        k = numbers[n]
        if k >= 0 and not _equal(
            text, starts[n], starts[n + 1], names, name_starts[k], name_starts[k + 1]
        ):
            # another text has the same half of the hash: look on
            s = _slot(text, starts[n], starts[n + 1], hashes[n], slots, names, name_starts)
            numbers[n] = np.int64(slots[s] & _LOW) - 1


@entry
def insert(text, starts, hashes, slots, names, name_starts, count, numbers, new) -> int:
    """Give those texts a number that have none after :func:`look_up`; return how many are new.

    Args:
        text, starts, hashes, slots, names, name_starts, numbers: See :func:`look_up`; there must be
            room.
        count: How many there were before.
        new: ``(N,)`` int32, filled: which texts are the new ones.
    """
    more = 0
    for n in range(numbers.shape[0]):
        if numbers[n] != EMPTY:
            continue
        s = _slot(text, starts[n], starts[n + 1], hashes[n], slots, names, name_starts)
        numbers[n] = np.int64(slots[s] & _LOW) - 1
        if numbers[n] == EMPTY:
            k = count + more
            slots[s] = (hashes[n] >> _HALF << _HALF) | np.uint64(k + 1)
            begin = name_starts[k]
            for i in range(starts[n + 1] - starts[n] - 1):
                names[begin + i] = text[starts[n] + i]
            names[begin + starts[n + 1] - starts[n] - 1] = 0
            name_starts[k + 1] = begin + starts[n + 1] - starts[n]
            numbers[n] = k
            new[more] = n
            more += 1
    return more
