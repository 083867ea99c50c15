"""Local fields: what each state of each element would add to the score, the rest as it stands.

Everything here works on one row: ``table`` holds all its tables flat, ``states`` one state for
each element, ``local`` one number for each state of each element, side by side.
"""

from __future__ import annotations

from pgnn.inference.kernels.compiled import inner


@inner
def entry_of(links, states, f):
    """Where the entry that factor ``f`` takes stands; of a Potts factor, its coupling if equal."""
    at = links.table[f]
    if links.potts[f]:
        first = links.scope_ptr[f]
        same = states[links.scope_var[first]] == states[links.scope_var[first + 1]]
        return at + 1 if same else at
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
            if links.potts[f]:
                other = links.scope_var[links.scope_ptr[f] + links.scope_ptr[f + 1] - 1 - s]
                start = links.table[f]
                for k in range(links.card[v]):
                    local[o + k] += table[start]
                local[o + states[other]] += table[start + 1] - table[start]
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
        if step == 0:  # Potts
            gain = table[start + 1] - table[start]
            local[o + old] -= gain
            local[o + new] += gain
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
