"""A fast check whether elimination of a large graph needs only small tables."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pgnn.inference.kernels.compiled import entry, inner

Ints = NDArray[np.int64]


@inner
def _alive(clique, absorbed):
    """The clique into which a clique was merged, with path compression."""
    root = clique
    while absorbed[root] >= 0:
        root = absorbed[root]
    while absorbed[clique] >= 0:
        absorbed[clique], clique = root, absorbed[clique]
    return root


@inner
def _union(v, links, link_ptr, link_num, absorbed, pool, clique_ptr, clique_num, gone, mark, out):
    """Write the neighbours of ``v`` to ``out`` and merge its links; -1 if there are too many."""
    size, kept = 0, 0
    begin = link_ptr[v]
    mark[v] = v
    for i in range(link_num[v]):
        c = _alive(links[begin + i], absorbed)
        again = False
        for j in range(kept):
            again = again or links[begin + j] == c
        if again:
            continue
        links[begin + kept] = c
        kept += 1
        first, left = clique_ptr[c], 0
        for k in range(clique_num[c]):
            u = pool[first + k]
            if gone[u]:
                continue
            pool[first + left] = u
            left += 1
            if mark[u] != v:
                mark[u] = v
                if size >= 0:
                    if size == out.shape[0]:
                        size = -1
                    else:
                        out[size] = u
                        size += 1
        clique_num[c] = left
    link_num[v] = kept
    mark[v] = -1
    for k in range(size):
        mark[out[k]] = -1
    if size < 0:
        for i in range(kept):
            c = links[begin + i]
            for k in range(clique_num[c]):
                mark[pool[clique_ptr[c] + k]] = -1
    return size


@inner
def _all_left(gone, queue, queued):
    """Put every variable that is not eliminated into the queue; return their number."""
    count = 0
    for v in range(gone.shape[0]):
        if not gone[v]:
            queue[count] = v
            queued[v] = True
            count += 1
    return count


@inner
def _merge(cliques, near, pool, used, clique_ptr, clique_num, absorbed):
    """Replace some cliques by the clique ``near``, which absorbs them."""
    if not cliques.shape[0]:
        return pool, used
    merged = cliques[0]
    for c in cliques:
        if clique_num[c] > clique_num[merged]:
            merged = c
    size = near.shape[0]
    if clique_num[merged] < size:
        if used + size > pool.shape[0]:
            pool = np.concatenate((pool, np.zeros(pool.shape[0] + size, np.int64)))
        clique_ptr[merged] = used
        used += size
    pool[clique_ptr[merged] : clique_ptr[merged] + size] = near
    clique_num[merged] = size
    for c in cliques:
        if c != merged:
            absorbed[c] = merged
    return pool, used


@entry
def has_bounded_width(
    scope_ptr: Ints,
    scope_var: Ints,
    bits: NDArray[np.float64],
    free: NDArray[np.bool_],
    most: float,
) -> bool:
    """Return whether greedy elimination needs no table of more than ``most`` bits.

    Cliques are merged as in minimum-degree orderings on quotient graphs (George & Liu 1989), so
    that memory does not exceed that of the graph. The size limit is raised only when no variable
    with smaller tables remains. ``False`` means that this order fails; another one might succeed.

    Args:
        scope_ptr: ``(F + 1,)`` start of each factor's scope.
        scope_var: Elements of all scopes, concatenated.
        bits: ``(E,)`` base-2 logarithms of the state counts.
        free: ``(E,)`` elements to eliminate.
        most: Largest table, base-2 logarithm of its entries.
    """
    num_vars, num_factors = bits.shape[0], scope_ptr.shape[0] - 1
    link_ptr = np.zeros(num_vars + 1, np.int64)
    for i in range(scope_var.shape[0]):
        link_ptr[scope_var[i] + 1] += 1
    for v in range(num_vars):
        link_ptr[v + 1] += link_ptr[v]
    links = np.zeros(scope_var.shape[0], np.int64)
    link_num = np.zeros(num_vars, np.int64)
    for f in range(num_factors):
        for i in range(scope_ptr[f], scope_ptr[f + 1]):
            v = scope_var[i]
            links[link_ptr[v] + link_num[v]] = f
            link_num[v] += 1
    pool, used = scope_var.copy(), scope_var.shape[0]
    clique_ptr, clique_num = scope_ptr[:-1].copy(), np.diff(scope_ptr)
    absorbed = np.full(num_factors, -1)
    gone = ~free
    mark = np.full(num_vars, -1)
    near = np.zeros(int(most) + 2, np.int64)
    queue = np.zeros(num_vars, np.int64)
    queued = np.zeros(num_vars, np.bool_)
    left, level = free.sum(), 0.0
    while left and level < most:
        level = min(level + 2.0, most)
        count, first = _all_left(gone, queue, queued), 0
        while count:
            v = queue[first]
            first = (first + 1) % num_vars
            count -= 1
            queued[v] = False
            size = _union(
                v, links, link_ptr, link_num, absorbed, pool, clique_ptr, clique_num, gone, mark,
                near,
            )  # fmt: skip
            total = bits[v]
            for k in range(size):
                total += bits[near[k]]
            if size < 0 or total > level:
                continue
            gone[v] = True
            left -= 1
            cliques = links[link_ptr[v] : link_ptr[v] + link_num[v]]
            pool, used = _merge(cliques, near[:size], pool, used, clique_ptr, clique_num, absorbed)
            for k in range(size):
                u = near[k]
                if not queued[u]:
                    queue[(first + count) % num_vars] = u
                    queued[u] = True
                    count += 1
    return left == 0
