"""Write the sections of a program: instructions, copies of tables, lists and records."""

from __future__ import annotations

from pgnn.inference.exact.kernels.program import (
    ADDRESS,
    ADJOINT_OF,
    BUCKET,
    BUFFER,
    CARD,
    FIRST,
    FREE,
    HEADER,
    KIND,
    LOAD,
    LOOP,
    MAXIMIZE,
    MESSAGE,
    NEXT,
    NUM_OVER,
    NUM_UP,
    ONE,
    OPEN,
    OUT,
    OVER,
    RANK,
    ROOT,
    ROWWISE,
    SCOPE,
    SIZE,
    VAR,
    WIDE,
    X,
    stride_of,
)
from pgnn.inference.kernels.compiled import Ints, inlined_lean, lean


@inlined_lean
def _add_loop(code: Ints, at: int, depth: int, n: int, strides: Ints, k: int) -> int:
    """Append a loop to a nest, fused with the enclosing loop if all strides allow it.

    Its strides are in row ``k``.
    """
    if n == 1:
        return depth
    last = at + HEADER + LOOP * (depth - 1)
    if depth > 0:
        fused = True
        for i in range(4):
            fused = fused and code[last + 1 + i] == strides[k, i] * n
        if fused:
            n *= code[last]
            depth -= 1
            last -= LOOP
    code[last + LOOP] = n
    for i in range(4):
        code[last + LOOP + 1 + i] = strides[k, i]
    return depth + 1


@inlined_lean
def _swap(code: Ints, i: int, j: int) -> None:
    code[i], code[j] = code[j], code[i]


@inlined_lean
def _run_along(code: Ints, at: int, depth: int) -> int:
    """Make the longest loop over contiguous values the innermost one, if there is one.

    Operands that advance with it then come first, constant ones last. For single rows, whose
    innermost loop takes several values at a time.
    """
    best, longest = -1, 1
    for d in range(depth):
        k = at + HEADER + LOOP * d
        unit = code[k + 2] + code[k + 3] + code[k + 4] > 0
        for i in range(1, LOOP):
            unit = unit and 0 <= code[k + i] <= 1
        if unit and code[k] >= longest:
            best, longest = d, code[k]
    if best < 0:
        return 0
    for d in range(best, depth - 1):
        for i in range(LOOP):
            k = at + HEADER + LOOP * d + i
            _swap(code, k, k + LOOP)
    inner = at + HEADER + LOOP * (depth - 1)
    for turn in range(3):
        i = turn & 1  # operands 0 and 1, 1 and 2, 0 and 1
        if code[inner + 2 + i] < code[inner + 3 + i]:
            _swap(code, at + 4 + i, at + 5 + i)
            for d in range(depth):
                k = at + HEADER + LOOP * d + 2
                _swap(code, k + i, k + i + 1)
    code[at + 7] = code[inner + 2] + code[inner + 3] + code[inner + 4]
    return 1


@inlined_lean
def _set_strides(
    buffer: int, turn: int, op: int, width: int, variables: Ints, buffers: Ints, scopes: Ints,
    steps: Ints, strides: Ints,
) -> None:  # fmt: skip
    """Write the strides of a buffer along each variable of a step to a column of ``strides``."""
    first, over = buffers[buffer, FIRST], steps[op, OVER]
    i = first + buffers[buffer, RANK] - 1
    stride = width if buffers[buffer, WIDE] else 1
    for k in range(steps[op, NUM_OVER] - 1, -1, -1):
        strides[k, turn] = 0
        if i >= first and scopes[i] == scopes[over + k]:  # both are sorted by elimination position
            strides[k, turn] = stride
            stride *= variables[scopes[i], CARD]
            i -= 1


@inlined_lean
def _encode_step(
    op: int, kind: int, variables: Ints, buffers: Ints, scopes: Ints, steps: Ints, width: int,
    code: Ints, at: int, strides: Ints,
) -> float:  # fmt: skip
    """Write one instruction at ``code[at:]``, its length first; return its multiply-adds.

    In tiles of rows the summed axes are innermost, so that sums stay in registers; for single rows
    the axes keep their order, so that the inner loop runs over contiguous values. ``strides`` is
    scratch for the strides of the output and the operands along each variable.
    """
    out, a, b, c = steps[op, OUT], steps[op, X], steps[op, X + 1], steps[op, X + 2]
    # wide operands first, constants last: the kernel has only those combinations
    for _ in range(2):
        if buffers[b, WIDE] > buffers[a, WIDE] or (a == ONE and b != ONE):
            a, b = b, a
        if buffers[c, WIDE] > buffers[b, WIDE] or (b == ONE and c != ONE):
            b, c = c, b
    for turn in range(4):
        buffer = out if turn == 0 else (a if turn == 1 else (b if turn == 2 else c))
        _set_strides(buffer, turn, op, width, variables, buffers, scopes, steps, strides)
    over, rank, depth, cost = steps[op, OVER], steps[op, NUM_OVER], 0, 1.0
    for summed in range(2 if width > 1 else 1):
        for k in range(rank):
            if width == 1 or (strides[k, 0] == 0) == (summed == 1):
                states = variables[scopes[over + k], CARD]
                depth = _add_loop(code, at, depth, states, strides, k)
                cost *= states
    if depth == 0:
        for i in range(LOOP):
            code[at + HEADER + i] = 1 if i == 0 else 0
        depth = 1
    code[at], code[at + 1] = HEADER + LOOP * depth, kind
    code[at + 2], code[at + 3] = buffers[out, ADDRESS], buffers[out, SIZE]
    code[at + 4], code[at + 5] = buffers[a, ADDRESS], buffers[b, ADDRESS]
    code[at + 6] = buffers[c, ADDRESS]
    code[at + 7] = buffers[a, WIDE] + buffers[b, WIDE] + buffers[c, WIDE]
    code[at + 8] = 2 if c == ONE else 3
    code[at + 9] = depth
    message = steps[op, KIND] == MESSAGE
    code[at + 10] = 1 if message and variables[steps[op, VAR], MAXIMIZE] else 0
    code[at + 11] = _run_along(code, at, depth) if width == 1 else 0
    return cost


