"""Initial states of positive probability for chains, by backtracking search."""

from __future__ import annotations

import numpy as np

from pgnn.factors.groups.kernel_kinds import TABLE
from pgnn.inference.kernels.compiled import entry, inner
from pgnn.inference.kernels.kinds import best_entry
from pgnn.inference.sampling.kernels.gibbs import most_states, numbers_of, uniform

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
FOUND, GIVEN_UP, IMPOSSIBLE = 0, 1, 2


@inner
def _has_zeros(program, numbers):
    """``(F,)`` factors with zeros; the others need no look-ahead."""
    wiring = program.wiring
    hard = np.zeros(wiring.table.shape[0], np.bool_)
    for f in range(hard.shape[0]):
        for k in range(wiring.size[f]):
            if numbers.log_linear[wiring.table[f] + k] == -np.inf:
                hard[f] = True
                break
    return hard


@inner
def _best_entry(program, numbers, f, position, s, states, known, digits):
    """Largest entry of a factor with its element at ``own`` in state ``s`` and known ones fixed."""
    wiring = program.wiring
    if wiring.kind[f] != TABLE:
        v = wiring.slot_var[wiring.factor_ptr[f] * 2 + 1 - position]
        other = np.int64(states[v]) if known[v] else -1
        return best_entry(
            wiring.kind[f], numbers.log_linear, wiring.table[f], s, wiring.card[v], other
        )
    at = wiring.table[f] + s * wiring.stride[position]
    first, last = wiring.factor_ptr[f], wiring.factor_ptr[f + 1]
    for slot in range(first, last):
        digits[slot - first] = 0
        v = wiring.slot_var[slot]
        if slot != position and known[v]:
            at += wiring.stride[slot] * np.int64(states[v])
    best = -np.inf
    more = True
    while more:
        best = max(best, numbers.log_linear[at])
        more = False
        for slot in range(last - 1, first - 1, -1):
            v = wiring.slot_var[slot]
            if slot == position or known[v]:
                continue
            digits[slot - first] += 1
            at += wiring.stride[slot]
            if digits[slot - first] < wiring.card[v]:
                more = True
                break
            at -= digits[slot - first] * wiring.stride[slot]
            digits[slot - first] = 0
    return best


@inner
def _choices(program, numbers, e, states, known, hard, flat, digits, out):
    """Write log weights of the states of ``e``: ``-inf`` if a factor cannot be satisfied.

    Positive factors are included once all their other elements are known, and never if ``flat``.
    """
    wiring = program.wiring
    for s in range(wiring.card[e]):
        field = numbers.log_field[wiring.offset[e] + s]
        out[s] = 0.0 if flat and field > -np.inf else field
    for q in range(wiring.var_ptr[e], wiring.var_ptr[e + 1]):
        slots = wiring.var_slot[q]
        f = wiring.slot_factor[slots]
        complete = True
        for slot in range(wiring.factor_ptr[f], wiring.factor_ptr[f + 1]):
            complete = complete and (slot == slots or known[wiring.slot_var[slot]])
        if not (hard[f] or (complete and not flat)):
            continue
        for s in range(wiring.card[e]):
            if out[s] == -np.inf:
                continue
            best = _best_entry(program, numbers, f, slots, s, states, known, digits)
            if best == -np.inf:
                out[s] = best
            elif complete and not flat:
                out[s] += best


@inner
def _pick(weights, num, u):
    """A state drawn by its log weights; -1 if none is possible."""
    top = -np.inf
    for s in range(num):
        top = max(top, weights[s])
    if top == -np.inf:
        return -1
    total = 0.0
    for s in range(num):
        total += np.exp(weights[s] - top)
    u *= total
    last = -1
    for s in range(num):
        p = np.exp(weights[s] - top)
        if p > 0.0:
            last = s
            u -= p
            if u < 0.0:
                break
    return last


