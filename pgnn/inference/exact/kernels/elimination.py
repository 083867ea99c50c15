"""Bucket elimination and its reverse pass, as steps on buffers.

Eliminating a variable multiplies its small tables pairwise, then sums the variable out of the
product of the last two or three tables without storing that product. The downward pass reverses
this instruction, once for each table whose belief is wanted: the derivative of ``log Z`` with
respect to it (Darwiche 2003).
"""

from __future__ import annotations

import numpy as np

from pgnn.inference.exact.kernels.program import (
    ADJOINT,
    ADJOINT_OF,
    BELIEF,
    BELIEF_OF,
    BUCKET,
    BUFFER,
    CARD,
    FIRST,
    FREE,
    KIND,
    LIKELIHOOD,
    MARGINAL,
    MESSAGE,
    MULTIPLY,
    NEED,
    NEXT,
    NUM_BUFFERS,
    NUM_INPUTS,
    NUM_OVER,
    NUM_SCOPES,
    NUM_STEPS,
    ONE,
    OUT,
    OVER,
    POSITION,
    RANK,
    ROWWISE,
    SCOPE,
    SIZE,
    SOURCE,
    UNARY,
    USED,
    VAR,
    WANTED,
    WIDE,
    X,
    Y,
    Z,
)
from pgnn.inference.kernels.compiled import Ints, lean

_PAIRWISE_UP_TO = 12


@lean
def merge(scopes: Ints, a: int, num_a: int, b: int, num_b: int, variables: Ints, out: Ints) -> int:
    """Merge two scopes, sorted by elimination position; return the length of the union."""
    i, j, k = a, b, 0
    end_a, end_b = a + num_a, b + num_b
    while i < end_a or j < end_b:
        if j == end_b:
            out[k] = scopes[i]
            i += 1
        elif i == end_a:
            out[k] = scopes[j]
            j += 1
        else:
            u, v = scopes[i], scopes[j]
            first = variables[u, POSITION] <= variables[v, POSITION]
            out[k] = u if first else v
            i += 1 if first else 0
            j += 1 if u == v or not first else 0
        k += 1
    return k


@lean
def _join(buffers: Ints, scopes: Ints, a: int, b: int, variables: Ints, out: Ints) -> int:
    """Write the scope of the product of two buffers; return its length."""
    return merge(
        scopes, buffers[a, FIRST], buffers[a, RANK], buffers[b, FIRST], buffers[b, RANK],
        variables, out,
    )  # fmt: skip


@lean
def _add_buffer(buffers: Ints, first: int, rank: int, size: int, wide: int, need: int,
                counts: Ints) -> int:  # fmt: skip
    """Add a buffer over a scope that is already stored; return its index."""
    b = counts[NUM_BUFFERS]
    counts[NUM_BUFFERS] += 1
    buffers[b, FIRST], buffers[b, RANK], buffers[b, SIZE] = first, rank, size
    buffers[b, WIDE], buffers[b, NEED], buffers[b, ADJOINT_OF] = wide, need, -1
    buffers[b, NEXT] = -1
    return b


@lean
def _add_over(
    scope: Ints, begin: int, end: int, wide: int, need: int, variables: Ints, buffers: Ints,
    scopes: Ints, counts: Ints,
) -> int:  # fmt: skip
    """Add a buffer over ``scope[begin:end]``; return its index."""
    first, size = counts[NUM_SCOPES], 1
    for k in range(begin, end):
        scopes[first + k - begin] = scope[k]
        size *= variables[scope[k], CARD]
    counts[NUM_SCOPES] += end - begin
    return _add_buffer(buffers, first, end - begin, size, wide, need, counts)


@lean
def _add_step(
    steps: Ints, kind: int, v: int, out: int, x: int, y: int, z: int, over: int, num_over: int,
    counts: Ints,
) -> None:  # fmt: skip
    k = counts[NUM_STEPS]
    counts[NUM_STEPS] += 1
    steps[k, KIND], steps[k, VAR], steps[k, OUT] = kind, v, out
    steps[k, X], steps[k, Y], steps[k, Z] = x, y, z
    steps[k, OVER], steps[k, NUM_OVER] = over, num_over


@lean
def _multiply(v: int, out: int, x: int, y: int, buffers: Ints, steps: Ints, counts: Ints) -> None:
    """Add the step that multiplies two tables of the bucket of a variable."""
    _add_step(steps, MULTIPLY, v, out, x, y, ONE, buffers[out, FIRST], buffers[out, RANK], counts)


@lean
def _put(b: int, v: int, variables: Ints, buffers: Ints, counts: Ints) -> None:
    """Put a buffer into the bucket of a variable."""
    buffers[b, NEXT] = variables[v, BUCKET]
    variables[v, BUCKET] = b
    counts[NUM_INPUTS] += 1


