"""The arithmetic of messages: sums of products, or maxima of sums of logarithms.

Every kernel has an argument ``algebra``, a tuple whose length selects the arithmetic: one for
sum-product on probabilities, two for max-product on log values. The length is known at compile
time, so that each kernel is compiled once for either, without branches.
"""

from __future__ import annotations

import math

from pgnn.inference.kernels.compiled import inlined_numeric

SUM_PRODUCT = (0,)
"""Messages are probabilities."""

MAX_PRODUCT = (0, 0)
"""Messages are logarithms."""


@inlined_numeric
def times(algebra, x, y):
    """Product."""
    if len(algebra) == 1:
        return x * y
    return x + y


@inlined_numeric
def over(algebra, x, y):
    """Quotient for cavities; zero divided by zero is zero."""
    if len(algebra) == 1:
        return x / y if y > 0.0 else 0.0
    return x - y if y > -math.inf else -math.inf


@inlined_numeric
def plus(algebra, x, y):
    """Sum, or maximum."""
    if len(algebra) == 1:
        return x + y
    return x if x > y else y


@inlined_numeric
def nothing(algebra):
    """The neutral element of the sum."""
    if len(algebra) == 1:
        return 0.0
    return -math.inf


@inlined_numeric
def unit(algebra):
    """The neutral element of the product."""
    if len(algebra) == 1:
        return 1.0
    return 0.0


@inlined_numeric
def power(algebra, x, w):
    """``x`` to the positive power ``w``."""
    if len(algebra) == 1:
        return x**w
    return x * w


@inlined_numeric
def logarithm(algebra, x):
    """Natural log of a value."""
    if len(algebra) == 1:
        return math.log(x) if x > 0.0 else -math.inf
    return x


@inlined_numeric
def total(algebra, x, at, num):
    """Sum or maximum of ``num`` values."""
    value = nothing(algebra)
    for k in range(at, at + num):
        value = plus(algebra, value, x[k])
    return value


@inlined_numeric
def normalize(algebra, x, at, num):
    """Divide ``num`` values by their sum or maximum, which is returned; zeros stay zeros."""
    value = total(algebra, x, at, num)
    if value > nothing(algebra):
        for k in range(at, at + num):
            x[k] = over(algebra, x[k], value)
    return value


@inlined_numeric
def commit(algebra, new, at, message, to, num, damping):
    r"""Store a new message, normalised and damped; return its distance from the old one.

    .. math:: m \leftarrow (1 - d)\, m' + d\, m

    for probabilities, or for log values in max-product; zeros are not damped, since a zero proves
    that a state is impossible. The distance :math:`\sum_k |m'_k - m_k|` (in max-product the largest
    difference of log values) is that of the undamped message; -1 if no state is possible.
    """
    value = total(algebra, new, at, num)
    if not value > nothing(algebra):
        return -1.0
    distance = 0.0
    if len(algebra) == 1:
        scale = 1.0 / value
        for k in range(num):
            old = message[to + k]
            fresh = new[at + k] * scale
            distance += abs(fresh - old)
            message[to + k] = fresh + damping * (old - fresh) if fresh > 0.0 else 0.0
        return distance
    for k in range(num):
        old = message[to + k]
        fresh = new[at + k] - value
        if fresh == -math.inf or old == -math.inf:
            if fresh != old:
                distance = max(distance, 1.0)
            message[to + k] = fresh
        else:
            distance = max(distance, abs(fresh - old))
            message[to + k] = fresh + damping * (old - fresh)
    return distance
