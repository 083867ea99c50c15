"""Beliefs of elements: the product of a field and all messages."""

from __future__ import annotations

import math

import numpy as np

from pgnn.inference.kernels.algebra import (
    logarithm,
    normalize,
    nothing,
    power,
    times,
)
from pgnn.inference.kernels.compiled import inlined_numeric, inner_numeric

_WEIGHTED, _ANY, _FOUR = (), (0,), (0,) * 4
_EVERY = 8  # messages multiplied before the product is scaled


@inner_numeric
def believe(algebra, element, inbox, i, field, weight, message, belief):
    """Renew an element's belief; return whether any state is possible."""
    if weight.shape[0] > 0:
        scale = _product(algebra, _WEIGHTED, element, inbox, i, field, weight, message, belief)
    elif element[i, 1] == 2 and len(algebra) == 1 and element[i + 1, 2] - element[i, 2] < _EVERY:
        scale = _binary(element, inbox, i, field, weight, message, belief)
    elif element[i, 1] == 4:
        scale = _product(algebra, _FOUR, element, inbox, i, field, weight, message, belief)
    else:
        scale = _product(algebra, _ANY, element, inbox, i, field, weight, message, belief)
    return scale[1] > nothing(algebra)


@inner_numeric
def log_sum(algebra, element, inbox, i, field, weight, message, belief):
    """Renew an element's belief; return the logarithm of its sum before it is normalised."""
    if weight.shape[0] > 0:
        scale = _product(algebra, _WEIGHTED, element, inbox, i, field, weight, message, belief)
    else:
        scale = _product(algebra, _ANY, element, inbox, i, field, weight, message, belief)
    return scale[0] + logarithm(algebra, scale[1])


@inlined_numeric
def _binary(element, inbox, i, field, weight, message, belief):
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
        if since == _EVERY:
            log_scale += logarithm(algebra, normalize(algebra, belief, o, num))
            since = 0
    value = normalize(algebra, belief, o, num)
    if len(algebra) == 1 and not (value > 0.0 and log_scale > -math.inf):
        return _in_logarithms(element, inbox, i, field, weight, message, belief)
    return log_scale, value


@inner_numeric
def _in_logarithms(element, inbox, i, field, weight, message, belief):
    """The belief where products of probabilities leave the range of doubles."""
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