@lean
def place_inputs(
    scope_var: Ints, order: Ints, variables: Ints, factors: Ints, buffers: Ints, scopes: Ints,
    counts: Ints, work: Ints,
) -> None:  # fmt: skip
    """Create the buffers of factors and likelihoods and put each into its bucket."""
    _add_buffer(buffers, 0, 0, 1, 0, 0, counts)  # the constant 1
    for f in range(factors.shape[0] - 1):
        kept = 0
        for i in range(factors[f, SCOPE], factors[f + 1, SCOPE]):
            v = scope_var[i]
            if variables[v, FREE] and factors[f, USED]:
                at = kept  # sorted by elimination position
                while at > 0 and variables[work[at - 1], POSITION] > variables[v, POSITION]:
                    work[at] = work[at - 1]
                    at -= 1
                work[at] = v
                kept += 1
        if kept > 0:
            sliced = kept < factors[f + 1, SCOPE] - factors[f, SCOPE]
            wide = 1 if sliced or factors[f, ROWWISE] else 0
            b = _add_over(work, 0, kept, wide, factors[f, BELIEF], variables, buffers, scopes,
                          counts)  # fmt: skip
            factors[f, BUFFER] = b
            _put(b, work[0], variables, buffers, counts)
    for k in range(order.shape[0]):
        v = order[k]
        if variables[v, UNARY]:
            b = _add_over(order, k, k + 1, 1, 0, variables, buffers, scopes, counts)
            variables[v, LIKELIHOOD] = b
            _put(b, v, variables, buffers, counts)


@lean
def _closest_pair(
    buffers: Ints, scopes: Ints, items: Ints, count: int, variables: Ints, work: Ints
) -> tuple[int, int, float]:
    """The two tables with the smallest product; if there are many, the two smallest tables."""
    left, right, least = 0, 1, np.inf
    if count <= _PAIRWISE_UP_TO:
        for i in range(1, count):
            for j in range(i):
                a, b = items[i], items[j]
                size = 1.0
                for k in range(_join(buffers, scopes, a, b, variables, work)):
                    size *= variables[work[k], CARD]
                if not (buffers[a, WIDE] or buffers[b, WIDE]):
                    size *= 1e-3  # computed once for all rows
                if size < least:
                    left, right, least = j, i, size
        return left, right, least
    for i in range(count):
        if buffers[items[i], SIZE] < buffers[items[left], SIZE]:
            left = i
    right = 1 if left == 0 else 0
    for i in range(count):
        if i != left and buffers[items[i], SIZE] < buffers[items[right], SIZE]:
            right = i
    return min(left, right), max(left, right), 0.0


@lean
def _multiply_down(
    v: int, items: Ints, count: int, whole: float, variables: Ints, buffers: Ints, scopes: Ints,
    steps: Ints, counts: Ints, work: Ints,
) -> int:  # fmt: skip
    """Multiply pairs until at most three tables remain, and further while that is cheap."""
    while count > 2:
        left, right, size = _closest_pair(buffers, scopes, items, count, variables, work)
        if count == 3 and size * 4.0 > whole:
            break
        x, y = items[left], items[right]
        rank = _join(buffers, scopes, x, y, variables, work)
        wide, need = buffers[x, WIDE] | buffers[y, WIDE], buffers[x, NEED] | buffers[y, NEED]
        out = _add_over(work, 0, rank, wide, need, variables, buffers, scopes, counts)
        _multiply(v, out, x, y, buffers, steps, counts)
        items[left] = out
        items[right] = items[count - 1]
        count -= 1
    return count


@lean
def _smallest_needed(items: Ints, count: int, buffers: Ints) -> int:
    """The smallest buffer whose adjoint is computed in any case, or -1."""
    smallest = -1
    for i in range(count):
        b = items[i]
        if buffers[b, NEED] and (smallest < 0 or buffers[b, SIZE] < buffers[smallest, SIZE]):
            smallest = b
    return smallest


@lean
def _scope_of_all(
    items: Ints, count: int, variables: Ints, buffers: Ints, scopes: Ints, work: Ints, other: Ints
) -> tuple[int, float]:
    """Write the scope of the product of all tables to ``work``; return its length and entries."""
    rank, size = 0, 1.0
    for i in range(count):
        b = items[i]
        for k in range(rank):
            other[k] = work[k]
        begin, num = buffers[b, FIRST], buffers[b, RANK]
        for k in range(num):
            other[rank + k] = scopes[begin + k]
        rank = merge(other, 0, rank, rank, num, variables, work)
    for k in range(rank):
        size *= variables[work[k], CARD]
    return rank, size