@lean
def encode_steps(
    begin: int, end: int, wide: int, variables: Ints, buffers: Ints, scopes: Ints, steps: Ints,
    counts: Ints, width: int, code: Ints, at: int, strides: Ints,
) -> tuple[int, float]:  # fmt: skip
    """Write those steps from ``begin`` to ``end`` whose output is wide, or those whose is not.

    Returns the start of the next section, and the multiply-adds. The steps of a component are
    contiguous, its last message at the end: the part that is done once for all rows is *open* if
    that message depends on the row.
    """
    total = 0.0
    last = begin  # the last message of the component
    for op in range(begin, end):
        if op < counts[NUM_UP] and last <= op:
            last = op
            while steps[last, KIND] != MESSAGE or buffers[steps[last, OUT], RANK] > 0:
                last += 1
        out = steps[op, OUT]
        if buffers[out, WIDE] != wide:
            if op == last:
                last += 1
            continue
        kind = steps[op, KIND]
        if kind == MESSAGE and buffers[out, RANK] == 0:
            kind = ROOT
        elif not wide and buffers[steps[last, OUT], WIDE]:
            kind = OPEN
        total += _encode_step(op, kind, variables, buffers, scopes, steps, width, code, at, strides)
        at += code[at]
        if op == last:
            last += 1
    return at, total


@lean
def encode_load(
    f: int, adjoint: int, scope_var: Ints, variables: Ints, factors: Ints, buffers: Ints,
    scopes: Ints, width: int, code: Ints, at: int,
) -> int:  # fmt: skip
    """Write the copy of factor ``f`` into its buffer (none if it is completely observed).

    With ``adjoint``, the address of the buffer's adjoint replaces its size. Returns the start of
    the next entry.
    """
    scope = scope_var[factors[f, SCOPE] : factors[f + 1, SCOPE]]
    k, fixed, loops = at + LOAD, 0, 0
    for i in range(scope.shape[0]):
        if not variables[scope[i], FREE]:
            code[k], code[k + 1] = scope[i], stride_of(scope[i], scope, variables)
            k += 2
            fixed += 1
    b = factors[f, BUFFER]
    code[at + 2], code[at + 3], code[at + 6] = 0, 1, 1
    if b >= 0:
        for i in range(buffers[b, FIRST], buffers[b, FIRST] + buffers[b, RANK]):
            v = scopes[i]
            code[k], code[k + 1] = variables[v, CARD], stride_of(v, scope, variables)
            k += 2
            loops += 1
        code[at + 2], code[at + 6] = buffers[b, ADDRESS], buffers[b, SIZE]
        if buffers[b, WIDE]:
            code[at + 3] = width
    if adjoint:
        code[at + 6] = buffers[buffers[b, ADJOINT_OF], ADDRESS] if b >= 0 else 0
    code[at], code[at + 1], code[at + 4], code[at + 5] = k - at, f, fixed, loops
    code[at + 7] = factors[f, ROWWISE]
    return k


@lean
def encode_records(
    order: Ints, variables: Ints, buffers: Ints, scopes: Ints, code: Ints, at: int
) -> int:
    """Write the records for choosing states from the roots to the leaves.

    First the start of each bucket's record; then the records: the eliminated variable, its state
    count, whether it is maximised over, the number of tables, and for each table its address,
    whether it depends on the row, and its other variables with their state counts.
    """
    begin = at
    at += order.shape[0]
    for k in range(order.shape[0]):
        v, head = order[k], at
        code[begin + k] = head
        code[head], code[head + 1] = v, variables[v, CARD]
        code[head + 2], code[head + 3] = variables[v, MAXIMIZE], 0
        at += 4
        b = variables[v, BUCKET]
        while b >= 0:
            code[head + 3] += 1
            code[at], code[at + 1] = buffers[b, ADDRESS], buffers[b, WIDE]
            code[at + 2] = buffers[b, RANK] - 1
            at += 3
            for i in range(1, buffers[b, RANK]):
                u = scopes[buffers[b, FIRST] + i]
                code[at], code[at + 1] = u, variables[u, CARD]
                at += 2
            b = buffers[b, NEXT]
    return at
