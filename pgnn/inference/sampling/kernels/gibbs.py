"""Gibbs sweeps: every element drawn from its distribution given all others."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from pgnn.factors.groups.kernel_kinds import TABLE
from pgnn.inference.kernels.compiled import entry, inlined, inner
from pgnn.inference.kernels.kinds import add_row, multiply_row


@inner
def _by_falling(degree):
    """Elements by falling degree, those of one degree in order (a counting sort)."""
    most = 0
    for d in degree:
        most = max(most, d)
    place = np.zeros(most + 2, np.int64)
    for d in degree:
        place[most - d + 1] += 1
    for d in range(most + 1):
        place[d + 1] += place[d]
    order = np.zeros(degree.shape[0], np.int64)
    for e in range(degree.shape[0]):
        d = most - degree[e]
        order[place[d]] = e
        place[d] += 1
    return order


@entry
def colour(wiring, colours):
    """Give each element the smallest colour that no neighbour has, most neighbours first.

    Of elements with as many neighbours, the one of lower number comes first.

    Args:
        wiring: Which factors touch which elements.
        colours: ``(E,)`` written: colours from zero, at most the largest number of neighbours plus
            one.
    """
    num = wiring.card.shape[0]
    observed = np.full(num, -1, np.int64)
    degree = np.zeros(num, np.int64)
    for e in range(num):
        observed[e] = e
        for q in range(wiring.var_ptr[e], wiring.var_ptr[e + 1]):
            f = wiring.slot_factor[wiring.var_slot[q]]
            for slot in range(wiring.factor_ptr[f], wiring.factor_ptr[f + 1]):
                v = wiring.slot_var[slot]
                if observed[v] != e:
                    observed[v] = e
                    degree[e] += 1
    colours[:] = -1
    taken = np.full(num + 1, -1, np.int64)
    for e in _by_falling(degree):
        for q in range(wiring.var_ptr[e], wiring.var_ptr[e + 1]):
            f = wiring.slot_factor[wiring.var_slot[q]]
            for slot in range(wiring.factor_ptr[f], wiring.factor_ptr[f + 1]):
                c = colours[wiring.slot_var[slot]]
                if c >= 0:
                    taken[c] = e
        free = 0
        while taken[free] == e:
            free += 1
        colours[e] = free


_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_TINY = 1e-100


class GibbsProgram(NamedTuple):
    """What a sweep reads.

    An element is *tabulated* where its full conditionals, for all states of its neighbours, stand
    in ``values``; elsewhere they are multiplied from the factors' tables at each visit.
    ``P`` programs of one structure differ in their numbers (rows of evidence, temperatures).
    Integers are uint32, because numba looks for a negative index otherwise.

    Attributes:
        card: ``(E,)`` state counts.
        offset: ``(E,)`` first column of each element.
        tabulated: ``(E,)`` which elements are.
        table: ``(E,)`` first of their values; elements alike share them.
        link_ptr: ``(E + 1,)`` first neighbour of each element; none if not tabulated.
        neighbour: Elements.
        link_stride: Step in ``values`` for a state of the neighbour.
        wiring: Which factors touch which elements.
        values: ``(P, V)`` full conditionals, an element's states side by side.
        linear: ``(1 or P, T)`` tables, each scaled to a largest entry of one.
        field: ``(1 or P, S)`` fields, likewise.
        log_linear: Their logarithms.
        log_field: Their logarithms.
    """

    card: Any
    offset: Any
    tabulated: Any
    table: Any
    link_ptr: Any
    neighbour: Any
    link_stride: Any
    wiring: Any
    values: Any
    linear: Any
    field: Any
    log_linear: Any
    log_field: Any


class GibbsNumbers(NamedTuple):
    """The numbers of one of the ``P`` programs."""

    values: Any
    linear: Any
    field: Any
    log_linear: Any
    log_field: Any


@inlined
def uniform(counter):
    """The number in [0, 1) that SplitMix64 (Steele, Lea & Flood 2014) makes of its counter."""
    x = (counter ^ (counter >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    x = x ^ (x >> np.uint64(31))
    return np.float64(np.int64(x >> np.uint64(11))) * (1.0 / 9007199254740992.0)


@inner
def most_states(program):
    """The largest state count."""
    most = np.uint32(1)
    for card in program.card:
        most = max(most, card)
    return np.int64(most)


@inner
def numbers_of(program, p):
    """The numbers of program ``p``."""
    t = p if program.linear.shape[0] > 1 else 0
    f = p if program.field.shape[0] > 1 else 0
    return GibbsNumbers(
        program.values[p],
        program.linear[t],
        program.field[f],
        program.log_linear[t],
        program.log_field[f],
    )


@inlined
def _row_of(wiring, position, f, states):
    """The first entry of a factor's table at the states of all but the element at a slot."""
    at = wiring.table[f]
    for slot in range(wiring.factor_ptr[f], wiring.factor_ptr[f + 1]):
        if slot != position:
            at += wiring.stride[slot] * np.int64(states[wiring.slot_var[slot]])
    return at