@lean
def upward(
    order: Ints, variables: Ints, buffers: Ints, scopes: Ints, steps: Ints, counts: Ints,
    work: Ints, other: Ints, items: Ints,
) -> None:  # fmt: skip
    """Eliminate all variables.

    The source of a wanted variable is the buffer whose adjoint gives its marginal (the smallest one
    whose adjoint is computed in any case), or -1 if the message gives it directly.
    """
    for step in range(order.shape[0]):
        v = order[step]
        count = 0
        b = variables[v, BUCKET]
        while b >= 0:
            items[count] = b
            count += 1
            b = buffers[b, NEXT]
        source = _smallest_needed(items, count, buffers)
        if count == 0:  # no factor contains the variable: a table of ones
            items[0] = _add_over(order, step, step + 1, 0, 0, variables, buffers, scopes, counts)
            _multiply(v, items[0], ONE, ONE, buffers, steps, counts)
            count = 1
        rank, whole = _scope_of_all(items, count, variables, buffers, scopes, work, other)
        over = counts[NUM_SCOPES]
        entries = 1
        scopes[over] = v
        for k in range(1, rank):  # the message is over all variables but the eliminated one
            scopes[over + k] = work[k]
            entries *= variables[work[k], CARD]
        counts[NUM_SCOPES] += rank
        count = _multiply_down(v, items, count, whole, variables, buffers, scopes, steps, counts,
                               work)  # fmt: skip
        if variables[v, WANTED] and source < 0 and count == 3:
            source = items[0]
            for i in range(1, 3):
                if buffers[items[i], SIZE] < buffers[source, SIZE]:
                    source = items[i]
            buffers[source, NEED] = 1
        variables[v, SOURCE] = source
        x, y, z = items[0], items[1] if count > 1 else ONE, items[2] if count > 2 else ONE
        wide = buffers[x, WIDE] | buffers[y, WIDE] | buffers[z, WIDE]
        need = buffers[x, NEED] | buffers[y, NEED] | buffers[z, NEED] | variables[v, WANTED]
        out = _add_buffer(buffers, over + 1, rank - 1, entries, wide, need, counts)
        _add_step(steps, MESSAGE, v, out, x, y, z, over, rank, counts)
        if rank == 1:
            buffers[out, ADJOINT_OF] = ONE
        else:
            _put(out, scopes[over + 1], variables, buffers, counts)


@lean
def _adjoints(up: int, buffers: Ints, steps: Ints, counts: Ints) -> None:
    """The adjoint of each wanted operand of an upward step: the output's times the others."""
    above = buffers[steps[up, OUT], ADJOINT_OF]
    for turn in range(3):
        a = steps[up, X + turn]
        if buffers[a, NEED]:
            b, c = steps[up, Y if turn == 0 else X], steps[up, Y if turn == 2 else Z]
            out = _add_buffer(buffers, buffers[a, FIRST], buffers[a, RANK], buffers[a, SIZE], 1, 0,
                              counts)  # fmt: skip
            buffers[a, ADJOINT_OF] = out
            _add_step(steps, ADJOINT, steps[up, VAR], out, above, b, c, steps[up, OVER],
                      steps[up, NUM_OVER], counts)  # fmt: skip


@lean
def downward(variables: Ints, buffers: Ints, scopes: Ints, steps: Ints, counts: Ints) -> None:
    """Reverse the upward steps: the adjoint of an operand is the output's times the others."""
    for up in range(counts[NUM_STEPS] - 1, -1, -1):
        v = steps[up, VAR]
        wanted, source = variables[v, WANTED], variables[v, SOURCE]
        if steps[up, KIND] == MESSAGE and wanted:
            first = counts[NUM_SCOPES]
            scopes[first] = v
            counts[NUM_SCOPES] += 1
            out = _add_buffer(buffers, first, 1, variables[v, CARD], 1, 0, counts)
            variables[v, BELIEF_OF] = out
            if source < 0:
                above = buffers[steps[up, OUT], ADJOINT_OF]
                _add_step(steps, MARGINAL, v, out, above, steps[up, X], steps[up, Y],
                          steps[up, OVER], steps[up, NUM_OVER], counts)  # fmt: skip
        if buffers[steps[up, OUT], NEED]:
            _adjoints(up, buffers, steps, counts)
        # all adjoints of the bucket are complete once its first upward step has been reversed
        if (up == 0 or steps[up - 1, VAR] != v) and wanted and source >= 0:
            above = buffers[source, ADJOINT_OF]
            _add_step(steps, MARGINAL, v, variables[v, BELIEF_OF], above, source, ONE,
                      buffers[source, FIRST], buffers[source, RANK], counts)  # fmt: skip
