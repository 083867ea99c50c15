"""Sets of small integers as bits of 64-bit words, compiled."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pgnn.inference.kernels.compiled import Bools, Ints, entry, inner

Bits = NDArray[np.uint64]


@entry
def count_bits(x: np.uint64) -> np.uint64:
    """Number of ones in a 64-bit word (Wegner 1960's parallel sum; LLVM makes it one popcnt)."""
    x = x - ((x >> np.uint64(1)) & np.uint64(0x5555555555555555))
    x = (x & np.uint64(0x3333333333333333)) + ((x >> np.uint64(2)) & np.uint64(0x3333333333333333))
    x = (x + (x >> np.uint64(4))) & np.uint64(0x0F0F0F0F0F0F0F0F)
    return (x * np.uint64(0x0101010101010101)) >> np.uint64(56)


@inner
def lowest_bit(x: np.uint64) -> np.int64:
    """Position of the lowest one of a non-zero word."""
    return np.int64(count_bits((x & (~x + np.uint64(1))) - np.uint64(1)))


@entry
def members(row: Bits, out: Ints) -> int:
    """Write the elements of a bit set to ``out`` in ascending order; return their number."""
    k = 0
    for w in range(row.shape[0]):
        x = row[w]
        while x != 0:
            out[k] = w * 64 + lowest_bit(x)
            k += 1
            x &= x - np.uint64(1)
    return k


@entry
def adjacency(scope_ptr: Ints, scope_var: Ints, used: Bools, free: Bools, adjacent: Bits) -> None:
    """Write the adjacency of the free variables, where each used scope is a clique.

    Args:
        scope_ptr: ``(F + 1,)`` start of each factor's scope.
        scope_var: Variables of all scopes, concatenated.
        used: ``(F,)`` factors that are used.
        free: ``(V,)`` variables to eliminate (neither observed nor irrelevant).
        adjacent: ``(V, ceil(V / 64))`` output, initially zeros: bit sets without self-loops.
    """
    num_vars, words = adjacent.shape
    row = np.zeros(words, np.uint64)
    for f in range(scope_ptr.shape[0] - 1):
        if not used[f]:
            continue
        row[:] = 0
        for i in range(scope_ptr[f], scope_ptr[f + 1]):
            v = scope_var[i]
            if free[v]:
                row[v >> 6] |= np.uint64(1) << np.uint64(v & 63)
        for i in range(scope_ptr[f], scope_ptr[f + 1]):
            v = scope_var[i]
            if free[v]:
                for w in range(words):
                    adjacent[v, w] |= row[w]
    for v in range(num_vars):
        adjacent[v, v >> 6] &= ~(np.uint64(1) << np.uint64(v & 63))
