"""The graph that loses nodes and gains fill edges during elimination."""

from __future__ import annotations

import numpy as np

from pgnn.inference.kernels.compiled import Bools, Floats, Ints, inner, lean

# integer columns of a variable: first link of its list, remaining neighbours, position in the #
# heap (-1: eliminated), whether its cost has changed, its stage
LINK, DEGREE, PLACE, CHANGED, STAGE = range(5)
# real columns: states, weight in sums, sum over neighbours, cost, cost with noise
STATES, WEIGHT, SUM, COST, KEY = range(5)
TO, _NEXT = range(2)
_FEW = 4096
"""Variables up to which a bit for each pair says whether it is joined; beyond, a hash table."""
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


@lean
def _slot(pairs: Ints, key: int) -> int:
    """The slot of a pair in the hash table."""
    mask = pairs.shape[0] - 1
    i = np.int64((np.uint64(key) * _GOLDEN) >> np.uint64(24)) & mask
    while pairs[i] >= 0 and pairs[i] != key:
        i = (i + 1) & mask
    return i


@lean
def joined(pairs: Ints, a: int, b: int, num_vars: int) -> bool:
    """Whether two variables are neighbours."""
    if num_vars <= _FEW:
        key = a * num_vars + b
        return (pairs[key >> 6] >> (key & 63)) & 1 == 1
    return pairs[_slot(pairs, min(a, b) * num_vars + max(a, b))] >= 0


@inner
def _make_pairs(num_vars: int, most: int) -> Ints:
    """An empty hash table for ``most`` pairs."""
    if num_vars <= _FEW:
        return np.zeros((num_vars * num_vars >> 6) + 1, np.int64)
    size = 1024
    while size < 2 * most:
        size *= 2
    pairs = np.empty(size, np.int64)
    for i in range(size):
        pairs[i] = -1
    return pairs


@inner
def more_pairs(pairs: Ints, num_vars: int, most: int) -> Ints:
    """A copy of the hash table with room for ``most`` pairs."""
    if num_vars <= _FEW or pairs.shape[0] >= 2 * most:
        return pairs
    larger = _make_pairs(num_vars, 2 * most)
    for i in range(pairs.shape[0]):
        if pairs[i] >= 0:
            larger[_slot(larger, pairs[i])] = pairs[i]
    return larger


@inner
def more_links(links: Ints, used: int, most: int) -> Ints:
    """A copy of the links with room for ``most``."""
    if links.shape[0] >= most:
        return links
    larger = np.empty((2 * most, 2), np.int64)
    for i in range(used):
        larger[i, TO], larger[i, _NEXT] = links[i, TO], links[i, _NEXT]
    return larger


@lean
def join(a: int, b: int, pairs: Ints, links: Ints, used: int, nodes: Ints, numbers: Floats) -> None:
    """Join two variables that are not neighbours."""
    num_vars = nodes.shape[0]
    if num_vars <= _FEW:
        for key in (a * num_vars + b, b * num_vars + a):
            pairs[key >> 6] |= 1 << (key & 63)
    else:
        key = min(a, b) * num_vars + max(a, b)
        pairs[_slot(pairs, key)] = key
    links[used, TO], links[used, _NEXT] = b, nodes[a, LINK]
    links[used + 1, TO], links[used + 1, _NEXT] = a, nodes[b, LINK]
    nodes[a, LINK], nodes[b, LINK] = used, used + 1
    nodes[a, DEGREE] += 1
    nodes[b, DEGREE] += 1
    numbers[a, SUM] += numbers[b, WEIGHT]
    numbers[b, SUM] += numbers[a, WEIGHT]


@lean
def neighbours(v: int, links: Ints, nodes: Ints, out: Ints) -> int:
    """Write the remaining neighbours to ``out``, drop the others; return their number."""
    count, before = 0, -1
    at = nodes[v, LINK]
    while at >= 0:
        if nodes[links[at, TO], PLACE] >= 0:
            out[count] = links[at, TO]
            count += 1
            before = at
        elif before < 0:
            nodes[v, LINK] = links[at, _NEXT]
        else:
            links[before, _NEXT] = links[at, _NEXT]
        at = links[at, _NEXT]
    return count


@inner
def read_graph(
    scope_ptr: Ints, scope_var: Ints, mentioned: Bools, nodes: Ints, numbers: Floats, room: Ints
) -> tuple[Ints, Ints, int]:
    """Join the free variables of each factor; return pairs, links, and the number of links."""
    num_vars, most = nodes.shape[0], 0
    for f in range(mentioned.shape[0]):
        n = scope_ptr[f + 1] - scope_ptr[f]
        most += n * (n - 1) // 2
    if num_vars <= _FEW:
        most = min(most, num_vars * (num_vars - 1) // 2)
    pairs, used = _make_pairs(num_vars, most), 0
    links = np.empty((2 * most + 2, 2), np.int64)
    for f in range(mentioned.shape[0]):
        count = 0
        if mentioned[f]:
            for i in range(scope_ptr[f], scope_ptr[f + 1]):
                v = scope_var[i]
                if nodes[v, PLACE] >= 0:
                    for j in range(count):
                        if v != room[j] and not joined(pairs, v, room[j], num_vars):
                            join(v, room[j], pairs, links, used, nodes, numbers)
                            used += 2
                    room[count] = v
                    count += 1
    return pairs, links, used
