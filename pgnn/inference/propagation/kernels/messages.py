"""Messages from factors to elements, and beliefs: the product of a field and all messages."""

from __future__ import annotations

import math

import numpy as np

from pgnn.factors.groups.kernel_kinds import TABLE
from pgnn.inference.kernels.algebra import (
    commit,
    logarithm,
    normalize,
    nothing,
    over,
    plus,
    power,
    times,
    unit,
)
from pgnn.inference.kernels.compiled import inlined_numeric, inner_numeric
from pgnn.inference.kernels.kinds import binary_table
from pgnn.inference.kernels.kinds import message as kind_message

_WEIGHTED = ()
_ANY, _FOUR, _SIXTEEN = (0,), (0,) * 4, (0,) * 16
_SCALE_INTERVAL = 8  # number of messages that are multiplied before the product is scaled


@inner_numeric
def update_belief(algebra, element, inbox, i, field, weight, message, belief):
    """Update an element's belief; return whether any state is possible."""
    if weight.shape[0] > 0:
        scale = _product(algebra, _WEIGHTED, element, inbox, i, field, weight, message, belief)
    elif (
        element[i, 1] == 2
        and len(algebra) == 1
        and element[i + 1, 2] - element[i, 2] < _SCALE_INTERVAL
    ):
        scale = _binary_belief(element, inbox, i, field, weight, message, belief)
    elif element[i, 1] == 4:
        scale = _product(algebra, _FOUR, element, inbox, i, field, weight, message, belief)
    else:
        scale = _product(algebra, _ANY, element, inbox, i, field, weight, message, belief)
    return scale[1] > nothing(algebra)


@inner_numeric
def log_sum(algebra, element, inbox, i, field, weight, message, belief):
    """Update an element's belief; return the logarithm of its sum before it is normalised."""
    if weight.shape[0] > 0:
        scale = _product(algebra, _WEIGHTED, element, inbox, i, field, weight, message, belief)
    else:
        scale = _product(algebra, _ANY, element, inbox, i, field, weight, message, belief)
    return scale[0] + logarithm(algebra, scale[1])


@inlined_numeric
def _binary_belief(element, inbox, i, field, weight, message, belief):
    o = element[i, 0]
    p, q = field[o], field[o + 1]
    for k in range(element[i, 2], element[i + 1, 2]):
        m = inbox[k, 0]
        p *= message[m]
        q *= message[m + 1]
    value = p + q
    if not value > 0.0:
        return _in_logarithms(element, inbox, i, field, weight, message, belief)
    belief[o] = p / value
    belief[o + 1] = q / value
    return 0.0, value


@inlined_numeric
def _product(algebra, states, element, inbox, i, field, weight, message, belief):
    o, num = element[i, 0], np.int64(element[i, 1])
    if len(states) > 1:
        num = np.int64(len(states))
    for x in range(num):
        belief[o + x] = field[o + x]
    log_scale, since = 0.0, 0
    for p in range(element[i, 2], element[i + 1, 2]):
        m = inbox[p, 0]
        if len(states) == 0:
            rho = weight[inbox[p, 2]]
            for x in range(num):
                belief[o + x] = times(algebra, belief[o + x], power(algebra, message[m + x], rho))
        else:
            for x in range(num):
                belief[o + x] = times(algebra, belief[o + x], message[m + x])
        since += 1
        if since == _SCALE_INTERVAL:
            log_scale += logarithm(algebra, normalize(algebra, belief, o, num))
            since = 0
    value = normalize(algebra, belief, o, num)
    if len(algebra) == 1 and not (value > 0.0 and log_scale > -math.inf):
        return _in_logarithms(element, inbox, i, field, weight, message, belief)
    return log_scale, value


@inner_numeric
def _in_logarithms(element, inbox, i, field, weight, message, belief):
    """The belief computed in log space, where products of probabilities underflow."""
    o, num = element[i, 0], element[i, 1]
    top = -math.inf
    for x in range(num):
        value = math.log(field[o + x]) if field[o + x] > 0.0 else -math.inf
        for p in range(element[i, 2], element[i + 1, 2]):
            m = message[inbox[p, 0] + x]
            rho = weight[inbox[p, 2]] if weight.shape[0] > 0 else 1.0
            value += rho * math.log(m) if m > 0.0 else -math.inf
        belief[o + x] = value
        top = max(top, value)
    if top == -math.inf:
        for x in range(o, o + num):
            belief[x] = 0.0
        return 0.0, 0.0
    value = 0.0
    for x in range(o, o + num):
        belief[x] = math.exp(belief[x] - top)
        value += belief[x]
    for x in range(o, o + num):
        belief[x] /= value
    return top, value


