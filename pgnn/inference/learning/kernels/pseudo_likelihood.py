"""Log pseudo-likelihood of complete rows, and its gradient."""

from __future__ import annotations

import numpy as np

from pgnn.factors.groups.kernel_kinds import TABLE
from pgnn.inference.kernels.compiled import entry, inlined, inner
from pgnn.inference.kernels.kinds import add_row, add_row_gradient


@inner
def _fill(wiring, table, states, local):
    """Add each factor's log values for each of its elements given the states of the others."""
    card, offset, stride, kind = wiring.card, wiring.offset, wiring.stride, wiring.kind
    ptr, var, first = wiring.factor_ptr, wiring.slot_var, wiring.table
    for f in range(first.shape[0]):
        begin, end = ptr[f], ptr[f + 1]
        if kind[f] != TABLE:
            i, j = var[begin], var[begin + 1]
            add_row(kind[f], table, first[f], states[j], card[i], local, offset[i])
            add_row(kind[f], table, first[f], states[i], card[j], local, offset[j])
            continue
        at = first[f]
        for s in range(begin, end):
            at += states[var[s]] * stride[s]
        for s in range(begin, end):
            v, step = var[s], stride[s]
            at_zero = at - states[v] * step
            for k in range(card[v]):
                local[offset[v] + k] += table[at_zero + k * step]


@inner
def _pull(wiring, states, local, gradient):
    """Add derivatives by fields to those by the table entries of :func:`_fill`."""
    card, offset, stride, kind = wiring.card, wiring.offset, wiring.stride, wiring.kind
    ptr, var, first = wiring.factor_ptr, wiring.slot_var, wiring.table
    for f in range(first.shape[0]):
        begin, end = ptr[f], ptr[f + 1]
        if kind[f] != TABLE:
            i, j = var[begin], var[begin + 1]
            add_row_gradient(kind[f], gradient, first[f], states[j], card[i], local, offset[i])
            add_row_gradient(kind[f], gradient, first[f], states[i], card[j], local, offset[j])
            continue
        at = first[f]
        for s in range(begin, end):
            at += states[var[s]] * stride[s]
        for s in range(begin, end):
            v, step = var[s], stride[s]
            at_zero = at - states[v] * step
            for k in range(card[v]):
                gradient[at_zero + k * step] += local[offset[v] + k]


@inlined
def _conditional(local, begin, end, state, share):
    """Return ``log p(own | rest)``; replace fields by its derivatives, times ``share``."""
    best = begin
    for k in range(begin + 1, end):
        if local[k] > local[best]:
            best = k
    top, score, total = local[best], local[state], 1.0
    if score == -np.inf:
        for k in range(begin, end):
            local[k] = 0.0
    else:
        for k in range(begin, end):
            if k != best:
                local[k] = np.exp(local[k] - top)
                total += local[k]
        local[best] = 1.0
        score -= top + np.log(total)
        for k in range(begin, end):
            local[k] *= -share / total
        local[state] += share
    return score


@entry
def mean(
    wiring, tables, fields, codes, shares, rows, table_gradient, field_gradient, stop
) -> float:
    """Return the weighted sum of the log pseudo-likelihood over some rows.

    Args:
        wiring: Wiring of the graph.
        tables: ``(1, T)`` or ``(B, T)`` log values.
        fields: ``(1, S)`` or ``(B, S)`` unary log potentials.
        codes: ``(B, E)`` int32 states.
        shares: ``(B,)`` weight of each row.
        rows: Indices of the rows.
        table_gradient: ``(1, T)`` or ``(B, T)``; derivatives are added to it.
        field_gradient: ``(1, S)`` or ``(B, S)``; derivatives are added to it.
        stop: Flag that is checked before each row.

    Cost:
        Two passes over the slices of each factor, per row.
    """
    local, offset, value = np.empty(fields.shape[1]), wiring.offset, 0.0
    for r in rows:
        if stop[0]:
            break
        states = codes[r]
        local[:] = fields[r % fields.shape[0]]
        _fill(wiring, tables[r % tables.shape[0]], states, local)
        total = 0.0
        for v in range(states.shape[0]):
            begin = offset[v]
            total += _conditional(local, begin, offset[v + 1], begin + states[v], shares[r])
        value += shares[r] * total
        _pull(wiring, states, local, table_gradient[r % table_gradient.shape[0]])
        field_gradient[r % field_gradient.shape[0]] += local
    return value
