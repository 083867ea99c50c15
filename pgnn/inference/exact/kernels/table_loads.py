"""Encode where the numbers of the factors' tables are read from."""

from __future__ import annotations

import numpy as np

from pgnn.inference.exact.kernels.program import Buffers, Structure, scope_of, stride_of
from pgnn.inference.kernels.compiled import Ints, inner


@inner
def _encode_load(
    structure: Structure,
    f: int,
    b: int,
    buffers: Buffers,
    card: Ints,
    width: int,
    code: Ints,
    at: int,
) -> int:
    """Write the copy of factor ``f`` into buffer ``b`` (-1: it is wholly observed)."""
    scope = structure.scope_var[structure.scope_ptr[f] : structure.scope_ptr[f + 1]]
    k = at + 7
    given = 0
    for i in range(scope.shape[0]):
        if not structure.free[scope[i]]:
            code[k], code[k + 1] = scope[i], stride_of(scope[i], scope, card)
            k += 2
            given += 1
    loops = 0
    if b >= 0:
        for v in scope_of(buffers, b):
            code[k], code[k + 1] = card[v], stride_of(v, scope, card)
            k += 2
            loops += 1
    code[at], code[at + 1] = k, f
    code[at + 2] = buffers.start[b] if b >= 0 else 0
    code[at + 3] = width if b >= 0 and buffers.wide[b] else 1
    code[at + 4], code[at + 5] = given, loops
    code[at + 6] = buffers.size[b] if b >= 0 else 1
    return k


@inner
def encode_loads(
    structure: Structure, buffers: Buffers, factor_buf: Ints, width: int
) -> tuple[Ints, Ints, Ints, Ints]:
    """Encode loads that are the same for all rows, those that aren't, constants, read-outs."""
    card = structure.card
    room = 7 * structure.used.shape[0] + 2 * structure.scope_var.shape[0]
    static, load = np.empty(room, np.int64), np.empty(room, np.int64)
    constant, belief = np.empty(room, np.int64), np.empty(room, np.int64)
    at_static, at_load, at_constant, at_belief = np.int64(0), np.int64(0), np.int64(0), np.int64(0)
    for f in range(structure.used.shape[0]):
        if not structure.used[f]:
            continue
        b = factor_buf[f]
        if b < 0:
            at_constant = _encode_load(structure, f, b, buffers, card, width, constant, at_constant)
        elif buffers.wide[b]:
            at_load = _encode_load(structure, f, b, buffers, card, width, load, at_load)
        else:
            at_static = _encode_load(structure, f, b, buffers, card, width, static, at_static)
        if structure.belief[f]:
            start = at_belief
            at_belief = _encode_load(structure, f, b, buffers, card, width, belief, start)
            belief[start + 6] = buffers.start[buffers.adjoint[b]] if b >= 0 else 0
    return (
        static[:at_static].copy(),
        load[:at_load].copy(),
        constant[:at_constant].copy(),
        belief[:at_belief].copy(),
    )