@inner_numeric
def flood_factors(algebra, factor, slot, table, belief, message, damping, scratch):
    """Update all messages from the current beliefs.

    Returns:
        The largest change of a message, or -1 if no state is possible.
    """
    distance = 0.0
    for f in range(factor.shape[0]):
        s, arity, t, kind = factor[f, 0], factor[f, 1], factor[f, 2], factor[f, 3]
        if arity == 2:
            if len(algebra) == 1 and slot[s, 2] == 2 and slot[s + 1, 2] == 2:
                moved = _binary_messages(slot, s, table, t, kind, belief, message, damping)
            elif slot[s, 2] == 4 and slot[s + 1, 2] == 4:
                moved = _pair_messages(
                    algebra, _FOUR, slot, s, table, t, kind, belief, message, damping, scratch
                )
            elif slot[s, 2] == 16 and slot[s + 1, 2] == 16:
                moved = _pair_messages(
                    algebra, _SIXTEEN, slot, s, table, t, kind, belief, message, damping, scratch
                )
            else:
                moved = _pair_messages(
                    algebra, _ANY, slot, s, table, t, kind, belief, message, damping, scratch
                )
        else:
            moved = _many_messages(
                algebra, slot, s, arity, table, t, belief, message, damping, scratch
            )
        if moved < 0.0:
            return -1.0
        distance = max(distance, moved)
    return distance


@inner_numeric
def _binary_messages(slot, s, table, t, kind, belief, message, damping):
    """Both messages between two elements of two states, in probabilities."""
    o, m, p, n = slot[s, 0], slot[s, 1], slot[s + 1, 0], slot[s + 1, 1]
    if kind == TABLE:
        a, b, c, d = table[t], table[t + 1], table[t + 2], table[t + 3]
    else:
        a, b, c, d = binary_table(kind, table, t)
    x0, x1, y0, y1 = message[m], message[m + 1], message[n], message[n + 1]
    u0, u1, v0, v1 = belief[o], belief[o + 1], belief[p], belief[p + 1]
    # each state times the denominator of the other, instead of two divisions
    if x0 > 0.0 and x1 > 0.0:
        u0, u1 = u0 * x1, u1 * x0
    if y0 > 0.0 and y1 > 0.0:
        v0, v1 = v0 * y1, v1 * y0
    q0, q1 = a * v0 + b * v1, c * v0 + d * v1
    r0, r1 = a * u0 + c * u1, b * u0 + d * u1
    if not (q0 + q1 > 0.0 and r0 + r1 > 0.0):
        return -1.0
    q, r = 1.0 / (q0 + q1), 1.0 / (r0 + r1)
    q0, q1, r0, r1 = q0 * q, q1 * q, r0 * r, r1 * r
    message[m] = q0 + damping * (x0 - q0) if q0 > 0.0 else 0.0
    message[m + 1] = q1 + damping * (x1 - q1) if q1 > 0.0 else 0.0
    message[n] = r0 + damping * (y0 - r0) if r0 > 0.0 else 0.0
    message[n + 1] = r1 + damping * (y1 - r1) if r1 > 0.0 else 0.0
    return max(abs(q0 - x0) + abs(q1 - x1), abs(r0 - y0) + abs(r1 - y1))


@inner_numeric
def _pair_messages(algebra, states, slot, s, table, t, kind, belief, message, damping, scratch):
    """Both messages between two elements."""
    k, l = np.int64(slot[s, 2]), np.int64(slot[s + 1, 2])  # noqa: E741
    if len(states) > 1:
        k, l = np.int64(len(states)), np.int64(len(states))  # noqa: E741
    new = scratch.shape[0] // 4
    _cavity(algebra, belief, slot[s, 0], message, slot[s, 1], k, scratch, 0)
    _cavity(algebra, belief, slot[s + 1, 0], message, slot[s + 1, 1], l, scratch, k)
    if kind == TABLE:
        _both_products(algebra, table, t, k, l, scratch, new)
    else:
        kind_message(algebra, kind, table, t, scratch, 0, k, new + k)
        kind_message(algebra, kind, table, t, scratch, k, k, new)
    first = commit(algebra, scratch, new, message, slot[s, 1], k, damping)
    second = commit(algebra, scratch, new + k, message, slot[s + 1, 1], l, damping)
    return max(first, second) if min(first, second) >= 0.0 else -1.0


@inlined_numeric
def _both_products(algebra, table, t, k, l, x, new):  # noqa: E741
    """Products of a ``k`` by ``l`` table with a vector on either side, in one pass over it."""
    for b in range(l):
        x[new + k + b] = nothing(algebra)
    for a in range(k):
        entry_a, value = x[a], nothing(algebra)
        for b in range(l):
            entry = table[t + b]
            value = plus(algebra, value, times(algebra, entry, x[k + b]))
            x[new + k + b] = plus(algebra, x[new + k + b], times(algebra, entry_a, entry))
        x[new + a] = value
        t += l


