"""Greedy colouring of the elements, so that no two of one colour share a factor."""

from __future__ import annotations

import numpy as np

from pgnn.inference.kernels.compiled import entry, inner


@inner
def _by_falling(degree):
    """Elements by falling degree, those of one degree in order (a counting sort)."""
    most = 0
    for d in degree:
        most = max(most, d)
    place = np.zeros(most + 2, np.int64)
    for d in degree:
        place[most - d + 1] += 1
    for d in range(most + 1):
        place[d + 1] += place[d]
    order = np.zeros(degree.shape[0], np.int64)
    for e in range(degree.shape[0]):
        d = most - degree[e]
        order[place[d]] = e
        place[d] += 1
    return order


@entry
def colour(wiring):
    """Give each element the smallest colour that no neighbour has, most neighbours first.

    Of elements with as many neighbours, the one of lower number comes first.

    Args:
        wiring: Which factors touch which elements.

    Returns:
        ``(E,)`` int64 colours from zero, at most the largest number of neighbours plus one.
    """
    num = wiring.card.shape[0]
    seen = np.full(num, -1, np.int64)
    degree = np.zeros(num, np.int64)
    for e in range(num):
        seen[e] = e
        for q in range(wiring.var_ptr[e], wiring.var_ptr[e + 1]):
            f = wiring.slot_factor[wiring.var_slot[q]]
            for slot in range(wiring.scope_ptr[f], wiring.scope_ptr[f + 1]):
                v = wiring.scope_var[slot]
                if seen[v] != e:
                    seen[v] = e
                    degree[e] += 1
    colours = np.full(num, -1, np.int64)
    taken = np.full(num + 1, -1, np.int64)
    for e in _by_falling(degree):
        for q in range(wiring.var_ptr[e], wiring.var_ptr[e + 1]):
            f = wiring.slot_factor[wiring.var_slot[q]]
            for slot in range(wiring.scope_ptr[f], wiring.scope_ptr[f + 1]):
                c = colours[wiring.scope_var[slot]]
                if c >= 0:
                    taken[c] = e
        free = 0
        while taken[free] == e:
            free += 1
        colours[e] = free
    return colours
