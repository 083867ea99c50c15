"""Greedy exact improvement: single elements, pairs of neighbours, and induced forests."""

from __future__ import annotations

import numpy as np

from pgnn.factors.groups.kernel_kinds import TABLE
from pgnn.inference.kernels.compiled import entry, inner
from pgnn.inference.kernels.kinds import add_interaction
from pgnn.inference.kernels.local_fields import change, entry_of, fill

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_FIRST = np.uint64(0xBF58476D1CE4E5B9)
_SECOND = np.uint64(0x94D049BB133111EB)


@inner
def _below(state, n):
    """An integer in ``[0, n)`` by SplitMix64 (Steele, Lea & Flood 2014)."""
    state[0] += _GOLDEN
    x = state[0]
    x = (x ^ (x >> np.uint64(30))) * _FIRST
    x = (x ^ (x >> np.uint64(27))) * _SECOND
    x = x ^ (x >> np.uint64(31))
    return np.int64(x % np.uint64(n))


@inner
def _push(queue, ends, waiting, v):
    """Append an element to the ring buffer, unless it is already queued."""
    if not waiting[v]:
        waiting[v] = True
        queue[ends[1] % queue.shape[0]] = v
        ends[1] += 1


@inner
def _pop(queue, ends, waiting):
    v = queue[ends[0] % queue.shape[0]]
    ends[0] += 1
    waiting[v] = False
    return v


@inner
def _move(wiring, near, table, states, local, v, new, work):
    """Change an element, and queue it and its neighbours for single and pairwise updates."""
    change(wiring, table, states, local, v, new)
    _push(work.singles, work.single_ends, work.single_waiting, v)
    _push(work.pairs, work.pair_ends, work.pair_waiting, v)
    for i in range(near.ptr[v], near.ptr[v + 1]):
        u = near.var[i]
        _push(work.singles, work.single_ends, work.single_waiting, u)
        _push(work.pairs, work.pair_ends, work.pair_waiting, u)


@inner
def _singles(wiring, near, table, states, free, local, tolerance, work):
    """Update single elements until none improves the score."""
    while work.single_ends[0] < work.single_ends[1]:
        v = _pop(work.singles, work.single_ends, work.single_waiting)
        if not free[v]:
            continue
        o = wiring.offset[v]
        best, top = states[v], local[o + states[v]] + tolerance
        for k in range(wiring.card[v]):
            if local[o + k] > top:
                best, top = k, local[o + k]
        if best != states[v]:
            _move(wiring, near, table, states, local, v, best, work)


@inner
def _interaction(wiring, near, table, states, v, edge, swap):
    r"""The gain of a joint change of two neighbours beyond the gains of both single changes.

    ``swap[a, b]`` :math:`= \sum_f \theta_f(a, b) - \theta_f(a, x_u) - \theta_f(x_v, b)
    + \theta_f(x_v, x_u)` over the factors that contain both.
    """
    u = near.var[edge]
    x, y = states[v], states[u]
    for a in range(wiring.card[v]):
        for b in range(wiring.card[u]):
            swap[a, b] = 0.0
    for i in range(near.shared_ptr[edge], near.shared_ptr[edge + 1]):
        first, second = near.shared[i, 0], near.shared[i, 1]
        f = wiring.slot_factor[first]
        if wiring.kind[f] != TABLE:
            add_interaction(
                wiring.kind[f], table, wiring.table[f], x, y, wiring.card[v], wiring.card[u], swap
            )
            continue
        at = entry_of(wiring, states, f)
        step, skip = wiring.stride[first], wiring.stride[second]
        for a in range(wiring.card[v]):
            moved = at + (a - x) * step
            base = table[at] - table[moved]
            for b in range(wiring.card[u]):
                by = (b - y) * skip
                swap[a, b] += base + table[moved + by] - table[at + by]


@inner
def _pairs(wiring, near, table, states, free, local, tolerance, work):
    """Update pairs of neighbours, with single updates in between, until none improves the score."""
    while work.pair_ends[0] < work.pair_ends[1]:
        v = _pop(work.pairs, work.pair_ends, work.pair_waiting)
        if not free[v]:
            continue
        for edge in range(near.ptr[v], near.ptr[v + 1]):
            u = near.var[edge]
            # if both are queued, one update suffices
            if not free[u] or (work.pair_waiting[u] and u > v):
                continue
            _interaction(wiring, near, table, states, v, edge, work.swap)
            o, q = wiring.offset[v], wiring.offset[u]
            base = local[o + states[v]] + local[q + states[u]]
            top, one, two = tolerance, states[v], states[u]
            for a in range(wiring.card[v]):
                for b in range(wiring.card[u]):
                    gain = local[o + a] + local[q + b] + work.swap[a, b] - base
                    if gain > top:
                        top, one, two = gain, a, b
            if top > tolerance:
                if one != states[v]:
                    _move(wiring, near, table, states, local, v, one, work)
                if two != states[u]:
                    _move(wiring, near, table, states, local, u, two, work)
                _singles(wiring, near, table, states, free, local, tolerance, work)


