"""A hash table of strings with open addressing, which processes many strings at a time.

Processing strings one by one would mostly wait for memory. Therefore all strings of a call are
hashed first, then their slots are loaded, which processors do for several at once, and finally the
strings are compared.
"""

from __future__ import annotations

import numpy as np

from pgnn.inference.kernels.compiled import entry, inner

EMPTY = -1
"""Index of a string that is not in the table."""

_SEED, _FACTOR = np.uint64(14695981039346656037), np.uint64(1099511628211)
_NOTHING, _ONE, _HALF = np.uint64(0), np.uint64(1), np.uint64(32)
_LOW = np.uint64(0xFFFFFFFF)


@entry
def split(text, starts, hashes) -> int:
    """Hash strings separated by zeros (Fowler, Noll and Vo, FNV-1a); return their number.

    Args:
        text: ``(S,)`` uint8.
        starts: ``(N + 1,)`` int64 output: offsets of the strings, and the end including a zero.
        hashes: ``(N,)`` uint64 output.
    """
    n, h = 0, _SEED
    starts[0] = 0
    for s in range(text.shape[0]):
        c = text[s]
        if c == 0:
            if n + 1 == hashes.shape[0]:
                return n + 2  # too many for the output
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
    """Whether two strings, including their terminating zeros, are equal."""
    if end - begin != name_end - name_begin:
        return False
    s = 0
    while s < end - begin - 1 and text[begin + s] == names[name_begin + s]:
        s += 1
    return s == end - begin - 1


@inner
def _slot(text, begin, end, hashed, slots, names, name_starts):
    """Return the slot with the index of a string, or the free slot for it."""
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
    """Look up the indices of strings in a table, -1 if absent.

    Args:
        text, starts, hashes: Strings, see :func:`split`.
        slots: ``(2^p,)`` uint64: half of a hash, and an index plus one; zero if free.
        names: uint8, the strings of the table.
        name_starts: Offsets of these.
        numbers: ``(N,)`` int32 output.
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
            # another string has the same half of the hash: continue
            s = _slot(text, starts[n], starts[n + 1], hashes[n], slots, names, name_starts)
            numbers[n] = np.int64(slots[s] & _LOW) - 1


@entry
def insert(text, starts, hashes, slots, names, name_starts, count, numbers, new) -> int:
    """Insert strings without an index after :func:`look_up`; return the number of new ones.

    Args:
        text, starts, hashes, slots, names, name_starts, numbers: See :func:`look_up`; arrays must
            be large enough.
        count: Number of strings in the table before the call.
        new: ``(N,)`` int32 output: positions of the new strings.
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
