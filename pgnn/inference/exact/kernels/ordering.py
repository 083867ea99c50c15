"""Greedy elimination orders of sparse graphs: the compiled twin of ``pgnn.graphs.elimination``.

The cost of a variable changes only if its neighbourhood does, and is updated incrementally; the
variables are kept in a heap. A hub with many leaves therefore costs no more than a chain.
"""

from __future__ import annotations

import numpy as np

from pgnn.inference.exact.kernels.fill_graph import (
    CHANGED,
    COST,
    DEGREE,
    KEY,
    LINK,
    PLACE,
    STAGE,
    STATES,
    SUM,
    TO,
    WEIGHT,
    join,
    joined,
    more_links,
    more_pairs,
    neighbours,
    read_graph,
)
from pgnn.inference.kernels.compiled import Bools, Floats, Ints, entry, lean

# NumPy scalars: for Python integers numba would compile the callers again for every value
MIN_FILL, WEIGHTED_MIN_FILL, MIN_WEIGHT = np.int64(0), np.int64(1), np.int64(2)
RANKED = np.int64(3)

_EXACT = 60
"""Neighbours up to which the size of a clique is multiplied out, not kept as a logarithm."""
_HOPELESS = 1e300
"""Entries of tables after which no order can help."""


@lean
def _change(v: int, nodes: Ints, changed: Ints, count: int) -> int:
    if nodes[v, CHANGED] == 0:
        nodes[v, CHANGED] = 1
        changed[count] = v
        count += 1
    return count


@lean
def _save(
    a: int, b: int, pairs: Ints, links: Ints, nodes: Ints, numbers: Floats, room: Ints,
    changed: Ints, count: int,
) -> tuple[int, float]:  # fmt: skip
    """Subtract the edge between a and b from the costs of their common neighbours.

    Returns the number of changed costs, and the weight of those neighbours.
    """
    if nodes[a, DEGREE] > nodes[b, DEGREE]:
        a, b = b, a
    shared, saved = 0.0, numbers[a, WEIGHT] * numbers[b, WEIGHT]
    for i in range(neighbours(a, links, nodes, room)):
        x = room[i]
        if x != b and joined(pairs, x, b, nodes.shape[0]):
            shared += numbers[x, WEIGHT]
            numbers[x, COST] -= saved
            count = _change(x, nodes, changed, count)
    return count, shared


@lean
def _set_key(
    v: int, rule: int, rank: Ints, noise: float, state: Ints, links: Ints, nodes: Ints,
    numbers: Floats, room: Ints,
) -> None:  # fmt: skip
    """Update the cost of a variable, with noise."""
    if rule == MIN_WEIGHT:
        if nodes[v, DEGREE] <= _EXACT:
            numbers[v, COST] = numbers[v, STATES]
            for i in range(neighbours(v, links, nodes, room)):
                numbers[v, COST] *= numbers[room[i], STATES]
        else:
            numbers[v, COST] = 2.0 ** min(numbers[v, SUM] + numbers[v, WEIGHT], 1000.0)
    cost = numbers[v, COST]
    if rule == RANKED:  # simplicial variables may be eliminated at any time
        cost = 0.0 if cost <= 0.0 or nodes[v, DEGREE] <= 2 else 1.0 + rank[v]
    if noise > 0.0:
        # xorshift64: cheap, with local state, so that no global generator is changed
        x = np.uint64(state[0])
        x ^= x << np.uint64(13)
        x ^= x >> np.uint64(7)
        x ^= x << np.uint64(17)
        state[0] = np.int64(x)
        share = np.float64(np.int64(x >> np.uint64(11))) / 9007199254740992.0
        cost = (cost + 1e-9) * (1.0 + noise * share)
    numbers[v, KEY] = cost


@lean
def _before(a: int, b: int, nodes: Ints, numbers: Floats) -> bool:
    """Whether a is to be eliminated before b: earlier stage, lower cost, lower index."""
    if nodes[a, STAGE] != nodes[b, STAGE]:
        return nodes[a, STAGE] < nodes[b, STAGE]
    if numbers[a, KEY] != numbers[b, KEY]:
        return numbers[a, KEY] < numbers[b, KEY]
    return a < b


