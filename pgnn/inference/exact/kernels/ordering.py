"""Greedy elimination orders of sparse graphs, compiled; the twin of ``pgnn.graphs.elimination``.

The cost of a variable changes only where its neighbourhood does, and is kept up to date by what
changed; the variables wait in a heap. So a hub with many leaves costs as much as a chain.
"""

from __future__ import annotations

import numpy as np

from pgnn.inference.kernels.compiled import Bools, Floats, Ints, entry, inner, lean

# as NumPy numbers: for plain ones numba would compile their callers again for every value
MIN_FILL, WEIGHTED_MIN_FILL, MIN_WEIGHT = np.int64(0), np.int64(1), np.int64(2)

# columns of the integers of a variable: first link of its list, neighbours left, place in the
# heap (-1: eliminated), whether its cost has changed, its stage
_LINK, _DEGREE, _PLACE, _CHANGED, _STAGE = range(5)
# columns of its numbers: states, weight in sums, sum over neighbours, cost, cost with noise
_STATES, _WEIGHT, _SUM, _COST, _KEY = range(5)
_TO, _NEXT = range(2)
_FEW = 4096
"""Variables up to which a bit for each pair says whether it is joined; beyond, a hash table."""
_EXACT = 60
"""Neighbours up to which the size of a clique is multiplied out, not kept as a logarithm."""
_HOPELESS = 1e300
"""Entries of tables after which no order can help."""
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


@lean
def _slot(pairs: Ints, key: int) -> int:
    """Where a pair stands in the hash table, or would."""
    mask = pairs.shape[0] - 1
    i = np.int64((np.uint64(key) * _GOLDEN) >> np.uint64(24)) & mask
    while pairs[i] >= 0 and pairs[i] != key:
        i = (i + 1) & mask
    return i


@lean
def _joined(pairs: Ints, a: int, b: int, num_vars: int) -> bool:
    if num_vars <= _FEW:
        key = a * num_vars + b
        return (pairs[key >> 6] >> (key & 63)) & 1 == 1
    return pairs[_slot(pairs, min(a, b) * num_vars + max(a, b))] >= 0


@inner
def _make_pairs(num_vars: int, most: int) -> Ints:
    """Room for ``most`` pairs, none joined."""
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
def _more_pairs(pairs: Ints, num_vars: int, most: int) -> Ints:
    """The same pairs, with room for ``most``."""
    if num_vars <= _FEW or pairs.shape[0] >= 2 * most:
        return pairs
    larger = _make_pairs(num_vars, 2 * most)
    for i in range(pairs.shape[0]):
        if pairs[i] >= 0:
            larger[_slot(larger, pairs[i])] = pairs[i]
    return larger


@inner
def _more_links(links: Ints, used: int, most: int) -> Ints:
    """The same links, with room for ``most``."""
    if links.shape[0] >= most:
        return links
    larger = np.empty((2 * most, 2), np.int64)
    for i in range(used):
        larger[i, _TO], larger[i, _NEXT] = links[i, _TO], links[i, _NEXT]
    return larger


@lean
def _join(
    a: int, b: int, pairs: Ints, links: Ints, used: int, nodes: Ints, numbers: Floats
) -> None:
    """Make neighbours of two variables that are none."""
    num_vars = nodes.shape[0]
    if num_vars <= _FEW:
        for key in (a * num_vars + b, b * num_vars + a):
            pairs[key >> 6] |= 1 << (key & 63)
    else:
        key = min(a, b) * num_vars + max(a, b)
        pairs[_slot(pairs, key)] = key
    links[used, _TO], links[used, _NEXT] = b, nodes[a, _LINK]
    links[used + 1, _TO], links[used + 1, _NEXT] = a, nodes[b, _LINK]
    nodes[a, _LINK], nodes[b, _LINK] = used, used + 1
    nodes[a, _DEGREE] += 1
    nodes[b, _DEGREE] += 1
    numbers[a, _SUM] += numbers[b, _WEIGHT]
    numbers[b, _SUM] += numbers[a, _WEIGHT]


@lean
def _neighbours(v: int, links: Ints, nodes: Ints, out: Ints) -> int:
    """Write the neighbours left to ``out``, forget the others; return how many."""
    count, before = 0, -1
    at = nodes[v, _LINK]
    while at >= 0:
        if nodes[links[at, _TO], _PLACE] >= 0:
            out[count] = links[at, _TO]
            count += 1
            before = at
        elif before < 0:
            nodes[v, _LINK] = links[at, _NEXT]
        else:
            links[before, _NEXT] = links[at, _NEXT]
        at = links[at, _NEXT]
    return count


@lean
def _change(v: int, nodes: Ints, changed: Ints, count: int) -> int:
    if nodes[v, _CHANGED] == 0:
        nodes[v, _CHANGED] = 1
        changed[count] = v
        count += 1
    return count


