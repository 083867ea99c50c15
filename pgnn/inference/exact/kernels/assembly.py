"""Compile an elimination order into a straight-line program of one instruction.

The instruction is ``out[..] += x[..] * y[..] * z[..]`` over a loop nest. Its operands are
*buffers*: tables over some free variables, axes sorted so that the variable eliminated first is
outermost. A buffer is *wide* if it depends on the row: it then holds a tile of adjacent rows. Other
buffers are computed once for all rows.
"""

from __future__ import annotations

import numpy as np

from pgnn.inference.exact.kernels.elimination import downward, place_inputs, upward
from pgnn.inference.exact.kernels.encoding import encode_load, encode_records, encode_steps
from pgnn.inference.exact.kernels.memory import lay_out
from pgnn.inference.exact.kernels.program import (
    ADDRESS,
    BELIEF,
    BELIEF_OF,
    BUCKET,
    BUCKETS,
    BUFFER,
    CARD,
    CONSTANT,
    DEPTH,
    DOWN,
    END,
    FREE,
    HEAD,
    KIND,
    LIKELIHOOD,
    LIKELIHOODS,
    MARGINALS,
    MAXIMIZE,
    MEMORY,
    MESSAGE,
    NUM_STEPS,
    NUM_UP,
    OUT,
    POSITION,
    RANK,
    READ_OUT,
    RECORDS,
    ROOTS,
    ROW_LOAD,
    ROWWISE,
    SCOPE,
    SOURCE,
    STATIC,
    STATIC_LOAD,
    STATIC_MEMORY,
    UNARY,
    USED,
    WANTED,
    WIDE,
)
from pgnn.inference.kernels.compiled import Bools, Floats, Ints, entry, inner, lean


@lean
def _root_of(v: int, parent: Ints) -> int:
    while parent[v] != v:
        parent[v] = parent[parent[v]]
        v = parent[v]
    return v


@inner
def _by_component(scope_var: Ints, variables: Ints, factors: Ints, order: Ints) -> None:
    """Sort the order by connected component."""
    num = order.shape[0]
    parent, old = np.empty(variables.shape[0], np.int64), np.empty(num, np.int64)
    number, start = np.empty(variables.shape[0], np.int64), np.zeros(num + 1, np.int64)
    for v in range(variables.shape[0]):
        parent[v], number[v] = v, -1
    for f in range(factors.shape[0] - 1):
        last = -1
        for i in range(factors[f, SCOPE], factors[f + 1, SCOPE]):
            v = scope_var[i]
            if factors[f, USED] and variables[v, FREE]:
                if last >= 0:
                    parent[_root_of(v, parent)] = _root_of(last, parent)
                last = v
    num_found = 0
    for k in range(num):
        old[k] = order[k]
        root = _root_of(old[k], parent)
        if number[root] < 0:
            number[root] = num_found
            num_found += 1
        start[number[root] + 1] += 1
    for k in range(num):
        start[k + 1] += start[k]
    for k in range(num):
        component = number[_root_of(old[k], parent)]
        order[start[component]] = old[k]
        start[component] += 1


@entry
def arrange(
    card: Ints, scope_ptr: Ints, scope_var: Ints, used: Bools, rowwise: Bools, free: Bools,
    unary: Bools, wanted: Bools, belief: Bools, maximize: Bools, order: Ints, variables: Ints,
    factors: Ints, buffers: Ints, scopes: Ints, steps: Ints, counts: Ints,
) -> None:  # fmt: skip
    """Turn an elimination order into steps on buffers.

    Args:
        card: ``(V,)`` state counts.
        scope_ptr, scope_var: Factor scopes, axes in table order.
        used: ``(F,)`` factors that are used.
        rowwise: ``(F,)`` factors whose table depends on the row.
        free: ``(V,)`` variables to eliminate; the states of the others select slices.
        unary: ``(V,)`` free variables with a separate likelihood in each row.
        wanted: ``(V,)`` variables whose marginal is wanted.
        belief: ``(F,)`` factors whose adjoint (belief divided by table) is wanted.
        maximize: ``(V,)`` variables to maximise over; the others are summed out.
        order: ``(N,)`` free variables in elimination order; sorted by component.
        variables, factors, buffers, scopes, steps, counts: Outputs; for the columns see
        :mod:`~pgnn.inference.exact.kernels.program`.
    """
    num_vars, num_factors = card.shape[0], used.shape[0]
    for v in range(num_vars):
        variables[v, CARD], variables[v, FREE], variables[v, UNARY] = card[v], free[v], unary[v]
        variables[v, WANTED], variables[v, MAXIMIZE] = wanted[v], maximize[v]
        variables[v, BUCKET], variables[v, LIKELIHOOD] = -1, -1
        variables[v, SOURCE], variables[v, BELIEF_OF], variables[v, POSITION] = -1, -1, -1
    for f in range(num_factors):
        factors[f, SCOPE], factors[f, USED] = scope_ptr[f], used[f]
        factors[f, ROWWISE], factors[f, BELIEF], factors[f, BUFFER] = rowwise[f], belief[f], -1
    factors[num_factors, SCOPE] = scope_ptr[num_factors]
    _by_component(scope_var, variables, factors, order)
    for k in range(order.shape[0]):
        variables[order[k], POSITION] = k
    for k in range(counts.shape[0]):
        counts[k] = 0
    work, other = np.empty(2 * num_vars + 2, np.int64), np.empty(2 * num_vars + 2, np.int64)
    place_inputs(scope_var, order, variables, factors, buffers, scopes, counts, work)
    items = np.empty(buffers.shape[0], np.int64)
    upward(order, variables, buffers, scopes, steps, counts, work, other, items)
    counts[NUM_UP] = counts[NUM_STEPS]
    downward(variables, buffers, scopes, steps, counts)