@inner
def log_weights(program, numbers, e, states, out):
    """Write the log full conditional of element ``e``, not normalised; return the largest."""
    wiring = program.wiring
    card = np.int64(program.card[e])
    first = np.int64(program.offset[e])
    for s in range(card):
        out[s] = numbers.log_field[first + s]
    for q in range(wiring.var_ptr[e], wiring.var_ptr[e + 1]):
        slots = wiring.var_slot[q]
        f = wiring.slot_factor[slots]
        at = wiring.table[f]
        if wiring.kind[f] != TABLE:
            other = wiring.factor_ptr[f] * 2 + 1 - slots
            state = np.int64(states[wiring.slot_var[other]])
            add_row(wiring.kind[f], numbers.log_linear, at, state, card, out, 0)
            continue
        at = _row_of(wiring, slots, f, states)
        for s in range(card):
            out[s] += numbers.log_linear[at + s * wiring.stride[slots]]
    top = -np.inf
    for s in range(card):
        top = max(top, out[s])
    return top


@inner
def normalized(program, numbers, e, states, out):
    """Write the full conditional by way of logarithms; zeros if no state is possible."""
    card = np.int64(program.card[e])
    top = log_weights(program, numbers, e, states, out)
    total = 0.0
    for s in range(card):
        out[s] = np.exp(out[s] - top) if top > -np.inf else 0.0
        total += out[s]
    if total > 0.0:
        for s in range(card):
            out[s] /= total


@inner
def _multiplied(program, numbers, e, states, out):
    """Write the full conditional by multiplying tables of entries up to one.

    The products only fall, so that what was flushed to zero cannot count beside a largest
    product above ``_TINY``; below, logarithms decide.
    """
    wiring = program.wiring
    card = np.int64(program.card[e])
    first = np.int64(program.offset[e])
    for s in range(card):
        out[s] = numbers.field[first + s]
    for q in range(wiring.var_ptr[e], wiring.var_ptr[e + 1]):
        slots = wiring.var_slot[q]
        f = wiring.slot_factor[slots]
        at = wiring.table[f]
        if wiring.kind[f] != TABLE:
            other = wiring.factor_ptr[f] * 2 + 1 - slots
            state = np.int64(states[wiring.slot_var[other]])
            multiply_row(wiring.kind[f], numbers.linear, at, state, card, out)
            continue
        at = _row_of(wiring, slots, f, states)
        step = wiring.stride[slots]
        for s in range(card):
            out[s] *= numbers.linear[at + s * step]
    top = 0.0
    total = 0.0
    for s in range(card):
        top = max(top, out[s])
        total += out[s]
    if top < _TINY:
        normalized(program, numbers, e, states, out)
        return
    for s in range(card):
        out[s] /= total