@lean
def _save(
    a: int, b: int, pairs: Ints, links: Ints, nodes: Ints, numbers: Floats, room: Ints,
    changed: Ints, count: int,
) -> tuple[int, float]:  # fmt: skip
    """Take the edge between a and b off the costs of the neighbours they share.

    Returns how many costs have changed, and the weight of those neighbours.
    """
    if nodes[a, _DEGREE] > nodes[b, _DEGREE]:
        a, b = b, a
    shared, saved = 0.0, numbers[a, _WEIGHT] * numbers[b, _WEIGHT]
    for i in range(_neighbours(a, links, nodes, room)):
        x = room[i]
        if x != b and _joined(pairs, x, b, nodes.shape[0]):
            shared += numbers[x, _WEIGHT]
            numbers[x, _COST] -= saved
            count = _change(x, nodes, changed, count)
    return count, shared


@lean
def _set_key(
    v: int, rule: int, noise: float, state: Ints, links: Ints, nodes: Ints, numbers: Floats,
    room: Ints,
) -> None:  # fmt: skip
    """Note what a variable costs now, with noise."""
    if rule == MIN_WEIGHT:
        if nodes[v, _DEGREE] <= _EXACT:
            numbers[v, _COST] = numbers[v, _STATES]
            for i in range(_neighbours(v, links, nodes, room)):
                numbers[v, _COST] *= numbers[room[i], _STATES]
        else:
            numbers[v, _COST] = 2.0 ** min(numbers[v, _SUM] + numbers[v, _WEIGHT], 1000.0)
    cost = numbers[v, _COST]
    if noise > 0.0:
        # xorshift64: cheap, own state, so that no global generator is touched
        x = np.uint64(state[0])
        x ^= x << np.uint64(13)
        x ^= x >> np.uint64(7)
        x ^= x << np.uint64(17)
        state[0] = np.int64(x)
        share = np.float64(np.int64(x >> np.uint64(11))) / 9007199254740992.0
        cost = (cost + 1e-9) * (1.0 + noise * share)
    numbers[v, _KEY] = cost


@lean
def _before(a: int, b: int, nodes: Ints, numbers: Floats) -> bool:
    """Whether a is to be eliminated before b: earlier stage, lower cost, lower number."""
    if nodes[a, _STAGE] != nodes[b, _STAGE]:
        return nodes[a, _STAGE] < nodes[b, _STAGE]
    if numbers[a, _KEY] != numbers[b, _KEY]:
        return numbers[a, _KEY] < numbers[b, _KEY]
    return a < b


@lean
def _settle(v: int, at: int, heap: Ints, size: int, nodes: Ints, numbers: Floats) -> None:
    """Put a variable where it belongs in the heap; ``at`` is free."""
    while at > 0 and _before(v, heap[(at - 1) >> 1], nodes, numbers):
        above = (at - 1) >> 1
        heap[at] = heap[above]
        nodes[heap[at], _PLACE] = at
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
        nodes[heap[at], _PLACE] = at
        at = below
    heap[at] = v
    nodes[v, _PLACE] = at


@lean
def _first_costs(
    pairs: Ints, links: Ints, used: int, nodes: Ints, numbers: Floats, room: Ints, changed: Ints
) -> None:
    """Fill costs: pairs of neighbours, less those that are joined."""
    for v in range(nodes.shape[0]):
        squares, total = 0.0, numbers[v, _SUM]
        for i in range(_neighbours(v, links, nodes, room)):
            squares += numbers[room[i], _WEIGHT] * numbers[room[i], _WEIGHT]
        numbers[v, _COST] = (total * total - squares) / 2.0
    for at in range(0, used, 2):
        a, b = links[at + 1, _TO], links[at, _TO]
        count, _ = _save(a, b, pairs, links, nodes, numbers, room, changed, 0)
        for i in range(count):
            nodes[changed[i], _CHANGED] = 0


@inner
def _read_graph(
    scope_ptr: Ints, scope_var: Ints, mentioned: Bools, nodes: Ints, numbers: Floats, room: Ints
) -> tuple[Ints, Ints, int]:
    """Join the free variables of each factor; return pairs, links, and the links used."""
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
                if nodes[v, _PLACE] >= 0:
                    for j in range(count):
                        if v != room[j] and not _joined(pairs, v, room[j], num_vars):
                            _join(v, room[j], pairs, links, used, nodes, numbers)
                            used += 2
                    room[count] = v
                    count += 1
    return pairs, links, used


