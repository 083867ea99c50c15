"""Cutsets: a few variables without which a graph has small elimination tables."""

from __future__ import annotations

import numpy as np

from pgnn.inference.kernels.bitset import Bits, members
from pgnn.inference.kernels.compiled import Bools, Floats, entry, inner


@inner
def _clique_bits(v, adjacent, bits, near):
    """Base-2 log of the size of the table that eliminating ``v`` creates."""
    total = bits[v]
    for i in range(members(adjacent[v], near)):
        total += bits[near[i]]
    return total


@inner
def _random(state):
    """Next number in [0, 1) of xorshift64."""
    x = state[0]
    x ^= x << np.uint64(13)
    x ^= x >> np.uint64(7)
    x ^= x << np.uint64(17)
    state[0] = x
    return np.float64(x >> np.uint64(11)) / 9007199254740992.0


@inner
def _connect(near, num_near, adjacent):
    """Make a clique of some variables."""
    for i in range(num_near):
        for j in range(i + 1, num_near):
            a, b = near[i], near[j]
            adjacent[a, b >> 6] |= np.uint64(1) << np.uint64(b & 63)
            adjacent[b, a >> 6] |= np.uint64(1) << np.uint64(a & 63)


@entry
def cutset(
    adjacent: Bits,
    bits: Floats,
    free: Bools,
    most: float,
    noise: Floats,
    seed: int,
    held: Bools,
) -> None:
    """Choose variables to fix, so that the others can be eliminated with small tables.

    Greedy elimination by the smallest table; if even that is too large, the variable with the most
    remaining neighbours is fixed (a w-cutset: Bidyuk & Dechter 2007, section 4).

    Args:
        adjacent: Bit sets of the graph on the free variables; overwritten.
        bits: ``(V,)`` base-2 logs of the state counts.
        free: ``(V,)`` variables that may be eliminated.
        most: Largest table, base-2 logarithm of its entries.
        noise: ``(V,)`` factors that multiply the neighbour counts in the choice.
        seed: Random seed of the choice between tables of similar size.
        held: ``(V,)`` output: whether to fix a variable.
    """
    num_vars = free.shape[0]
    near = np.empty(num_vars, np.int64)
    other = np.empty(num_vars, np.int64)
    held[:] = False
    left = free.copy()
    cost = np.zeros(num_vars)
    state = np.array([(seed + 1) * 2654435769 + 88172645463325252], dtype=np.uint64)
    for v in range(num_vars):
        if left[v]:
            cost[v] = _clique_bits(v, adjacent, bits, near)
    for _ in range(free.sum()):
        best, least = -1, np.inf
        for v in range(num_vars):
            if left[v]:
                c = cost[v] + _random(state)
                if c < least or best < 0:
                    best, least = v, c
        hold = cost[best] > most
        if hold:
            degree = -np.inf
            for v in range(num_vars):
                if left[v] and bits[v] > 0.0:
                    count = members(adjacent[v], near) * noise[v]
                    if count > degree:
                        best, degree = v, count
        held[best] = hold
        left[best] = False
        num_near = members(adjacent[best], near)
        for i in range(num_near):
            adjacent[near[i], best >> 6] &= ~(np.uint64(1) << np.uint64(best & 63))
        if not hold:
            _connect(near, num_near, adjacent)
        for i in range(num_near):
            cost[near[i]] = _clique_bits(near[i], adjacent, bits, other)