@inner
def _grow(near, free, state, work):
    """Choose an induced forest, breadth first from random roots; return its size."""
    num = free.shape[0]
    for v in range(num):
        work.touching[v] = 0  # number of neighbours in the forest; -1 for members
        work.visited[v] = not free[v]
        work.roots[v] = v
    size, head, left = 0, 0, num
    while left > 0 or head < size:
        if head < size:
            v = work.order[head]
            head += 1
            degree = near.ptr[v + 1] - near.ptr[v]
            first = _below(state, degree) if degree else 0
            for j in range(degree):
                edge = near.ptr[v] + (first + j) % degree
                u = near.var[edge]
                if not work.visited[u] and work.touching[u] == 1:
                    size = _join(near, u, v, size, work)
            continue
        pick = _below(state, left)
        v = work.roots[pick]
        left -= 1
        work.roots[pick] = work.roots[left]
        if not work.visited[v] and work.touching[v] == 0:
            size = _join(near, v, -1, size, work)
    return size


@inner
def _join(near, v, parent, size, work):
    work.visited[v] = True
    work.order[size] = v
    work.up[v] = -1
    for i in range(near.ptr[v], near.ptr[v + 1]):
        work.touching[near.var[i]] += 1
        if near.var[i] == parent:
            work.up[v] = i
    return size + 1


@inner
def _forest(wiring, near, table, states, free, local, tolerance, state, work):
    """Set a random forest to its jointly best states (max-product); return the gain."""
    size = _grow(near, free, state, work)
    for i in range(size):
        o = wiring.offset[work.order[i]]
        now = local[o + states[work.order[i]]]
        for k in range(wiring.card[work.order[i]]):
            work.gain[o + k] = local[o + k] - now
    for i in range(size - 1, -1, -1):
        v = work.order[i]
        if work.up[v] >= 0:
            u = near.var[work.up[v]]
            _interaction(wiring, near, table, states, v, work.up[v], work.swap)
            for b in range(wiring.card[u]):
                top = -np.inf
                for a in range(wiring.card[v]):
                    top = max(top, work.gain[wiring.offset[v] + a] + work.swap[a, b])
                work.gain[wiring.offset[u] + b] += top
    total = 0.0
    for i in range(size):
        v = work.order[i]
        o = wiring.offset[v]
        b = -1
        if work.up[v] >= 0:
            b = work.chosen[near.var[work.up[v]]]
            _interaction(wiring, near, table, states, v, work.up[v], work.swap)
        best, top = (
            states[v],
            work.gain[o + states[v]] + (work.swap[states[v], b] if b >= 0 else 0.0),
        )
        for a in range(wiring.card[v]):
            value = work.gain[o + a] + (work.swap[a, b] if b >= 0 else 0.0)
            if value > top:
                best, top = a, value
        work.chosen[v] = best
        if b < 0:
            total += top
    if total > tolerance:
        for i in range(size):
            v = work.order[i]
            if work.chosen[v] != states[v]:
                _move(wiring, near, table, states, local, v, work.chosen[v], work)
    return total


@entry
def polish(wiring, near, log_tables, fields, free, which, tolerance, patience, states, work, stop):
    """Improve assignments by single, pairwise and forest updates.

    Args:
        wiring: See :class:`pgnn.inference.wiring.LocalWiring`.
        near: See :class:`pgnn.inference.wiring.Neighbours`.
        log_tables: ``(1, T)`` or ``(B, T)`` finite log values.
        fields: ``(B, S)`` finite unary log potentials.
        free: ``(N, E)`` elements that may change.
        which: ``(n, 2)`` the row and the index of each assignment to improve.
        tolerance: Gains up to this count as rounding errors.
        patience: Number of consecutive forests without a gain after which a row is finished.
        states: ``(N, E)`` improved in place.
        work: Scratch, see :class:`pgnn.inference.local_search.Work`.
        stop: Flag that is checked before each forest.
    """
    state = np.zeros(1, np.uint64)
    local = np.empty(fields.shape[1])
    for j in range(which.shape[0]):
        row, n = which[j, 0], which[j, 1]
        table = log_tables[row if log_tables.shape[0] > 1 else 0]
        state[0] = np.uint64(0)
        x = states[n]
        local[:] = fields[row]
        fill(wiring, table, x, local)
        for v in range(x.shape[0]):
            _push(work.singles, work.single_ends, work.single_waiting, v)
            _push(work.pairs, work.pair_ends, work.pair_waiting, v)
        idle = 0
        while not stop[0]:
            _singles(wiring, near, table, x, free[n], local, tolerance, work)
            _pairs(wiring, near, table, x, free[n], local, tolerance, work)
            while idle < patience and not stop[0]:
                gain = _forest(wiring, near, table, x, free[n], local, tolerance, state, work)
                idle = 0 if gain > tolerance else idle + 1
                if idle == 0:
                    break
            if work.single_ends[0] == work.single_ends[1]:
                break