@lean
def _settle(v: int, at: int, heap: Ints, size: int, nodes: Ints, numbers: Floats) -> None:
    """Sift a variable to its position in the heap; ``at`` is free."""
    while at > 0 and _before(v, heap[(at - 1) >> 1], nodes, numbers):
        above = (at - 1) >> 1
        heap[at] = heap[above]
        nodes[heap[at], PLACE] = at
        at = above
    while True:
        below = 2 * at + 1
        if below >= size:
            break
        if below + 1 < size and _before(heap[below + 1], heap[below], nodes, numbers):
            below += 1
        if not _before(heap[below], v, nodes, numbers):
            break
        heap[at] = heap[below]
        nodes[heap[at], PLACE] = at
        at = below
    heap[at] = v
    nodes[v, PLACE] = at


@lean
def _first_costs(
    pairs: Ints, links: Ints, used: int, nodes: Ints, numbers: Floats, room: Ints, changed: Ints
) -> None:
    """Initial fill costs: pairs of neighbours minus pairs that are joined."""
    for v in range(nodes.shape[0]):
        squares, total = 0.0, numbers[v, SUM]
        for i in range(neighbours(v, links, nodes, room)):
            squares += numbers[room[i], WEIGHT] * numbers[room[i], WEIGHT]
        numbers[v, COST] = (total * total - squares) / 2.0
    for at in range(0, used, 2):
        a, b = links[at + 1, TO], links[at, TO]
        count, _ = _save(a, b, pairs, links, nodes, numbers, room, changed, 0)
        for i in range(count):
            nodes[changed[i], CHANGED] = 0


@lean
def _start(
    free: Bools, states: Ints, stage: Bools, rule: int, nodes: Ints, numbers: Floats
) -> None:  # fmt: skip
    """Initialise the columns of each variable, before the graph is read."""
    for v in range(free.shape[0]):
        nodes[v, LINK], nodes[v, DEGREE], nodes[v, CHANGED] = -1, 0, 0
        nodes[v, STAGE], nodes[v, PLACE] = stage[v], 0 if free[v] else -1
        numbers[v, STATES], numbers[v, WEIGHT] = states[v], 1.0
        numbers[v, SUM], numbers[v, COST] = 0.0, 0.0
        if rule == WEIGHTED_MIN_FILL:
            numbers[v, WEIGHT] = states[v]
        elif rule == MIN_WEIGHT:
            numbers[v, WEIGHT] = np.log2(states[v])


@lean
def _take_out(
    v: int, links: Ints, nodes: Ints, numbers: Floats, near: Ints, figures: Floats
) -> tuple[int, float]:
    """Remove a variable from the graph, and add its clique to the figures.

    Returns the number of its neighbours, which are written to ``near``, and their weight.
    """
    num_near, entries, weight = neighbours(v, links, nodes, near), numbers[v, STATES], 0.0
    for i in range(num_near):
        entries *= numbers[near[i], STATES]
        weight += numbers[near[i], WEIGHT]
        nodes[near[i], DEGREE] -= 1
        numbers[near[i], SUM] -= numbers[v, WEIGHT]
    figures[0] += entries
    figures[1] = max(figures[1], entries)
    figures[2] = max(figures[2], num_near)
    return num_near, weight


@lean
def _fill_in(
    near: Ints, num_near: int, rule: int, pairs: Ints, links: Ints, used: int, nodes: Ints,
    numbers: Floats, room: Ints, changed: Ints,
) -> tuple[int, int]:  # fmt: skip
    """Join all neighbours of a removed variable, and update the costs.

    Returns the number of links in use, and of changed costs.
    """
    num_vars, num_changed = nodes.shape[0], 0
    for i in range(num_near):
        a = near[i]
        num_changed = _change(a, nodes, changed, num_changed)
        for j in range(i):
            b = near[j]
            if joined(pairs, a, b, num_vars):
                continue
            if rule != MIN_WEIGHT:
                num_changed, shared = _save(
                    a, b, pairs, links, nodes, numbers, room, changed, num_changed
                )
                numbers[a, COST] += numbers[b, WEIGHT] * (numbers[a, SUM] - shared)
                numbers[b, COST] += numbers[a, WEIGHT] * (numbers[b, SUM] - shared)
            join(a, b, pairs, links, used, nodes, numbers)
            used += 2
    return used, num_changed


