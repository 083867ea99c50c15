"""Operations of compiled kernels for kinds of factors that are not dense tables.

The codes are in :mod:`pgnn.factors.groups.kernel_kinds`. Kernels process dense tables themselves;
if ``wiring.kind[f]`` is another code than ``TABLE``, they call the functions of this module. All
such kinds are symmetric factors over two elements with equal state counts. The entries of a factor,
as many as the ``num_entries`` of its class, begin at ``table[at]``:

``POTTS``
    ``[differ, same]``: log weights of states that differ, and of equal ones.

A kind without a code is tabulated before it reaches the kernels. ``POTTS`` is the only code besides
``TABLE`` so far, so that the functions do not depend on ``kind``. Another one needs a new constant,
the ``kernel_kind`` of its class, and a branch by ``kind`` in every function of this module; the
calling kernels do not change. Asymmetric kinds are not supported.
"""

from __future__ import annotations

import numpy as np

from pgnn.inference.kernels.algebra import nothing, plus, times
from pgnn.inference.kernels.compiled import inlined, inlined_numeric, inner

# --- complete rows -------------------------------------------------------------------------------


@inlined
def entry_at(kind, at, x, y):
    """Offset of the entry of two states."""
    return at + 1 if x == y else at


@inlined
def add_row(kind, table, at, state, num, out, to):
    """Add the log values as a function of one element, the other one being in ``state``.

    Args:
        num: State count of the elements.
        out: Output, added to from index ``to`` on.
    """
    if table[at] != 0.0:
        for k in range(num):
            if k != state:
                out[to + k] += table[at]
    out[to + state] += table[at + 1]


@inlined
def add_row_gradient(kind, gradient, at, state, num, by_row, start):
    """Add the derivatives with respect to entries, given those with respect to :func:`add_row`.

    Entries that are not parameters of the factor are omitted.
    """
    gradient[at + 1] += by_row[start + state]


@inlined
def change_row(kind, table, at, old, new, num, out, to):
    """Subtract :func:`add_row` of one state, and add that of another."""
    gain = table[at + 1] - table[at]
    out[to + old] -= gain
    out[to + new] += gain


@inlined
def multiply_row(kind, table, at, state, num, out):
    """Multiply ``out`` by the weights whose logs :func:`add_row` adds, scaled to at most one."""
    if table[at] < 1.0:
        kept = out[state]
        for k in range(num):
            out[k] *= table[at]
        out[state] = kept
    else:
        out[state] *= table[at + 1]


@inner
def add_interaction(kind, table, at, x, y, num_x, num_y, swap):
    r"""Add to ``swap[a, b]`` the gain of a joint change beyond the gains of both single changes.

    :math:`\theta(a, b) - \theta(a, y) - \theta(x, b) + \theta(x, y)` for the states ``x``, ``y``.
    """
    gain = table[at + 1] - table[at]
    if x == y:
        for a in range(num_x):
            for b in range(num_y):
                swap[a, b] += gain
    for a in range(min(num_x, num_y)):
        swap[a, a] += gain
    for a in range(num_x):
        swap[a, x] -= gain
    for b in range(num_y):
        swap[y, b] -= gain


# --- zeros ---------------------------------------------------------------------------------------


@inner
def best_entry(kind, table, at, state, num_other, other):
    """The largest entry given the state of one element.

    Args:
        other: State of the other element, -1 for any of ``num_other``.
    """
    if other >= 0:
        return table[at + 1] if other == state else table[at]
    if num_other == 1:
        return table[at + 1]
    return max(table[at], table[at + 1])


@inner
def mark_supported(kind, table, at, alive, a, b, num, kept):
    """Mark the states that some entry supports given the live states of the other element.

    Args:
        alive: Live states, of one element from ``a`` on, of the other from ``b`` on.
        num: State count of the elements.
        kept: ``(2 num,)`` output.
    """
    one, two = 0, 0
    for k in range(num):
        one += alive[a + k]
        two += alive[b + k]
    differ, same = table[at] > -np.inf, table[at + 1] > -np.inf
    for k in range(num):
        kept[k] = alive[a + k] and ((differ and two > alive[b + k]) or (same and alive[b + k]))
        kept[num + k] = alive[b + k] and (
            (differ and one > alive[a + k]) or (same and alive[a + k])
        )


# --- expectations, messages, max-marginals -------------------------------------------------------


@inlined
def add_expected_row(kind, table, at, q, other, num, out):
    """Add the expected log values as a function of one element.

    Args:
        q: Probabilities of the other element, from index ``other`` on.
        num: State count of the elements.
    """
    if table[at] != 0.0:
        for k in range(num):
            for j in range(num):
                if j != k and q[other + j] > 0.0:
                    out[k] += q[other + j] * table[at]
    for k in range(num):
        if q[other + k] > 0.0:
            out[k] += q[other + k] * table[at + 1]


@inner
def max_marginal(kind, table, at, num, delta, other, out, to):
    """Write the max-marginal of one element, after subtracting ``delta`` of the other one.

    Args:
        delta: Values of the other element, from index ``other`` on.
        out: Output from index ``to`` on; may be ``delta``.
    """
    top, second, where = -np.inf, -np.inf, 0
    for y in range(num):
        value = -delta[other + y]
        if value > top:
            second, top, where = top, value, y
        elif value > second:
            second = value
    for x in range(num):
        value = table[at] + (second if x == where else top)
        agree = table[at + 1] - delta[other + x]
        out[to + x] = agree if agree > value else value


@inlined_numeric
def binary_table(kind, table, at):
    """The four entries for two binary elements, the second one's states fastest."""
    return table[at + 1], table[at], table[at], table[at + 1]


@inlined_numeric
def message(algebra, kind, table, at, x, source, num, to):
    r"""Write :math:`v \sum_{b \ne a} x_b + w x_a` for every ``a``, without cancellation.

    If :math:`w \ge v / 2`, the sum of all, plus :math:`(w - v) x_a`, loses at most one bit;
    otherwise prefix and suffix sums are added.

    Args:
        algebra: The arithmetic, see :mod:`pgnn.inference.kernels.algebra`.
        x: Cavity of one element, from index ``source`` on; the message to the other one is written
            from index ``to`` on.
    """
    differ, same = table[at], table[at + 1]
    if len(algebra) == 1 and same >= 0.5 * differ:
        value = 0.0
        for a in range(num):
            value += x[source + a]
        for a in range(num):
            x[to + a] = differ * value + (same - differ) * x[source + a]
        return
    before = nothing(algebra)
    for a in range(num):
        around = times(algebra, differ, before)
        x[to + a] = plus(algebra, around, times(algebra, same, x[source + a]))
        before = plus(algebra, before, x[source + a])
    after = nothing(algebra)
    for a in range(num - 1, -1, -1):
        x[to + a] = plus(algebra, x[to + a], times(algebra, differ, after))
        after = plus(algebra, after, x[source + a])
