"""Gibbs sweeps: every element is drawn from its full conditional."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from pgnn.factors.groups.kernel_kinds import TABLE
from pgnn.inference.kernels.compiled import entry, inlined, inner
from pgnn.inference.kernels.kinds import add_row, multiply_row


@inner
def _by_falling(degree):
    """Elements by decreasing degree, in order within a degree (counting sort)."""
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
    """Greedy colouring: the smallest colour that no neighbour has, elements of high degree first.

    Ties are broken by the index of the element.

    Args:
        wiring: Wiring of the graph.
        colours: ``(E,)`` output: colours from zero; their number is at most the largest degree plus
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
    """The data that sweeps read.

    An element is *tabulated* if ``values`` contains its full conditionals for all states of its
    neighbours; otherwise they are computed from the factors' tables at each visit. ``P`` programs
    of one structure differ in their tables (rows of evidence, temperatures). Integers are uint32,
    since numba would check for negative indices otherwise.

    Attributes:
        card: ``(E,)`` state counts.
        offset: ``(E,)`` first column of each element.
        tabulated: ``(E,)`` whether an element is tabulated.
        table: ``(E,)`` first entry of its full conditionals; equal tables are shared.
        link_ptr: ``(E + 1,)`` first neighbour of each element; none if not tabulated.
        neighbour: The neighbours of all elements, concatenated.
        link_stride: Stride in ``values`` of the neighbour's state.
        wiring: Wiring of the graph.
        values: ``(P, V)`` full conditionals, the states of an element being adjacent.
        linear: ``(1 or P, T)`` tables, each scaled to a largest entry of one.
        field: ``(1 or P, S)`` unary potentials, likewise.
        log_linear: Logs of ``linear``.
        log_field: Logs of ``field``.
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
    """The tables of one of the ``P`` programs."""

    values: Any
    linear: Any
    field: Any
    log_linear: Any
    log_field: Any


@inlined
def uniform(counter):
    """The uniform number in [0, 1) of SplitMix64 (Steele, Lea & Flood 2014) at a counter."""
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
    """The tables of program ``p``."""
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
    """Offset in a factor's table given the states of all elements except that at a slot."""
    at = wiring.table[f]
    for slot in range(wiring.factor_ptr[f], wiring.factor_ptr[f + 1]):
        if slot != position:
            at += wiring.stride[slot] * np.int64(states[wiring.slot_var[slot]])
    return at


@inner
def log_weights(program, numbers, e, states, out):
    """Write the unnormalised log full conditional of element ``e``; return its largest value."""
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
    """Write the full conditional, computed in log space; zeros if no state is possible."""
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
    """Write the full conditional as a product of tables with entries up to one.

    Products only decrease, so that underflows are negligible if the largest product exceeds
    ``_TINY``; otherwise the computation is repeated in log space.
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
    """Offset of the tabulated full conditional of ``e``."""
    at = program.table[e]
    for j in range(program.link_ptr[e], program.link_ptr[e + np.uint32(1)]):
        at += program.link_stride[j] * np.uint32(states[program.neighbour[j]])
    return at


@inlined
def _chosen(probs, at, card, u):
    """The state at which the cumulative probability exceeds ``u``; never an impossible one."""
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
    """Run sweeps of some chains.

    Args:
        program: The program.
        orders: ``(order, ptr)``: chain ``q`` visits the elements of ``order`` from ``ptr[q, 0]``
            to ``ptr[q, 1]``.
        which: ``(N,)`` program of each chain.
        states: ``(N, E)`` uint16, updated.
        counters: ``(N,)`` uint64 counters of the random numbers, updated.
        chains: ``(first, last)`` range of the chains to run.
        sweeps: ``(kept, thin)``: number of recorded sweeps, each the last of ``thin``.
        sums: ``(N, S)`` sums of full conditionals over recorded sweeps, updated; or ``(N, 0)``.
        squares: ``(N, S)`` sums of their squares, updated.
        trace: ``(kept, N, E)`` output: the states after each recorded sweep; or ``(0, 0, 0)``.
        stop: Flag that is checked before each sweep.
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
    """Write the full conditionals ``(N, S)`` of all elements at ``(N, E)`` states."""
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