@inlined
def _conditional_at(program, e, states):
    """Where the tabulated full conditional of ``e`` stands."""
    at = program.table[e]
    for j in range(program.link_ptr[e], program.link_ptr[e + np.uint32(1)]):
        at += program.link_stride[j] * np.uint32(states[program.neighbour[j]])
    return at


@inlined
def _chosen(probs, at, card, u):
    """The state at which the cumulated probabilities pass ``u``; rounding picks none of zero."""
    s = np.uint32(0)
    while s + np.uint32(1) < card:
        u -= probs[at + s]
        if u < 0.0:
            return s
        s += np.uint32(1)
    while s > np.uint32(0) and probs[at + s] == 0.0:
        s -= np.uint32(1)
    return s


@inner
def _sweep(program, numbers, order, states, counter, scratch, keep, sums, squares):
    """Visit the elements in order; add their full conditionals to the sums if ``keep``."""
    values = numbers.values
    for k in range(order.shape[0]):
        e = order[k]
        card = program.card[e]
        counter += _GOLDEN
        u = uniform(counter)
        if program.tabulated[e]:
            probs, at = values, _conditional_at(program, e, states)
            if card == np.uint32(2):
                states[e] = 1 if u < values[at + np.uint32(1)] else 0
            else:
                states[e] = _chosen(values, at, card, u)
        else:
            _multiplied(program, numbers, e, states, scratch)
            probs, at = scratch, np.uint32(0)
            states[e] = _chosen(scratch, at, card, u)
        if keep:
            first = program.offset[e]
            for s in range(card):
                p = probs[at + np.uint32(s)]
                sums[first + np.uint32(s)] += p
                squares[first + np.uint32(s)] += p * p
    return counter


@entry
def run(program, orders, which, states, counters, chains, sweeps, sums, squares, trace, stop):
    """Sweep through some chains.

    Args:
        program: Tables.
        orders: ``(order, ptr)``: chain ``q`` visits the elements of ``order`` from ``ptr[q, 0]``
            to ``ptr[q, 1]``.
        which: ``(N,)`` program of each chain.
        states: ``(N, E)`` uint16, updated.
        counters: ``(N,)`` uint64 of the random numbers, updated.
        chains: ``(first, last)`` of the chains to run.
        sweeps: ``(kept, thin)``: so many kept sweeps, each the last of ``thin``.
        sums: ``(N, S)`` to which kept sweeps add full conditionals; or ``(N, 0)``.
        squares: ``(N, S)``, their squares.
        trace: ``(kept, N, E)`` written: the states after each kept sweep; or ``(0, 0, 0)``.
        stop: Looked at before each sweep.
    """
    order, ptr = orders
    first, last = chains
    kept, thin = sweeps
    scratch = np.zeros(most_states(program))
    keep = sums.shape[1] > 0
    for q in range(first, last):
        numbers = numbers_of(program, which[q])
        rows = order[ptr[q, 0] : ptr[q, 1]]
        counter = counters[q]
        for t in range(kept):
            for k in range(thin):
                if stop[0]:
                    return
                counter = _sweep(
                    program, numbers, rows, states[q], counter, scratch,
                    keep and k == thin - 1, sums[q], squares[q],
                )  # fmt: skip
            if trace.shape[0] > 0:
                for e in range(states.shape[1]):
                    trace[t, q, e] = states[q, e]
        counters[q] = counter


@entry
def conditionals(program, which, states, out, stop):
    """Write the full conditionals of all elements, ``(N, S)``, at given ``(N, E)`` states."""
    scratch = np.zeros(most_states(program))
    for q in range(states.shape[0]):
        if stop[0]:
            return
        numbers = numbers_of(program, which[q])
        for e in range(program.card.shape[0]):
            first = np.int64(program.offset[e])
            if program.tabulated[e]:
                at = np.int64(_conditional_at(program, np.uint32(e), states[q]))
                for s in range(program.card[e]):
                    out[q, first + s] = numbers.values[at + s]
            else:
                _multiplied(program, numbers, e, states[q], scratch)
                for s in range(program.card[e]):
                    out[q, first + s] = scratch[s]