@inner
def _consistent(program, numbers, states, known, hard, digits):
    """Whether every unary potential and factor has a positive entry given the known states."""
    wiring = program.wiring
    for e in range(wiring.card.shape[0]):
        if known[e] and numbers.log_field[wiring.offset[e] + np.int64(states[e])] == -np.inf:
            return False
    for f in range(hard.shape[0]):
        if hard[f]:
            begin = wiring.factor_ptr[f]
            v = wiring.slot_var[begin]
            possible = False
            for s in range(wiring.card[v]):
                if (not known[v] or np.int64(states[v]) == s) and not possible:
                    best = _best_entry(program, numbers, f, begin, s, states, known, digits)
                    possible = best > -np.inf
            if not possible:
                return False
    return True


@inner
def _search(program, numbers, hard, order, states, known, counter, flat, budget, scratch, stop):
    """Choose states along ``order``; return the outcome and the counter."""
    wiring = program.wiring
    weights, digits, tried = scratch
    k, entering = 0, True
    while k < order.shape[0]:
        if stop[0]:
            return GIVEN_UP, counter
        e = np.int64(order[k])
        first, num = wiring.offset[e], wiring.card[e]
        if entering:
            for s in range(num):
                tried[first + s] = False
        _choices(program, numbers, e, states, known, hard, flat, digits, weights)
        for s in range(num):
            if tried[first + s]:
                weights[s] = -np.inf
        counter += _GOLDEN
        s = _pick(weights, num, uniform(counter))
        if s >= 0:
            tried[first + s] = True
            states[e] = s
            known[e] = True
            k += 1
            entering = True
            continue
        if k == 0:
            return IMPOSSIBLE, counter
        k -= 1
        known[np.int64(order[k])] = False
        entering = False
        budget -= 1
        if budget < 0:
            return GIVEN_UP, counter
    return FOUND, counter


@entry
def search(program, orders, which, states, counters, chains, num_chains, budget, outcome, stop):
    """Find initial states of positive probability for chains.

    Every second chain of a row draws each element given its known neighbours; the others choose
    uniformly among the possible states, so that the initial states are overdispersed.

    Args:
        program: The program.
        orders: ``(order, ptr)``, free elements of each chain as in :func:`gibbs.run`, in the order
            in which they are chosen; other elements keep their states.
        which: ``(N,)`` program of each chain.
        states: ``(N, E)`` uint16, updated.
        counters: ``(N,)`` uint64 counters of the random numbers, updated.
        chains: ``(first, last)`` range of the chains.
        num_chains: Number of chains per row.
        budget: Number of backtracking steps before the search stops.
        outcome: ``(N,)`` output: ``FOUND``, ``GIVEN_UP`` or ``IMPOSSIBLE`` (a proof).
        stop: Flag that is checked before each choice.
    """
    order, ptr = orders
    wiring = program.wiring
    longest = 1
    for f in range(wiring.table.shape[0]):
        longest = max(longest, wiring.factor_ptr[f + 1] - wiring.factor_ptr[f])
    scratch = (
        np.zeros(most_states(program)),
        np.zeros(longest, np.int64),
        np.zeros(wiring.offset[-1], np.bool_),
    )
    known = np.zeros(wiring.card.shape[0], np.bool_)
    hard = np.zeros(wiring.table.shape[0], np.bool_)
    latest = -1
    for q in range(chains[0], chains[1]):
        if stop[0]:
            return
        numbers = numbers_of(program, which[q])
        if which[q] != latest:
            hard = _has_zeros(program, numbers)
            latest = which[q]
        rows = order[ptr[q, 0] : ptr[q, 1]]
        for e in range(known.shape[0]):
            known[e] = True
        for e in rows:
            known[e] = False
        if not _consistent(program, numbers, states[q], known, hard, scratch[1]):
            outcome[q] = IMPOSSIBLE
            continue
        outcome[q], counters[q] = _search(
            program, numbers, hard, rows, states[q], known, counters[q],
            (q % num_chains) % 2 == 1, budget, scratch, stop,
        )  # fmt: skip
