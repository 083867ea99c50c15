"""The steps of bucket elimination and of its reversal, as instructions on buffers.

Eliminating a variable multiplies its small tables pairwise, then sums the variable out of the
product of the last two or three without ever writing that product down. The downward pass is the
same instruction run backwards, once for each table whose belief is wanted: the derivative of
``log Z`` by it (Darwiche 2003).
"""

from __future__ import annotations

import numpy as np

from pgnn.inference.exact.kernels.program import (
    ADJOINT,
    MARGINAL,
    MESSAGE,
    MULTIPLY,
    ONE,
    Buckets,
    Buffers,
    Steps,
    Structure,
    scope_of,
)
from pgnn.inference.kernels.compiled import Ints, inner

_PAIRWISE_UP_TO = 12


@inner
def merge(a: Ints, b: Ints, position: Ints, out: Ints) -> int:
    """Merge two scopes, sorted by elimination position; return the length of the union."""
    i, j, k = 0, 0, 0
    while i < a.shape[0] or j < b.shape[0]:
        if j == b.shape[0] or (i < a.shape[0] and position[a[i]] < position[b[j]]):
            out[k] = a[i]
            i += 1
        elif i == a.shape[0] or position[b[j]] < position[a[i]]:
            out[k] = b[j]
            j += 1
        else:
            out[k] = a[i]
            i += 1
            j += 1
        k += 1
    return k


@inner
def _join_size(buffers: Buffers, a: int, b: int, card: Ints, position: Ints, work: Ints) -> float:
    """Entries of the product of two buffers."""
    size = 1.0
    for k in range(merge(scope_of(buffers, a), scope_of(buffers, b), position, work)):
        size *= card[work[k]]
    return size


@inner
def add_buffer(buffers: Buffers, scope: Ints, card: Ints, wide: bool, need: bool) -> int:
    """Add a buffer without an adjoint or an address; return its number."""
    b = buffers.count[0]
    buffers.count[0] += 1
    start = buffers.ptr[b]
    size = 1
    for k in range(scope.shape[0]):
        buffers.var[start + k] = scope[k]
        size *= card[scope[k]]
    buffers.ptr[b + 1] = start + scope.shape[0]
    buffers.size[b], buffers.wide[b], buffers.need[b], buffers.adjoint[b] = size, wide, need, -1
    return b


@inner
def _add_step(steps: Steps, kind: int, bucket: int, out: int, x: int, y: int, z: int) -> None:
    k = steps.count[0]
    steps.count[0] += 1
    steps.kind[k], steps.bucket[k], steps.out[k] = kind, bucket, out
    steps.x[k], steps.y[k], steps.z[k] = x, y, z


@inner
def _free_scope(structure: Structure, f: int, position: Ints, out: Ints) -> int:
    """The free variables of a factor, first eliminated first."""
    kept = 0
    for i in range(structure.scope_ptr[f], structure.scope_ptr[f + 1]):
        v = structure.scope_var[i]
        if structure.free[v]:
            at = kept
            while at > 0 and position[out[at - 1]] > position[v]:
                out[at] = out[at - 1]
                at -= 1
            out[at] = v
            kept += 1
    return kept


@inner
def place_inputs(
    structure: Structure,
    order: Ints,
    position: Ints,
    buffers: Buffers,
    factor_buf: Ints,
    unary_buf: Ints,
    first: Ints,
    following: Ints,
) -> None:
    """Make the buffers of factors and likelihoods and put each into its bucket's list."""
    scope = np.empty(position.shape[0], np.int64)
    for f in range(structure.used.shape[0]):
        if not structure.used[f]:
            continue
        kept = _free_scope(structure, f, position, scope)
        if kept == 0:
            continue
        sliced = kept < structure.scope_ptr[f + 1] - structure.scope_ptr[f]
        wide = sliced or structure.rowwise[f]
        b = add_buffer(buffers, scope[:kept], structure.card, wide, structure.belief[f])
        factor_buf[f] = b
        bucket = position[scope[0]]
        following[b] = first[bucket]
        first[bucket] = b
    for k in range(order.shape[0]):
        if structure.unary[order[k]]:
            b = add_buffer(buffers, order[k : k + 1], structure.card, True, False)
            unary_buf[k] = b
            following[b] = first[k]
            first[k] = b


@inner
def _closest_pair(
    buffers: Buffers, items: Ints, count: int, card: Ints, position: Ints, work: Ints
) -> tuple[int, int, float]:
    """The two tables whose product is smallest; among many, simply the two smallest tables."""
    left, right, least = 0, 1, np.inf
    if count <= _PAIRWISE_UP_TO:
        for i in range(1, count):
            for j in range(i):
                size = _join_size(buffers, items[i], items[j], card, position, work)
                if not (buffers.wide[items[i]] or buffers.wide[items[j]]):
                    size *= 1e-3  # computed once for all rows
                if size < least:
                    left, right, least = j, i, size
        return left, right, least
    for i in range(count):
        if buffers.size[items[i]] < buffers.size[items[left]]:
            left = i
    right = 1 if left == 0 else 0
    for i in range(count):
        if i != left and buffers.size[items[i]] < buffers.size[items[right]]:
            right = i
    return min(left, right), max(left, right), 0.0