@entry
def encode(
    scope_var: Ints, order: Ints, variables: Ints, factors: Ints, buffers: Ints, scopes: Ints,
    steps: Ints, counts: Ints, rank: int, width: int, code: Ints, work: Floats,
) -> int:  # fmt: skip
    """Write the program of the steps computed by :func:`arrange`; return its length.

    Args:
        scope_var, order, variables, factors, buffers, scopes, steps, counts: See :func:`arrange`.
        rank: Variables of the largest clique.
        width: Number of rows in a tile.
        code: Output: the program.
        work: ``(2,)`` output: multiply-adds done once, and per row.

    Cost:
        Linear in the number of instructions times ``rank``: tens of microseconds for small
        networks.
    """
    code[STATIC_MEMORY], code[MEMORY] = lay_out(factors, buffers, steps, counts, width)
    code[DEPTH] = rank + 1
    at = HEAD
    for section in range(STATIC_LOAD, READ_OUT + 1):
        code[section] = at
        for f in range(factors.shape[0] - 1):
            if factors[f, USED]:
                source = CONSTANT
                if factors[f, BUFFER] >= 0:
                    source = ROW_LOAD if buffers[factors[f, BUFFER], WIDE] else STATIC_LOAD
                if section == source or (section == READ_OUT and factors[f, BELIEF]):
                    at = encode_load(f, section == READ_OUT, scope_var, variables, factors,
                                     buffers, scopes, width, code, at)  # fmt: skip
    code[LIKELIHOODS] = at
    column = 0
    for v in range(variables.shape[0]):
        if variables[v, LIKELIHOOD] >= 0:
            code[at], code[at + 1] = v, buffers[variables[v, LIKELIHOOD], ADDRESS]
            code[at + 2], code[at + 3] = variables[v, CARD], column
            at += 4
        column += variables[v, CARD]
    code[MARGINALS] = at
    for v in range(variables.shape[0]):
        if variables[v, BELIEF_OF] >= 0:
            code[at], code[at + 1] = v, buffers[variables[v, BELIEF_OF], ADDRESS]
            code[at + 2] = variables[v, CARD]
            at += 3
    code[ROOTS] = at
    for op in range(counts[NUM_UP]):
        out = steps[op, OUT]
        if steps[op, KIND] == MESSAGE and buffers[out, RANK] == 0:
            code[at], code[at + 1] = buffers[out, ADDRESS], width if buffers[out, WIDE] else 1
            at += 2
    strides = np.empty((rank + 1, 4), np.int64)
    work[0], work[1] = 0.0, 0.0
    for section in range(STATIC, DOWN + 1):
        code[section] = at
        begin = counts[NUM_UP] if section == DOWN else 0
        end = counts[NUM_STEPS] if section == DOWN else counts[NUM_UP]
        wide = 0 if section == STATIC else 1
        at, cost = encode_steps(begin, end, wide, variables, buffers, scopes, steps, counts, width,
                                code, at, strides)  # fmt: skip
        work[wide] += cost
    code[BUCKETS], code[RECORDS], code[END] = at, at, at
    if counts[NUM_UP] == counts[NUM_STEPS]:  # programs without a downward pass decode states
        at = encode_records(order, variables, buffers, scopes, code, at)
        code[RECORDS], code[END] = code[BUCKETS] + order.shape[0], at
    return at
