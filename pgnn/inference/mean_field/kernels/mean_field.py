"""Mean field: expected log tables under a product of independent distributions."""

from __future__ import annotations

import numpy as np

from pgnn.factors.groups.kernel_kinds import TABLE
from pgnn.inference.kernels.compiled import entry, inlined, inner
from pgnn.inference.kernels.joint_states import next_joint_state
from pgnn.inference.kernels.kinds import add_expected_row


@inner
def _expect_many(wiring, table, q, slot, states, out):
    """:func:`_expect` for a table over three or more elements."""
    card, offset, slot_var = wiring.card, wiring.offset, wiring.slot_var
    f = wiring.slot_factor[slot]
    first, last = wiring.factor_ptr[f], wiring.factor_ptr[f + 1] - 1
    me = slot - first
    innermost = slot_var[last]
    num, at = card[innermost], offset[innermost]
    for d in range(last - first):
        states[d] = 0
    entry_at = wiring.table[f]
    d = 0
    while d >= 0:
        weight = 1.0
        for d in range(last - first):
            if d != me:
                weight *= q[offset[slot_var[first + d]] + states[d]]
        if weight > 0.0 and slot == last:
            for k in range(num):
                out[k] += weight * table[entry_at + k]
        elif weight > 0.0:
            total = 0.0
            for k in range(num):
                if q[at + k] > 0.0:
                    total += q[at + k] * table[entry_at + k]
            out[states[me]] += weight * total
        entry_at += num
        d = next_joint_state(card, slot_var, first, last, states)


@inlined
def _expect_pair(card, at, num, by_rows, kind, table, base, q, out):
    """:func:`_expect` for a table over two elements; the other one's distribution is ``q[at:]``."""
    if kind != TABLE:
        add_expected_row(kind, table, base, q, at, card, out)
    elif by_rows:
        for k in range(card):
            total = 0.0
            for j in range(num):
                if q[at + j] > 0.0:  # 0 * -inf = 0
                    total += q[at + j] * table[base + k * num + j]
            out[k] += total
    else:
        for j in range(num):
            if q[at + j] > 0.0:
                for k in range(card):
                    out[k] += q[at + j] * table[base + j * card + k]


@inlined
def _expect(wiring, table, q, slot, states, out):
    """Add a factor's expected log table to ``out``, as a function of the element at ``slot``."""
    f = wiring.slot_factor[slot]
    first = wiring.factor_ptr[f]
    if wiring.factor_ptr[f + 1] - first > 2:
        _expect_many(wiring, table, q, slot, states, out)
    else:
        other = wiring.slot_var[2 * first + 1 - slot]
        at, base, card = wiring.offset[other], wiring.table[f], wiring.card[wiring.slot_var[slot]]
        _expect_pair(
            card, at, wiring.card[other], slot == first, wiring.kind[f], table, base, q, out
        )


@inner
def _normalize(logits, num, q, at):
    """Write the softmax of ``logits`` and return the largest change of a probability."""
    best = 0
    for k in range(1, num):
        if logits[k] > logits[best]:
            best = k
    top, total = logits[best], 1.0
    if top == -np.inf:  # the others exclude all states: the distribution is unchanged
        return 0.0
    for k in range(num):
        if k == best:
            logits[k] = 1.0
        else:
            logits[k] = np.exp(logits[k] - top)
            total += logits[k]
    change = 0.0
    for k in range(num):
        value = logits[k] / total
        change = max(change, abs(value - q[at + k]))
        q[at + k] = value
    return change


@entry
def sweep(wiring, sizes, tables, fields, todo, elements, all_q, change, stop):
    """Set the distribution of each element in turn to its optimum given the others.

    Args:
        wiring: Wiring of the graph.
        sizes: Largest number of states of an element, and of elements of a factor.
        tables: ``(1, T)`` or ``(B, T)`` log tables.
        fields: ``(B, S)`` log fields, the evidence included.
        todo: Rows to update.
        elements: Indices of the elements, in the order of the updates.
        all_q: ``(B, S)`` probabilities, updated in place.
        change: ``(B,)`` output: the largest change of a probability.
        stop: Flag that is checked at each element.
    """
    logits, states = np.empty(sizes[0]), np.zeros(sizes[1], np.int64)
    # local names: each access to an array of a tuple costs a reference count
    card, offset, factor_ptr, slot_var = wiring[:4]
    slot_factor, var_ptr, var_slot = wiring.slot_factor, wiring.var_ptr, wiring.var_slot
    kind, base = wiring.kind, wiring.table
    for r in todo:
        table, field, q = tables[min(r, len(tables) - 1)], fields[r], all_q[r]
        change[r] = 0.0
        for i in elements:
            at, num = offset[i], card[i]
            if stop[0]:
                return
            possible = 0
            for k in range(num):
                logits[k] = field[at + k]
                possible += logits[k] > -np.inf
            if possible <= 1:
                continue
            for s in range(var_ptr[i], var_ptr[i + 1]):
                slot = var_slot[s]
                f = slot_factor[slot]
                first = factor_ptr[f]
                if factor_ptr[f + 1] - first > 2:
                    _expect_many(wiring, table, q, slot, states, logits)
                else:
                    j = slot_var[2 * first + 1 - slot]
                    _expect_pair(
                        num, offset[j], card[j], slot == first, kind[f], table, base[f], q, logits
                    )
            change[r] = max(change[r], _normalize(logits, num, q, at))


@entry
def messages(wiring, sizes, tables, todo, elements, all_q, counted, out, stop):
    """Add the expected log tables of some factors to ``out``, by some elements' states.

    Args:
        wiring, sizes, tables, todo, elements, all_q: See :func:`sweep`.
        counted: ``(F,)`` the factors to include.
        out: ``(len(todo), .)`` added to; the states of the elements are concatenated.
    """
    states = np.zeros(sizes[1], np.int64)
    for t in range(len(todo)):
        if stop[0]:
            return
        r = todo[t]
        table, q = tables[min(r, len(tables) - 1)], all_q[r]
        at = 0
        for i in elements:
            logits = out[t, at : at + wiring.card[i]]
            at += wiring.card[i]
            for s in range(wiring.var_ptr[i], wiring.var_ptr[i + 1]):
                slot = wiring.var_slot[s]
                if counted[wiring.slot_factor[slot]]:
                    _expect(wiring, table, q, slot, states, logits)


@entry
def energies(wiring, sizes, tables, todo, all_q, counted, out, stop):
    """Write ``out[row]``, the sum of some factors' expected log tables; see :func:`messages`."""
    logits, states = np.empty(sizes[0]), np.zeros(sizes[1], np.int64)
    for r in todo:
        if stop[0]:
            return
        table, q = tables[min(r, len(tables) - 1)], all_q[r]
        total = 0.0
        for f in range(len(wiring.factor_ptr) - 1):
            if counted[f]:
                i = wiring.slot_var[wiring.factor_ptr[f]]
                at, num = wiring.offset[i], wiring.card[i]
                logits[:num] = 0.0
                _expect(wiring, table, q, wiring.factor_ptr[f], states, logits)
                for k in range(num):
                    if q[at + k] > 0.0:
                        total += q[at + k] * logits[k]
        out[r] = total