@inner_numeric
def contract(algebra, source, at, left, num, right, x, v, to):
    """Sum over the middle axis of a ``(left, num, right)`` table times a vector.

    Args:
        source: Array with the table at ``at``; may be ``x`` with ``at`` equal to ``to``, since
            entries are read before they are overwritten.
        x: Array with the vector at ``v``; the result is written at ``to``.
    """
    for i in range(left):
        a, b = at + i * num * right, to + i * right
        if right == 1:
            value = nothing(algebra)
            for k in range(num):
                value = plus(algebra, value, times(algebra, source[a + k], x[v + k]))
            x[b] = value
            continue
        for r in range(right):
            x[b + r] = times(algebra, source[a + r], x[v])
        for k in range(1, num):
            a += right
            for r in range(right):
                term = times(algebra, source[a + r], x[v + k])
                x[b + r] = plus(algebra, x[b + r], term)


@inner_numeric
def _many_messages(algebra, slot, s, arity, table, t, belief, message, damping, scratch):
    r"""All messages of a factor over any number of elements.

    With :math:`A_0` the table and :math:`A_k` its contraction with the first ``k`` cavities, the
    message to axis ``k`` is :math:`A_k` contracted with the cavities of the axes after it: about
    four passes over the table, whatever the number of elements.
    """
    width = scratch.shape[0] // 4
    new, prefix, suffix = width, 2 * width, 3 * width
    size, room = 1, 0
    for j in range(s, s + arity):
        _cavity(algebra, belief, slot[j, 0], message, slot[j, 1], slot[j, 2], scratch, room)
        room += slot[j, 2]
        size *= slot[j, 2]
    source, at, place = table, t, 0
    for j in range(s, s + arity):
        behind, base, left, v = source, at, size, room
        for other in range(s + arity - 1, j, -1):
            num = slot[other, 2]
            v -= num
            left //= num
            contract(algebra, behind, base, left, num, 1, scratch, v, suffix)
            behind, base = scratch, suffix
        num = slot[j, 2]
        for k in range(num):
            scratch[new + place + k] = behind[base + k]
        if j + 1 < s + arity:
            size //= num
            contract(algebra, source, at, 1, num, size, scratch, place, prefix)
            source, at = scratch, prefix
        place += num
    distance, place = 0.0, 0
    for j in range(s, s + arity):
        num = slot[j, 2]
        moved = commit(algebra, scratch, new + place, message, slot[j, 1], num, damping)
        if moved < 0.0:
            return -1.0
        distance = max(distance, moved)
        place += num
    return distance


@inlined_numeric
def _cavity(algebra, belief, o, message, m, num, scratch, at):
    """Write the cavity of an element: its belief divided by a factor's message."""
    for k in range(num):
        scratch[at + k] = over(algebra, belief[o + k], message[m + k])


@inner_numeric
def _cavity_or_state(algebra, slot, s, belief, message, state, scratch):
    """Write the cavity of the element at a slot, or the indicator of its chosen state if any."""
    k = state[slot[s, 3]]
    if k < 0:
        _cavity(algebra, belief, slot[s, 0], message, slot[s, 1], slot[s, 2], scratch, 0)
        return
    for i in range(slot[s, 2]):
        scratch[i] = nothing(algebra)
    scratch[k] = unit(algebra)


@inner_numeric
def message_into(algebra, factor, slot, f, target, table, belief, message, state, scratch):
    """Write the unnormalised message of a factor to one slot.

    Args:
        f: The factor.
        target: The slot.
        state: ``(E,)`` chosen states, -1 where none.

    Returns:
        Offset of the message in ``scratch``.
    """
    s, arity, t = factor[f, 0], factor[f, 1], factor[f, 2]
    new, work = scratch.shape[0] // 4, scratch.shape[0] // 2
    if factor[f, 3] != TABLE:
        other = 2 * s + 1 - target
        _cavity_or_state(algebra, slot, other, belief, message, state, scratch)
        num = slot[other, 2]
        kind_message(algebra, factor[f, 3], table, t, scratch, 0, num, new)
        return new
    size = 1
    for j in range(s, s + arity):
        size *= slot[j, 2]
    source, at = table, t
    for j in range(s + arity - 1, target, -1):
        num = slot[j, 2]
        _cavity_or_state(algebra, slot, j, belief, message, state, scratch)
        size //= num
        contract(algebra, source, at, size, num, 1, scratch, 0, work)
        source, at = scratch, work
    for j in range(s, target):
        num = slot[j, 2]
        _cavity_or_state(algebra, slot, j, belief, message, state, scratch)
        size //= num
        contract(algebra, source, at, 1, num, size, scratch, 0, work)
        source, at = scratch, work
    return work


@inner_numeric
def factor_total(algebra, factor, slot, f, table, belief, message, state, scratch):
    """Return the sum (or maximum) of a factor's table times all cavities."""
    s = factor[f, 0]
    at = message_into(algebra, factor, slot, f, s, table, belief, message, state, scratch)
    _cavity_or_state(algebra, slot, s, belief, message, state, scratch)
    value = nothing(algebra)
    for k in range(slot[s, 2]):
        value = plus(algebra, value, times(algebra, scratch[at + k], scratch[k]))
    return value
