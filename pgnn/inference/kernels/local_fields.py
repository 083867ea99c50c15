"""Local fields: what each state of each element would add to the score, the rest as it stands.

Everything here works on one row: ``table`` holds all its tables flat, ``states`` one state for
each element, ``local`` one number for each state of each element, side by side.
"""

from __future__ import annotations

from pgnn.inference.kernels.compiled import entry, inner
from pgnn.inference.kernels.kinds import TABLE, add_row, change_row, entry_at


@inner
def entry_of(links, states, f):
    """Where the entry that factor ``f`` takes stands."""
    at = links.table[f]
    if links.kind[f] != TABLE:
        first = links.scope_ptr[f]
        x, y = states[links.scope_var[first]], states[links.scope_var[first + 1]]
        return entry_at(links.kind[f], at, x, y)
    for s in range(links.scope_ptr[f], links.scope_ptr[f + 1]):
        at += states[links.scope_var[s]] * links.stride[s]
    return at


@inner
def fill(links, table, states, local):
    """Add every factor to the local fields of its elements; return the sum of the factors."""
    total = 0.0
    for f in range(links.table.shape[0]):
        at = entry_of(links, states, f)
        total += table[at]
        for s in range(links.scope_ptr[f], links.scope_ptr[f + 1]):
            v = links.scope_var[s]
            o = links.offset[v]
            if links.kind[f] != TABLE:
                other = links.scope_var[links.scope_ptr[f] + links.scope_ptr[f + 1] - 1 - s]
                first = links.table[f]
                add_row(links.kind[f], table, first, states[other], links.card[v], local, o)
            else:
                step = links.stride[s]
                at_zero = at - states[v] * step
                for k in range(links.card[v]):
                    local[o + k] += table[at_zero + k * step]
    return total


@inner
def change(links, table, states, local, v, new):
    """Put element ``v`` into a new state, and bring its neighbours' local fields up to date.

    ``O(degree K)``. The element's own field does not depend on its state.
    """
    old = states[v]
    for i in range(links.pair_ptr[v], links.pair_ptr[v + 1]):
        o = links.pair[i, 0]
        start = links.pair[i, 2]
        step = links.pair[i, 4]
        if links.pair[i, 3] < 0:
            change_row(step, table, start, old, new, links.pair[i, 1], local, o)
        else:
            before = start + old * links.pair[i, 3]
            after = start + new * links.pair[i, 3]
            for k in range(links.pair[i, 1]):
                local[o + k] += table[after + k * step] - table[before + k * step]
    for i in range(links.wide_ptr[v], links.wide_ptr[v + 1]):
        slot = links.wide_slot[i]
        f = links.slot_factor[slot]
        at = entry_of(links, states, f)
        moved = (new - old) * links.stride[slot]
        for s in range(links.scope_ptr[f], links.scope_ptr[f + 1]):
            if s != slot:
                u = links.scope_var[s]
                step = links.stride[s]
                o = links.offset[u]
                at_zero = at - states[u] * step
                for k in range(links.card[u]):
                    e = at_zero + k * step
                    local[o + k] += table[e + moved] - table[e]
    states[v] = new


@entry
def score_rows(wiring, tables, fields, rows, states, scores):
    """Write the log scores of complete rows, without constants.

    Args:
        wiring: Of the graph.
        tables: ``(1, T)`` or ``(B, T)`` log values.
        fields: ``(B, S)`` log fields.
        rows: ``(N,)`` the row that each assignment belongs to.
        states: ``(N, E)`` assignments.
        scores: ``(N,)`` written.
    """
    for n in range(states.shape[0]):
        row = rows[n]
        table = tables[row if tables.shape[0] > 1 else 0]
        total = 0.0
        for v in range(wiring.card.shape[0]):
            total += fields[row, wiring.offset[v] + states[n, v]]
        for f in range(wiring.table.shape[0]):
            total += table[entry_of(wiring, states[n], f)]
        scores[n] = total