@inner
def _bucket_size(
    buffers: Buffers, items: Ints, count: int, card: Ints, position: Ints
) -> tuple[float, Ints]:
    """Entries and scope of the product of all tables of a bucket."""
    union = scope_of(buffers, items[0]).copy()
    for i in range(1, count):
        more = scope_of(buffers, items[i])
        out = np.empty(union.shape[0] + more.shape[0], np.int64)
        union = out[: merge(union, more, position, out)]
    size = 1.0
    for k in range(union.shape[0]):
        size *= card[union[k]]
    return size, union


@inner
def _multiply_down(
    buffers: Buffers,
    steps: Steps,
    bucket: int,
    items: Ints,
    count: int,
    whole: float,
    card: Ints,
    position: Ints,
) -> int:
    """Multiply pairs until at most three tables are left, and on while that is cheap."""
    work = np.empty(position.shape[0], np.int64)
    while count > 2:
        left, right, size = _closest_pair(buffers, items, count, card, position, work)
        if count == 3 and size * 4.0 > whole:
            break
        x, y = items[left], items[right]
        rank = merge(scope_of(buffers, x), scope_of(buffers, y), position, work)
        wide = buffers.wide[x] or buffers.wide[y]
        need = buffers.need[x] or buffers.need[y]
        out = add_buffer(buffers, work[:rank], card, wide, need)
        _add_step(steps, MULTIPLY, bucket, out, x, y, ONE)
        items[left] = out
        items[right] = items[count - 1]
        count -= 1
    return count


@inner
def upward(
    structure: Structure,
    order: Ints,
    position: Ints,
    buffers: Buffers,
    steps: Steps,
    first: Ints,
    following: Ints,
    buckets: Buckets,
    source: Ints,
) -> None:
    """Eliminate one variable after the other.

    ``source`` receives, for each wanted variable, the buffer whose adjoint gives its marginal
    (the smallest whose adjoint is computed anyway), or -1 for "directly from the message".
    """
    card = structure.card
    items = np.empty(following.shape[0], np.int64)
    for k in range(order.shape[0]):
        v = order[k]
        count = 0
        b = first[k]
        while b >= 0:
            items[count] = b
            buckets.buf[buckets.ptr[k] + count] = b
            count += 1
            b = following[b]
        buckets.ptr[k + 1] = buckets.ptr[k] + count
        source[v] = -1
        for i in range(count):
            b = items[i]
            if buffers.need[b] and (source[v] < 0 or buffers.size[b] < buffers.size[source[v]]):
                source[v] = b
        if count == 0:  # no factor mentions the variable: a table of ones
            items[0] = add_buffer(buffers, order[k : k + 1], card, False, False)
            _add_step(steps, MULTIPLY, k, items[0], ONE, ONE, ONE)
            count = 1
        whole, union = _bucket_size(buffers, items, count, card, position)
        count = _multiply_down(buffers, steps, k, items, count, whole, card, position)
        if structure.wanted[v] and source[v] < 0 and count == 3:
            source[v] = items[0]
            for i in range(1, 3):
                if buffers.size[items[i]] < buffers.size[source[v]]:
                    source[v] = items[i]
            buffers.need[source[v]] = True
        x, y, z = items[0], items[1] if count > 1 else ONE, items[2] if count > 2 else ONE
        wide = buffers.wide[x] or buffers.wide[y] or buffers.wide[z]
        need = buffers.need[x] or buffers.need[y] or buffers.need[z] or structure.wanted[v]
        rank = union.shape[0] - 1
        out = add_buffer(buffers, union[1:], card, wide, need)
        _add_step(steps, MESSAGE, k, out, x, y, z)
        if rank == 0:
            buffers.adjoint[out] = ONE
        else:
            bucket = position[union[1]]
            following[out] = first[bucket]
            first[bucket] = out


@inner
def _adjoints(structure: Structure, buffers: Buffers, steps: Steps, up: int) -> None:
    """The adjoint of each wanted operand of one upward step: the output's times the others."""
    x, y, z = steps.x[up], steps.y[up], steps.z[up]
    above = buffers.adjoint[steps.out[up]]
    for turn in range(3):
        a = x if turn == 0 else (y if turn == 1 else z)
        if buffers.need[a]:
            b, c = (y, z) if turn == 0 else ((x, z) if turn == 1 else (x, y))
            out = add_buffer(buffers, scope_of(buffers, a), structure.card, True, False)
            buffers.adjoint[a] = out
            _add_step(steps, ADJOINT, steps.bucket[up], out, above, b, c)


@inner
def downward(
    structure: Structure,
    order: Ints,
    buffers: Buffers,
    steps: Steps,
    source: Ints,
    marginal_buf: Ints,
) -> None:
    """Reverse the upward steps: the adjoint of an operand is the output's times the others."""
    for up in range(steps.count[0] - 1, -1, -1):
        k = steps.bucket[up]
        v = order[k]
        if steps.kind[up] == MESSAGE and structure.wanted[v]:
            marginal_buf[v] = add_buffer(buffers, order[k : k + 1], structure.card, True, False)
            if source[v] < 0:
                above = buffers.adjoint[steps.out[up]]
                _add_step(steps, MARGINAL, k, marginal_buf[v], above, steps.x[up], steps.y[up])
        if buffers.need[steps.out[up]]:
            _adjoints(structure, buffers, steps, up)
        # every adjoint of the bucket is there once its first upward step has been reversed
        if (up == 0 or steps.bucket[up - 1] != k) and structure.wanted[v] and source[v] >= 0:
            s = source[v]
            _add_step(steps, MARGINAL, k, marginal_buf[v], buffers.adjoint[s], s, ONE)
