"""Equal rows of evidence."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pgnn.inference.kernels.compiled import Ints, entry

Codes = NDArray[np.int32]


@entry
def in_range(codes: Codes, least: Ints, card: Ints) -> bool:
    """Whether all codes are states, or at least the lowest legal value (-1: missing)."""
    for row in range(codes.shape[0]):
        for v in range(codes.shape[1]):
            if codes[row, v] < least[v] or codes[row, v] >= card[v]:
                return False
    return True


@entry
def distinct(codes: Codes, first: Ints, kind: Ints) -> int:
    """Find the distinct rows of an array.

    Args:
        codes: ``(B, V)`` state indices.
        first: ``(B,)`` output: index of the first row of each group of equal rows.
        kind: ``(B,)`` output: the group of every row.

    Returns:
        The number of groups.

    Cost:
        One pass over the codes: an open hash table with exact comparison of rows.
    """
    num_rows, num_vars = codes.shape
    size = 16
    while size < 2 * num_rows:
        size *= 2
    table = np.full(size, -1, np.int64)
    count = 0
    for row in range(num_rows):
        h = np.uint64(1469598103934665603)
        for v in range(num_vars):
            h = (h ^ np.uint64(codes[row, v] + 1)) * np.uint64(1099511628211)
        h ^= h >> np.uint64(29)
        slot = np.int64(h & np.uint64(size - 1))
        while True:
            k = table[slot]
            if k < 0:
                table[slot] = count
                first[count] = row
                kind[row] = count
                count += 1
                break
            same = True
            for v in range(num_vars):
                if codes[first[k], v] != codes[row, v]:
                    same = False
                    break
            if same:
                kind[row] = k
                break
            slot = (slot + 1) & (size - 1)
    return count