@entry
def eliminate(
    scope_ptr: Ints, scope_var: Ints, used: Bools, free: Bools, states: Ints, stage: Bools,
    rule: int, noise: float, seed: int, limit: float, order: Ints, figures: Floats,
) -> None:  # fmt: skip
    """Eliminate greedily.

    Args:
        scope_ptr: ``(F + 1,)`` start of each factor's scope.
        scope_var: Variables of all scopes, one after the other.
        used: ``(F,)`` which factors count.
        free: ``(V,)`` variables to eliminate.
        states: ``(V,)`` numbers of states.
        stage: ``(V,)`` those that are false are eliminated first.
        rule: MIN_FILL, WEIGHTED_MIN_FILL or MIN_WEIGHT; ties go to the smallest variable.
        noise: Relative random perturbation of the costs (0: deterministic).
        seed: Of that perturbation.
        limit: Give up once the tables together have more entries than this.
        order: ``(N,)`` written.
        figures: ``(3,)`` written: the total and the largest number of table entries (total
            ``inf`` when given up), and the width (largest clique minus one).

    Cost:
        Time and memory near-linear in the size of the graph with its fill edges.
    """
    num_vars, size = free.shape[0], 0
    nodes, numbers = np.empty((num_vars, 5), np.int64), np.zeros((num_vars, 5))
    near, room = np.empty(num_vars + 1, np.int64), np.empty(num_vars + 1, np.int64)
    changed, heap = np.empty(num_vars, np.int64), np.empty(num_vars, np.int64)
    for v in range(num_vars):
        nodes[v, _LINK], nodes[v, _DEGREE], nodes[v, _CHANGED] = -1, 0, 0
        nodes[v, _STAGE], nodes[v, _PLACE] = stage[v], 0 if free[v] else -1
        numbers[v, _STATES], numbers[v, _WEIGHT] = states[v], 1.0
        if rule == WEIGHTED_MIN_FILL:
            numbers[v, _WEIGHT] = states[v]
        elif rule == MIN_WEIGHT:
            numbers[v, _WEIGHT] = np.log2(states[v])
    pairs, links, num_links = _read_graph(scope_ptr, scope_var, used, nodes, numbers, room)
    if rule != MIN_WEIGHT:
        _first_costs(pairs, links, num_links, nodes, numbers, room, changed)
    state = np.empty(1, np.int64)
    state[0] = (seed + 1) * 2654435769 + 88172645463325252
    for v in range(num_vars):
        if free[v]:
            _set_key(v, rule, noise, state, links, nodes, numbers, room)
            size += 1
            _settle(v, size - 1, heap, size, nodes, numbers)
    for i in range(3):
        figures[i] = 0.0
    for step in range(order.shape[0]):
        v = heap[0]
        order[step] = v
        size -= 1
        nodes[v, _PLACE] = -1
        if size > 0:
            _settle(heap[size], 0, heap, size, nodes, numbers)
        if figures[0] > _HOPELESS:
            continue
        num_near, entries, weight = _neighbours(v, links, nodes, near), numbers[v, _STATES], 0.0
        for i in range(num_near):
            entries *= numbers[near[i], _STATES]
            weight += numbers[near[i], _WEIGHT]
            nodes[near[i], _DEGREE] -= 1
            numbers[near[i], _SUM] -= numbers[v, _WEIGHT]
        figures[0] += entries
        figures[1] = max(figures[1], entries)
        figures[2] = max(figures[2], num_near)
        if figures[0] > limit:
            figures[0] = np.inf
            return
        if figures[0] > _HOPELESS:
            continue
        most = num_links + num_near * (num_near - 1)
        links = _more_links(links, num_links, most)
        pairs = _more_pairs(pairs, num_vars, most // 2)
        num_changed = 0
        for i in range(num_near):
            a = near[i]
            num_changed = _change(a, nodes, changed, num_changed)
            for j in range(i):
                b = near[j]
                if _joined(pairs, a, b, num_vars):
                    continue
                if rule != MIN_WEIGHT:
                    num_changed, shared = _save(
                        a, b, pairs, links, nodes, numbers, room, changed, num_changed
                    )
                    numbers[a, _COST] += numbers[b, _WEIGHT] * (numbers[a, _SUM] - shared)
                    numbers[b, _COST] += numbers[a, _WEIGHT] * (numbers[b, _SUM] - shared)
                _join(a, b, pairs, links, num_links, nodes, numbers)
                num_links += 2
        if rule != MIN_WEIGHT:
            for i in range(num_near):
                a = near[i]
                apart = numbers[a, _SUM] - (weight - numbers[a, _WEIGHT])
                numbers[a, _COST] -= numbers[v, _WEIGHT] * apart
        for i in range(num_changed):
            a = changed[i]
            nodes[a, _CHANGED] = 0
            _set_key(a, rule, noise, state, links, nodes, numbers, room)
            _settle(a, nodes[a, _PLACE], heap, size, nodes, numbers)