@lean
def _forget(
    v: int, near: Ints, num_near: int, weight: float, numbers: Floats
) -> None:  # fmt: skip
    """Subtract the fill edges of a removed variable from the costs of its neighbours."""
    for i in range(num_near):
        a = near[i]
        apart = numbers[a, SUM] - (weight - numbers[a, WEIGHT])
        numbers[a, COST] -= numbers[v, WEIGHT] * apart


@entry
def eliminate(
    scope_ptr: Ints, scope_var: Ints, used: Bools, free: Bools, states: Ints, stage: Bools,
    rank: Ints, rule: int, noise: float, seed: int, limit: float, order: Ints, figures: Floats,
) -> None:  # fmt: skip
    """Eliminate greedily.

    Args:
        scope_ptr: ``(F + 1,)`` start of each factor's scope.
        scope_var: Variables of all scopes, concatenated.
        used: ``(F,)`` factors that are used.
        free: ``(V,)`` variables to eliminate.
        states: ``(V,)`` state counts.
        stage: ``(V,)`` variables with False are eliminated first.
        rank: ``(V,)`` non-negative ranks of variables that are not simplicial and have more than
            two neighbours; used by RANKED only.
        rule: MIN_FILL, WEIGHTED_MIN_FILL, MIN_WEIGHT or RANKED; ties are broken by the smallest
            index.
        noise: Relative random perturbation of the costs (0: deterministic).
        seed: Random seed of the perturbation.
        limit: Stop once the tables together have more entries than this.
        order: ``(N,)`` output: the elimination order.
        figures: ``(3,)`` output: the total and the largest number of table entries (total ``inf``
            if stopped), and the width (largest clique minus one).

    Cost:
        Time and memory nearly linear in the size of the graph with its fill edges.
    """
    num_vars, size = free.shape[0], 0
    nodes, numbers = np.empty((num_vars, 5), np.int64), np.empty((num_vars, 5))
    near, room = np.empty(num_vars + 1, np.int64), np.empty(num_vars + 1, np.int64)
    changed, heap = np.empty(num_vars, np.int64), np.empty(num_vars, np.int64)
    _start(free, states, stage, rule, nodes, numbers)
    pairs, links, num_links = read_graph(scope_ptr, scope_var, used, nodes, numbers, room)
    if rule != MIN_WEIGHT:
        _first_costs(pairs, links, num_links, nodes, numbers, room, changed)
    state = np.empty(1, np.int64)
    state[0] = (seed + 1) * 2654435769 + 88172645463325252
    for v in range(num_vars):
        if free[v]:
            _set_key(v, rule, rank, noise, state, links, nodes, numbers, room)
            size += 1
            _settle(v, size - 1, heap, size, nodes, numbers)
    for i in range(3):
        figures[i] = 0.0
    for step in range(order.shape[0]):
        v = heap[0]
        order[step] = v
        size -= 1
        nodes[v, PLACE] = -1
        if size > 0:
            _settle(heap[size], 0, heap, size, nodes, numbers)
        if figures[0] > _HOPELESS:
            continue
        num_near, weight = _take_out(v, links, nodes, numbers, near, figures)
        if figures[0] > limit:
            figures[0] = np.inf
            return
        if figures[0] > _HOPELESS:
            continue
        most = num_links + num_near * (num_near - 1)
        links = more_links(links, num_links, most)
        pairs = more_pairs(pairs, num_vars, most // 2)
        num_links, num_changed = _fill_in(
            near, num_near, rule, pairs, links, num_links, nodes, numbers, room, changed
        )
        if rule != MIN_WEIGHT:
            _forget(v, near, num_near, weight, numbers)
        for i in range(num_changed):
            a = changed[i]
            nodes[a, CHANGED] = 0
            _set_key(a, rule, rank, noise, state, links, nodes, numbers, room)
            _settle(a, nodes[a, PLACE], heap, size, nodes, numbers)
