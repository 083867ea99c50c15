"""Compile an elimination order into a straight-line program of one instruction.

The instruction is ``out[..] += x[..] * y[..] * z[..]`` over a loop nest. Its operands are
*buffers*: tables over some free variables, axes sorted so that the variable eliminated first is
outermost. A buffer is *wide* when it depends on the row: then it holds a tile of rows side by
side. Other buffers are computed once for all rows.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from pgnn.inference.exact.kernels.elimination import add_buffer, downward, place_inputs, upward
from pgnn.inference.exact.kernels.encoding import encode_steps, make_decoder, rows_of
from pgnn.inference.exact.kernels.layout import lay_out
from pgnn.inference.exact.kernels.program import (
    MESSAGE,
    Buckets,
    Buffers,
    Steps,
    Structure,
)
from pgnn.inference.exact.kernels.table_loads import encode_loads
from pgnn.inference.kernels.compiled import Ints, entry, inner


@inner
def _root_of(v: int, parent: Ints) -> int:
    while parent[v] != v:
        parent[v] = parent[parent[v]]
        v = parent[v]
    return v


@inner
def _by_component(structure: Structure, order: Ints) -> Ints:
    """The same order, one connected component after the other."""
    parent = np.arange(structure.card.shape[0])
    for f in range(structure.used.shape[0]):
        last = -1
        for i in range(structure.scope_ptr[f], structure.scope_ptr[f + 1]):
            v = structure.scope_var[i]
            if structure.used[f] and structure.free[v]:
                if last >= 0:
                    parent[_root_of(v, parent)] = _root_of(last, parent)
                last = v
    number = np.full(parent.shape[0], -1, np.int64)
    start = np.zeros(order.shape[0] + 1, np.int64)
    found = 0
    for v in order:
        root = _root_of(v, parent)
        if number[root] < 0:
            number[root] = found
            found += 1
        start[number[root] + 1] += 1
    start = np.cumsum(start)
    out = np.empty_like(order)
    for v in order:
        component = number[_root_of(v, parent)]
        out[start[component]] = v
        start[component] += 1
    return out


@entry
def assemble(
    structure: Structure, order: Ints, rank: int, width: int
) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    """Turn an elimination order into a program.

    Args:
        structure: What to eliminate, and what is wanted.
        order: ``(N,)`` the free variables in elimination order.
        rank: Variables of the largest clique.
        width: Rows in a tile.

    Returns:
        The fields of the :class:`Program`, and those of the :class:`Decoder` for after its upward
        pass.

    Cost:
        O(number of instructions times rank): tens of microseconds for small networks.
    """
    order = _by_component(structure, order)
    num_vars, num_factors, num_free = (
        structure.card.shape[0],
        structure.used.shape[0],
        order.shape[0],
    )
    position = np.full(num_vars, -1, np.int64)
    for k in range(num_free):
        position[order[k]] = k
    most = 6 * (num_factors + 2 * num_free) + num_free + 2
    buffers = Buffers(
        np.zeros(1, np.int64), np.zeros(most + 1, np.int64), np.empty(most * rank + 1, np.int64),
        np.zeros(most, np.int64), np.zeros(most, np.bool_), np.zeros(most, np.bool_),
        np.full(most, -1, np.int64), np.zeros(most, np.int64),
    )  # fmt: skip
    steps = Steps(
        np.zeros(1, np.int64), np.empty(most, np.int64), np.empty(most, np.int64),
        np.empty(most, np.int64), np.empty(most, np.int64), np.empty(most, np.int64),
        np.empty(most, np.int64),
    )  # fmt: skip
    inputs = num_factors + 2 * num_free + 1
    buckets = Buckets(order, np.zeros(num_free + 1, np.int64), np.empty(inputs, np.int64))
    first = np.full(num_free, -1, np.int64)
    following = np.full(most, -1, np.int64)
    factor_buf = np.full(num_factors, -1, np.int64)
    unary_buf = np.full(num_free, -1, np.int64)
    marginal_buf = np.full(num_vars, -1, np.int64)
    source = np.full(num_vars, -1, np.int64)
    add_buffer(buffers, order[:0], structure.card, False, False)  # the constant one
    place_inputs(structure, order, position, buffers, factor_buf, unary_buf, first, following)
    upward(structure, order, position, buffers, steps, first, following, buckets, source)
    num_up = steps.count[0]
    downward(structure, order, buffers, steps, source, marginal_buf)
    static_size, size = lay_out(structure, buffers, steps, num_up, factor_buf, width)
    static, up, down, work = encode_steps(
        structure, order, position, buffers, steps, num_up, width, rank
    )
    static_load, load, constant, belief = encode_loads(structure, buffers, factor_buf, width)
    roots = np.empty((num_free, 2), np.int64)
    num_roots = 0
    for op in range(num_up):
        out = steps.out[op]
        if steps.kind[op] == MESSAGE and buffers.ptr[out] == buffers.ptr[out + 1]:
            roots[num_roots, 0] = buffers.start[out]
            roots[num_roots, 1] = width if buffers.wide[out] else 1
            num_roots += 1
    program = (
        static, up, down, static_load, load, constant,
        rows_of(unary_buf, order, buffers, structure.card),
        rows_of(marginal_buf, np.arange(num_vars), buffers, structure.card),
        roots[:num_roots].copy(), belief,
        np.array([size, static_size, rank + 1]),
        work,
    )  # fmt: skip
    return program, make_decoder(buckets, buffers)
