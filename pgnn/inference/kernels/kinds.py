"""What compiled kernels do for the kinds of factors that are not dense tables.

The codes are in :mod:`pgnn.factors.groups.kernel_kinds`. Kernels walk over dense tables themselves;
where ``wiring.kind[f]`` is another code than ``TABLE``, they call what they need here. All such
kinds are over two elements of equally many states, and treat both alike. The entries of each, as
many as the ``num_entries`` of its class, begin at ``table[at]``:

``POTTS``
    ``[differ, same]``: log weights of states that differ, and of equal ones.

A kind without a code is written down as tables before kernels see it. ``POTTS`` is the only code
besides ``TABLE`` so far, so that nothing below looks at ``kind``. A second one takes a constant
beside them, the ``kernel_kind`` of its class, and a branch by ``kind`` in every function here; the
kernels that call these stay as they are. A kind that is not symmetric does not fit.
"""

from __future__ import annotations

import numpy as np

from pgnn.inference.kernels.algebra import nothing, plus, times
from pgnn.inference.kernels.compiled import inlined, inlined_numeric, inner

# --- complete rows -------------------------------------------------------------------------------


@inlined
def entry_at(kind, at, x, y):
    """Where the entry of two states stands."""
    return at + 1 if x == y else at


@inlined
def add_row(kind, table, at, state, num, out, to):
    """Add the log values by one element's states, the other one's being ``state``.

    Args:
        num: States of the element.
        out: Added to from ``to`` on.
    """
    if table[at] != 0.0:
        for k in range(num):
            if k != state:
                out[to + k] += table[at]
    out[to + state] += table[at + 1]


@inlined
def add_row_gradient(kind, gradient, at, state, num, by_row, start):
    """Add to the derivatives by entries what those by :func:`add_row`'s results make of them.

    Entries that no number of the factors stands for are left out.
    """
    gradient[at + 1] += by_row[start + state]


@inlined
def change_row(kind, table, at, old, new, num, out, to):
    """Take :func:`add_row` of one state away, and add that of another."""
    gain = table[at + 1] - table[at]
    out[to + old] -= gain
    out[to + new] += gain


@inlined
def multiply_row(kind, table, at, state, num, out):
    """Multiply ``out`` by weights as :func:`add_row` adds logs; the largest weight is one."""
    if table[at] < 1.0:
        kept = out[state]
        for k in range(num):
            out[k] *= table[at]
        out[state] = kept
    else:
        out[state] *= table[at + 1]


@inner
def add_interaction(kind, table, at, x, y, num_x, num_y, swap):
    r"""Add to ``swap[a, b]`` what a joint change is worth beyond both changes alone.

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
    """The largest entry beside a state of one element.

    Args:
        other: The other element's state, -1 if any of ``num_other`` will do.
    """
    if other >= 0:
        return table[at + 1] if other == state else table[at]
    if num_other == 1:
        return table[at + 1]
    return max(table[at], table[at + 1])


@inner
def mark_supported(kind, table, at, alive, a, b, num, kept):
    """Mark the states that some entry allows beside living states of the other element.

    Args:
        alive: Whether states are possible: of one element from ``a`` on, of the other from ``b``.
        num: States of each.
        kept: ``(2 num,)`` written.
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
    """Add the expected log values by one element's states.

    Args:
        q: Probabilities of the other one, from ``other`` on.
        num: States of each.
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
    """Write the largest log values by one element's states, less ``delta`` of the other one's.

    Args:
        delta: From ``other`` on.
        out: Written from ``to`` on; may be ``delta``.
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
    """The four entries over two elements of two states, the second one's states fastest."""
    return table[at + 1], table[at], table[at], table[at + 1]


@inlined_numeric
def message(algebra, kind, table, at, x, source, num, to):
    r"""Write :math:`v \sum_{b \ne a} x_b + w x_a` for every ``a``, without taking differences.

    Where :math:`w \ge v / 2` the sum of all, plus :math:`(w - v) x_a`, loses at most a bit; below,
    the sums of those before and those after are added.

    Args:
        algebra: Which arithmetic, see :mod:`pgnn.inference.kernels.algebra`; entries are numbers
            of it.
        x: What the rest says about one element, from ``source`` on; the message to the other one
            is written from ``to`` on.
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
