"""Gibbs sweeps with softmax factors, whose linear predictors are stored with the states."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from pgnn.inference.kernels.compiled import entry, inner
from pgnn.inference.sampling.kernels.gibbs import log_weights, most_states, numbers_of, uniform

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


class PredictorProgram(NamedTuple):
    """The linear predictors of softmax children, concatenated over children.

    Attributes:
        child: ``(U,)`` elements of the children.
        first: ``(U + 1,)`` first column of each child's sums.
        child_index: ``(E,)`` index of an element among the children, or -1.
        ptr: ``(E + 1,)`` first term of each element as a parent.
        unit: ``(N,)`` the child of each term.
        at: ``(N,)`` offset of the term in ``terms``, which has a row for each state.
        terms: Values of all terms, concatenated.
        offset: ``(1 or R, columns)`` biases.
    """

    child: Any
    first: Any
    child_index: Any
    ptr: Any
    unit: Any
    at: Any
    terms: Any
    offset: Any


@inner
def _fill(sums, row, states, out):
    """Write the linear predictors at some states."""
    for c in range(out.shape[0]):
        out[c] = sums.offset[row, c]
    for e in range(states.shape[0]):
        for n in range(sums.ptr[e], sums.ptr[e + 1]):
            u = sums.unit[n]
            first, size = sums.first[u], sums.first[u + 1] - sums.first[u]
            at = sums.at[n] + np.int64(states[e]) * size
            for c in range(size):
                out[first + c] += sums.terms[at + c]


@inner
def _add_children(sums, e, card, states, eta, heat, out):
    """Add the log probabilities of an element's children as functions of its state."""
    for n in range(sums.ptr[e], sums.ptr[e + 1]):
        u = sums.unit[n]
        first, size = sums.first[u], sums.first[u + 1] - sums.first[u]
        now = sums.at[n] + np.int64(states[e]) * size
        y = np.int64(states[sums.child[u]])
        if size == 2:  # logistic function of the difference
            sign = 1.0 if y == 1 else -1.0
            rest = eta[first + 1] - eta[first] - sums.terms[now + 1] + sums.terms[now]
            for s in range(card):
                at = sums.at[n] + s * size
                z = sign * (rest + sums.terms[at + 1] - sums.terms[at])
                out[s] += (min(z, 0.0) - np.log1p(np.exp(-abs(z)))) * heat
            continue
        for s in range(card):
            at = sums.at[n] + s * size
            top = -np.inf
            for c in range(size):
                top = max(top, eta[first + c] - sums.terms[now + c] + sums.terms[at + c])
            total = 0.0
            for c in range(size):
                total += np.exp(eta[first + c] - sums.terms[now + c] + sums.terms[at + c] - top)
            observed = eta[first + y] - sums.terms[now + y] + sums.terms[at + y]
            out[s] += (observed - top - np.log(total)) * heat


@inner
def _full_conditional(program, numbers, sums, e, states, eta, heat, out):
    """Write the full conditional of an element; zeros if no state is possible."""
    card = np.int64(program.card[e])
    if program.tabulated[e]:
        at = np.int64(program.table[e])
        for j in range(program.link_ptr[e], program.link_ptr[e + 1]):
            at += np.int64(program.link_stride[j]) * np.int64(states[program.neighbour[j]])
        for s in range(card):
            out[s] = np.log(numbers.values[at + s]) if numbers.values[at + s] > 0.0 else -np.inf
    else:
        log_weights(program, numbers, e, states, out)
    u = sums.child_index[e]
    if u >= 0:
        for s in range(card):
            out[s] += eta[sums.first[u] + s] * heat
    _add_children(sums, e, card, states, eta, heat, out)
    top = -np.inf
    for s in range(card):
        top = max(top, out[s])
    total = 0.0
    for s in range(card):
        out[s] = np.exp(out[s] - top) if top > -np.inf else 0.0
        total += out[s]
    if total > 0.0:
        for s in range(card):
            out[s] /= total


@inner
def _move(sums, e, before, after, eta):
    """Update the linear predictors of an element's children."""
    for n in range(sums.ptr[e], sums.ptr[e + 1]):
        u = sums.unit[n]
        first, size = sums.first[u], sums.first[u + 1] - sums.first[u]
        old, new = sums.at[n] + before * size, sums.at[n] + after * size
        for c in range(size):
            eta[first + c] += sums.terms[new + c] - sums.terms[old + c]


@inner
def _drawn(probs, card, u):
    """The state at which the cumulative probability exceeds ``u``; never an impossible one."""
    s = 0
    while s + 1 < card:
        u -= probs[s]
        if u < 0.0:
            return s
        s += 1
    while s > 0 and probs[s] == 0.0:
        s -= 1
    return s


@entry
def run(
    program, sums, orders, chain, heat, states, counters, chains, sweeps, totals, squares, trace,
    stop,
):  # fmt: skip
    """Run sweeps of some chains; see :func:`pgnn.inference.sampling.kernels.gibbs.run`.

    Args:
        program: The program of the factors with tables.
        sums: The softmax factors.
        orders: See ``run``.
        chain: ``(2, N)`` program and row of evidence of each chain.
        heat: ``(N,)`` inverse temperatures.
        states: See ``run``.
        counters: See ``run``.
        chains: See ``run``.
        sweeps: See ``run``.
        totals: See ``sums`` of ``run``.
        squares: See ``run``.
        trace: See ``run``.
        stop: Flag that is checked before each visit.
    """
    order, ptr = orders
    scratch, eta = np.zeros(most_states(program)), np.zeros(sums.offset.shape[1])
    for q in range(chains[0], chains[1]):
        numbers = numbers_of(program, chain[0, q])
        _fill(sums, chain[1, q], states[q], eta)
        counter = counters[q]
        for t in range(sweeps[0]):
            for k in range(sweeps[1]):
                keep = totals.shape[1] > 0 and k == sweeps[1] - 1
                for j in range(ptr[q, 0], ptr[q, 1]):
                    if stop[0]:
                        return
                    e = order[j]
                    _full_conditional(
                        program, numbers, sums, e, states[q], eta, heat[q], scratch
                    )  # fmt: skip
                    card = np.int64(program.card[e])
                    counter += _GOLDEN
                    before = np.int64(states[q, e])
                    after = np.int64(_drawn(scratch, card, uniform(counter)))
                    if after != before:
                        _move(sums, e, before, after, eta)
                        states[q, e] = after
                    if keep:
                        first = np.int64(program.offset[e])
                        for s in range(card):
                            totals[q, first + s] += scratch[s]
                            squares[q, first + s] += scratch[s] * scratch[s]
            if trace.shape[0] > 0:
                for e in range(states.shape[1]):
                    trace[t, q, e] = states[q, e]
        counters[q] = counter


@entry
def conditionals(program, sums, chain, heat, states, out, stop):
    """Write the full conditionals ``(N, S)`` of all elements at ``(N, E)`` states."""
    scratch, eta = np.zeros(most_states(program)), np.zeros(sums.offset.shape[1])
    for q in range(states.shape[0]):
        numbers = numbers_of(program, chain[0, q])
        _fill(sums, chain[1, q], states[q], eta)
        for e in range(program.card.shape[0]):
            if stop[0]:
                return
            _full_conditional(program, numbers, sums, e, states[q], eta, heat[q], scratch)
            for s in range(program.card[e]):
                out[q, program.offset[e] + s] = scratch[s]
