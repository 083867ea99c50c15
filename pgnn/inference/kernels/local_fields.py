"""Local fields: the score of each state of each element given the current states of the others.

All functions work on one row: ``table`` holds all its tables, flat, ``states`` the state of each
element, ``local`` one value for each state of each element, concatenated.
"""

from __future__ import annotations

from pgnn.factors.groups.kernel_kinds import TABLE
from pgnn.inference.kernels.compiled import entry, inner
from pgnn.inference.kernels.kinds import add_row, change_row, entry_at


@inner
def entry_of(wiring, states, f):
    """Offset of the entry of factor ``f`` at the current states."""
    at = wiring.table[f]
    if wiring.kind[f] != TABLE:
        first = wiring.factor_ptr[f]
        x, y = states[wiring.slot_var[first]], states[wiring.slot_var[first + 1]]
        return entry_at(wiring.kind[f], at, x, y)
    for s in range(wiring.factor_ptr[f], wiring.factor_ptr[f + 1]):
        at += states[wiring.slot_var[s]] * wiring.stride[s]
    return at


@inner
def fill(wiring, table, states, local):
    """Add every factor to the local fields of its elements; return the sum of the factors."""
    total = 0.0
    for f in range(wiring.table.shape[0]):
        at = entry_of(wiring, states, f)
        total += table[at]
        for s in range(wiring.factor_ptr[f], wiring.factor_ptr[f + 1]):
            v = wiring.slot_var[s]
            o = wiring.offset[v]
            if wiring.kind[f] != TABLE:
                other = wiring.slot_var[wiring.factor_ptr[f] + wiring.factor_ptr[f + 1] - 1 - s]
                first = wiring.table[f]
                add_row(wiring.kind[f], table, first, states[other], wiring.card[v], local, o)
            else:
                step = wiring.stride[s]
                at_zero = at - states[v] * step
                for k in range(wiring.card[v]):
                    local[o + k] += table[at_zero + k * step]
    return total


@inner
def change(wiring, table, states, local, v, new):
    """Change the state of element ``v``, and update the local fields of its neighbours.

    ``O(degree K)``. The element's own field does not depend on its state.
    """
    old = states[v]
    for i in range(wiring.pair_ptr[v], wiring.pair_ptr[v + 1]):
        o = wiring.pair[i, 0]
        start = wiring.pair[i, 2]
        step = wiring.pair[i, 4]
        if wiring.pair[i, 3] < 0:
            change_row(step, table, start, old, new, wiring.pair[i, 1], local, o)
        else:
            before = start + old * wiring.pair[i, 3]
            after = start + new * wiring.pair[i, 3]
            for k in range(wiring.pair[i, 1]):
                local[o + k] += table[after + k * step] - table[before + k * step]
    for i in range(wiring.wide_ptr[v], wiring.wide_ptr[v + 1]):
        slot = wiring.wide_slot[i]
        f = wiring.slot_factor[slot]
        at = entry_of(wiring, states, f)
        moved = (new - old) * wiring.stride[slot]
        for s in range(wiring.factor_ptr[f], wiring.factor_ptr[f + 1]):
            if s != slot:
                u = wiring.slot_var[s]
                step = wiring.stride[s]
                o = wiring.offset[u]
                at_zero = at - states[u] * step
                for k in range(wiring.card[u]):
                    e = at_zero + k * step
                    local[o + k] += table[e + moved] - table[e]
    states[v] = new


@entry
def score_rows(wiring, tables, fields, rows, states, scores, stop):
    """Write the log scores of complete rows, without constants.

    Args:
        wiring: Wiring of the graph.
        tables: ``(1, T)`` or ``(B, T)`` log values.
        fields: ``(B, S)`` log fields.
        rows: ``(N,)`` the row that each assignment belongs to.
        states: ``(N, E)`` assignments.
        scores: ``(N,)`` output.
        stop: Flag that is checked before each row.
    """
    for n in range(states.shape[0]):
        if stop[0]:
            break
        row = rows[n]
        table = tables[row if tables.shape[0] > 1 else 0]
        total = 0.0
        for v in range(wiring.card.shape[0]):
            total += fields[row, wiring.offset[v] + states[n, v]]
        for f in range(wiring.table.shape[0]):
            total += table[entry_of(wiring, states[n], f)]
        scores[n] = total
