"""What programs are made of: tasks, buffers, instructions, encoded code."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from pgnn.inference.kernels.compiled import Bools, Floats, Ints, inner

# as NumPy numbers: for plain ones numba would compile their callers again for every value
MULTIPLY, MESSAGE, ADJOINT, MARGINAL = np.int64(0), np.int64(1), np.int64(2), np.int64(3)
ROOT, OPEN = np.int64(4), np.int64(5)
"""In encoded instructions: a message that ends a component, and what is done once for all rows in
a component that goes on with the rows."""
ONE = np.int64(0)
"""Buffer 0, at address 0, is the constant one."""
HEADER = 12
"""Numbers in an encoded instruction before its loops; each loop takes ``LOOP`` more."""
LOOP = 5
SHORT = 8
"""Lanes of a vector; single rows run along loops at least this long."""


class Structure(NamedTuple):
    """What a plan is made from: state counts, and the scopes of the factors that count.

    Attributes:
        card: ``(V,)`` state counts.
        scope_ptr, scope_var: Factor scopes, axes in table order.
        used: ``(F,)`` factors that count.
        rowwise: ``(F,)`` factors whose whole table differs from row to row.
        free: ``(V,)`` variables to eliminate; the states of the others select slices.
        unary: ``(V,)`` free variables with a likelihood of their own in each row.
        wanted: ``(V,)`` variables whose marginal is wanted.
        belief: ``(F,)`` factors whose adjoint (belief divided by table) is wanted.
        maximize: ``(V,)`` variables to maximise over; the others are summed out.
    """

    card: Ints
    scope_ptr: Ints
    scope_var: Ints
    used: Bools
    rowwise: Bools
    free: Bools
    unary: Bools
    wanted: Bools
    belief: Bools
    maximize: Bools


class Buffers(NamedTuple):
    """Tables of a program.

    Attributes:
        count: ``(1,)`` how many there are.
        ptr, var: Scopes, first eliminated variable first.
        size: Entries.
        wide: Whether the rows differ.
        need: Whether the adjoint is wanted.
        adjoint: Buffer of the adjoint, or -1.
        start: Address in memory.
    """

    count: Ints  # type: ignore[assignment] # hides tuple.count
    ptr: Ints
    var: Ints
    size: Ints
    wide: Bools
    need: Bools
    adjoint: Ints
    start: Ints


class Steps(NamedTuple):
    """Instructions before they are encoded: operand buffers and the bucket they belong to."""

    count: Ints  # type: ignore[assignment] # hides tuple.count
    kind: Ints
    bucket: Ints
    out: Ints
    x: Ints
    y: Ints
    z: Ints


class Program(NamedTuple):
    """A compiled plan, addresses and strides final for one tile width.

    Attributes:
        static, up, down: Encoded instructions: once, and for each tile upward and downward.
        static_load, load: Encoded copies of factor tables into buffers.
        constant: Encoded look-ups of factors that are wholly observed.
        unary: ``(U, 3)`` variable, address, states of each row-wise likelihood.
        marginal: ``(M, 3)`` variable, address, states of each wanted marginal.
        root: ``(R, 2)`` address and width of the messages whose product is the evidence.
        belief: Encoded read-outs of the beliefs of factors.
        sizes: Numbers of memory in all, of the static part, the deepest loop nest.
        work: Multiply-adds done once, and for each row.
    """

    static: Ints
    up: Ints
    down: Ints
    static_load: Ints
    load: Ints
    constant: Ints
    unary: Ints
    marginal: Ints
    root: Ints
    belief: Ints
    sizes: Ints
    work: Floats


class Buckets(NamedTuple):
    """Which tables were multiplied when each variable was eliminated (for decoding).

    Attributes:
        order: ``(N,)`` variables, first eliminated first.
        ptr, buf: Input buffers of each bucket.
    """

    order: Ints
    ptr: Ints
    buf: Ints


class Decoder(NamedTuple):
    """What it takes to walk back from the roots and choose states.

    Attributes:
        order: ``(N,)`` variables, first eliminated first.
        ptr: ``(N + 1,)`` inputs of each bucket.
        start, wide: Address of each input, and whether it differs from row to row.
        scope_ptr, scope_var: Its scope, the eliminated variable first.
    """

    order: Ints
    ptr: Ints
    start: Ints
    wide: Bools
    scope_ptr: Ints
    scope_var: Ints


@inner
def scope_of(buffers: Buffers, b: int) -> Ints:
    """Variables of a buffer, first eliminated first."""
    return buffers.var[buffers.ptr[b] : buffers.ptr[b + 1]]


@inner
def stride_of(v: int, scope: Ints, card: Ints) -> int:
    """Stride of ``v`` in a C-ordered table over ``scope``; 0 where it has no such axis."""
    stride = 1
    for k in range(scope.shape[0] - 1, -1, -1):
        if scope[k] == v:
            return stride
        stride *= card[scope[k]]
    return 0
