"""Greedy elimination orders on bit sets, compiled; the twin of ``pgnn.graphs.elimination``."""

from __future__ import annotations

import numpy as np

from pgnn.inference.kernels.bitset import Bits, count_bits, lowest_bit, members
from pgnn.inference.kernels.compiled import Bools, Floats, Ints, entry, inner

MIN_FILL, WEIGHTED_MIN_FILL, MIN_WEIGHT = 0, 1, 2


@inner
def _cost(v: int, adjacent: Bits, weight: Floats, rule: int, near: Ints) -> float:
    """Cost of eliminating ``v`` now: its fill edges, or the size of its clique."""
    words = adjacent.shape[1]
    num_near = members(adjacent[v], near)
    if rule == MIN_WEIGHT:
        size = weight[v]
        for i in range(num_near):
            size *= weight[near[i]]
        return size
    total = 0.0
    for i in range(num_near):
        u = near[i]
        first = u >> 6
        missing = 0.0
        for w in range(first, words):
            x = adjacent[v, w] & ~adjacent[u, w]
            if w == first:
                shift = np.uint64(u & 63)
                x &= ~((((np.uint64(1) << shift) - np.uint64(1)) << np.uint64(1)) | np.uint64(1))
            if rule == MIN_FILL:
                missing += count_bits(x)
            else:
                while x != 0:
                    missing += weight[w * 64 + lowest_bit(x)]
                    x &= x - np.uint64(1)
        total += missing * (weight[u] if rule == WEIGHTED_MIN_FILL else 1.0)
    return total


@inner
def _add_edge(
    a: int, b: int, adjacent: Bits, weight: Floats, rule: int, cost: Floats, near: Ints
) -> None:
    """Join a and b; every common neighbour now lacks one fill edge less."""
    if rule != MIN_WEIGHT:
        saved = weight[a] * weight[b] if rule == WEIGHTED_MIN_FILL else 1.0
        for k in range(members(adjacent[a] & adjacent[b], near)):
            cost[near[k]] -= saved
    adjacent[a, b >> 6] |= np.uint64(1) << np.uint64(b & 63)
    adjacent[b, a >> 6] |= np.uint64(1) << np.uint64(a & 63)


@inner
def _cheapest(
    active: Ints, num_active: int, cost: Floats, stage: Ints, noise: float, state: Bits
) -> int:
    """Index into ``active`` of the cheapest variable of the earliest stage left."""
    best, best_cost, best_stage = 0, np.inf, np.iinfo(np.int64).max
    for i in range(num_active):
        v = active[i]
        c = cost[v]
        if noise > 0.0:
            # xorshift64: cheap, own state, so that no global generator is touched
            x = state[0]
            x ^= x << np.uint64(13)
            x ^= x >> np.uint64(7)
            x ^= x << np.uint64(17)
            state[0] = x
            c = (c + 1e-9) * (1.0 + noise * (np.float64(x >> np.uint64(11)) / 9007199254740992.0))
        if stage[v] < best_stage or (stage[v] == best_stage and c < best_cost):
            best, best_cost, best_stage = i, c, stage[v]
    return best


@entry
def eliminate(
    adjacent: Bits,
    weight: Floats,
    free: Bools,
    stage: Ints,
    rule: int,
    noise: float,
    seed: int,
    limit: float,
) -> tuple[Ints, float, float, int]:
    """Eliminate greedily; ``adjacent`` is used up.

    Args:
        adjacent: Bit sets of the graph on the free variables.
        weight: ``(V,)`` number of states as floats.
        free: ``(V,)`` variables to eliminate.
        stage: ``(V,)`` lower stages are eliminated first (all equal: no constraint).
        rule: MIN_FILL, WEIGHTED_MIN_FILL or MIN_WEIGHT; ties go to the smallest variable.
        noise: Relative random perturbation of the costs (0: deterministic).
        seed: Of that perturbation.
        limit: Give up once the tables together have more entries than this.

    Returns:
        The order, the total and the largest number of table entries (total ``inf`` when given
        up), and the width (largest clique minus one).
    """
    num_vars = free.shape[0]
    near = np.empty(num_vars, np.int64)
    other = np.empty(num_vars, np.int64)
    active = np.flatnonzero(free)
    num_active = active.shape[0]
    order = np.empty(num_active, np.int64)
    cost = np.zeros(num_vars)
    state = np.array([(seed + 1) * 2654435769 + 88172645463325252], dtype=np.uint64)
    for i in range(num_active):
        cost[active[i]] = _cost(active[i], adjacent, weight, rule, near)
    total, largest, width = 0.0, 0.0, 0
    for step in range(order.shape[0]):
        best = _cheapest(active, num_active, cost, stage, noise, state)
        v = active[best]
        for i in range(best, num_active - 1):
            active[i] = active[i + 1]
        num_active -= 1
        order[step] = v
        num_near = members(adjacent[v], near)
        size = weight[v]
        for i in range(num_near):
            size *= weight[near[i]]
            adjacent[near[i], v >> 6] &= ~(np.uint64(1) << np.uint64(v & 63))
        total += size
        largest = max(largest, size)
        width = max(width, num_near)
        if total > limit:
            return order, np.inf, largest, width
        for i in range(num_near):
            a = near[i]
            for j in range(i + 1, num_near):
                b = near[j]
                if not adjacent[a, b >> 6] & (np.uint64(1) << np.uint64(b & 63)):
                    _add_edge(a, b, adjacent, weight, rule, cost, other)
        for i in range(num_near):
            cost[near[i]] = _cost(near[i], adjacent, weight, rule, other)
    return order, total, largest, width
