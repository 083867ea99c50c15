"""Tables of full conditionals for all states of an element's neighbours."""

from __future__ import annotations

import numpy as np

from pgnn.inference.kernels.compiled import entry, inner
from pgnn.inference.sampling.kernels.gibbs import most_states, normalized, numbers_of


@inner
def _blanket(wiring, e, limit, neighbours):
    """Write the neighbours of ``e`` with several states; return their number and joint states.

    The number of joint states is -1 if it exceeds ``limit``.
    """
    num, states = 0, 1
    for q in range(wiring.var_ptr[e], wiring.var_ptr[e + 1]):
        f = wiring.slot_factor[wiring.var_slot[q]]
        for slot in range(wiring.factor_ptr[f], wiring.factor_ptr[f + 1]):
            v = wiring.slot_var[slot]
            if v == e or wiring.card[v] == 1:
                continue
            known = False
            for j in range(num):
                known = known or neighbours[j] == v
            if not known:
                states *= wiring.card[v]
                if states > limit:
                    return -1, 0
                neighbours[num] = v
                num += 1
    return num, states


@entry
def count_neighbours(wiring, limit, ptr, size):
    """Write ``(E + 1,)`` first index of each element's neighbours, and their joint states.

    An element whose neighbours have more than ``limit`` joint states is marked by -1, without
    neighbours.
    """
    neighbours = np.zeros(64, np.int64)
    ptr[0] = 0
    for e in range(wiring.card.shape[0]):
        count, states = _blanket(wiring, e, limit, neighbours)
        ptr[e + 1] = ptr[e] + max(count, 0)
        size[e] = states if count >= 0 else -1


@entry
def blankets(wiring, limit, ptr, size, neighbour):
    """Write the elements' neighbours, after :func:`count_neighbours`."""
    for e in range(wiring.card.shape[0]):
        if size[e] >= 0:
            _blanket(wiring, e, limit, neighbour[ptr[e] :])


@inner
def _mixed(h, x):
    """Hash one more integer (the finaliser of SplitMix64)."""
    h = (h ^ np.uint64(np.int64(x))) + np.uint64(0x9E3779B97F4A7C15)
    h = (h ^ (h >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    h = (h ^ (h >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return h ^ (h >> np.uint64(31))


@inner
def _contents(wiring, table):
    """``(F,)`` hashes of the factors' tables."""
    out = np.zeros(wiring.table.shape[0], np.uint64)
    for f in range(out.shape[0]):
        if f > 0 and wiring.table[f] == wiring.table[f - 1]:
            out[f] = out[f - 1]
            continue
        h = _mixed(_mixed(np.uint64(0), wiring.size[f]), wiring.kind[f])
        for p in range(table.shape[0]):
            for k in range(wiring.size[f]):
                h = _mixed(h, table[p, wiring.table[f] + k])
        out[f] = h
    return out


@entry
def signatures(wiring, blankets, field, table, out):
    """Hash the elements; elements with equal hashes have the same table of full conditionals.

    The chance that two of a million different elements collide is below 1e-7.

    Args:
        wiring: Wiring of the graph.
        blankets: ``ptr``, ``neighbour`` and ``size`` of :func:`blankets`.
        field: ``(P, S)`` unary potentials, the bits of doubles read as int64.
        table: ``(P, T)`` tables, likewise.
        out: ``(E,)`` output: the hashes.
    """
    ptr, neighbour, size = blankets
    content = _contents(wiring, table)
    for e in range(wiring.card.shape[0]):
        h = _mixed(np.uint64(wiring.card[e]), size[e])
        if size[e] < 0:
            out[e] = h
            continue
        for p in range(field.shape[0]):
            for c in range(wiring.offset[e], wiring.offset[e + 1]):
                h = _mixed(h, field[p, c])
        for q in range(wiring.var_ptr[e], wiring.var_ptr[e + 1]):
            slots = wiring.var_slot[q]
            f = wiring.slot_factor[slots]
            h = _mixed(_mixed(h, np.int64(content[f])), slots - wiring.factor_ptr[f])
            for slot in range(wiring.factor_ptr[f], wiring.factor_ptr[f + 1]):
                v = wiring.slot_var[slot]
                place = -1
                for j in range(ptr[e], ptr[e + 1]):
                    if neighbour[j] == v:
                        place = j - ptr[e]
                h = _mixed(_mixed(h, place), wiring.card[v])
        out[e] = h


@entry
def tabulate(program, elements, stop):
    """Fill ``program.values`` with the full conditionals of some tabulated elements."""
    states = np.zeros(program.card.shape[0], np.uint16)
    weights = np.zeros(most_states(program))
    for p in range(program.values.shape[0]):
        numbers = numbers_of(program, p)
        for e in elements:
            if stop[0]:
                return
            at = np.int64(program.table[e])
            first, last = np.int64(program.link_ptr[e]), np.int64(program.link_ptr[e + 1])
            for j in range(first, last):
                states[program.neighbour[j]] = 0
            more = True
            while more:
                normalized(program, numbers, e, states, weights)
                for s in range(program.card[e]):
                    program.values[p, at + s] = weights[s]
                at += np.int64(program.card[e])
                more = False
                for j in range(last - 1, first - 1, -1):  # count up, the last neighbour fastest
                    v = program.neighbour[j]
                    states[v] += np.uint16(1)
                    if np.uint32(states[v]) < program.card[v]:
                        more = True
                        break
                    states[v] = 0
