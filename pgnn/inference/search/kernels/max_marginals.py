"""Max-marginals of factors, less what the factors have handed to their elements."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pgnn.factors.groups.kernel_kinds import TABLE
from pgnn.inference.kernels.compiled import entry, inlined, inner
from pgnn.inference.kernels.kinds import max_marginal

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

EARLIER, LATER = 1, 2


class Places(NamedTuple):
    """Where numbers stand: what of ``wiring.Wiring`` a sweep needs.

    Attributes:
        card: ``(E,)`` state counts.
        offset: ``(E + 1,)`` first column of each element.
        scope_ptr: ``(F + 1,)`` first slot of each factor.
        scope_var: ``(L,)`` element of each slot.
        slot_factor: ``(L,)`` factor of each slot.
        message: ``(L + 1,)`` first message entry of each slot.
        var_ptr: ``(E + 1,)`` where each element's slots begin in ``var_slot``.
        var_slot: ``(L,)`` slots of each element.
        kind: ``(F,)`` code of each factor's kind.
        table: ``(F,)`` first entry of each factor's table.
        others: ``(L,)`` bits: whether the factor touches earlier and later elements, too.
    """

    card: Ints
    offset: Ints
    scope_ptr: Ints
    scope_var: Ints
    slot_factor: Ints
    message: Ints
    var_ptr: Ints
    var_slot: Ints
    kind: NDArray[np.int8]
    table: Ints
    others: NDArray[np.int8]


class Room(NamedTuple):
    """Memory to work in, as large as the largest element or factor needs."""

    belief: Floats
    choice: Floats
    digit: Ints
    fixed: Bools
    sums: Floats


@entry
def other_elements(scope_ptr: Ints, scope_var: Ints) -> NDArray[np.int8]:
    """Tell for each slot whether its factor touches earlier (1) and later (2) elements."""
    bits = np.zeros(scope_var.shape[0], np.int8)
    for f in range(scope_ptr.shape[0] - 1):
        for s in range(scope_ptr[f], scope_ptr[f + 1]):
            for t in range(scope_ptr[f], scope_ptr[f + 1]):
                if scope_var[t] < scope_var[s]:
                    bits[s] |= EARLIER
                elif scope_var[t] > scope_var[s]:
                    bits[s] |= LATER
    return bits


@inner
def _rows(table, begin, num, num_other, given, delta, at, out):
    """Max-marginal of the first of a pair."""
    for x in range(num):
        top = -np.inf
        for y in range(num_other):
            value = table[begin + y] - delta[given + y]
            top = value if value > top else top
        out[at + x] = top
        begin += num_other


@inner
def _columns(table, begin, num, num_other, given, delta, at, out):
    """Max-marginal of the second of a pair."""
    for x in range(num):
        out[at + x] = -np.inf
    for y in range(num_other):
        less = delta[given + y]
        for x in range(num):
            value = table[begin + x] - less
            out[at + x] = value if value > out[at + x] else out[at + x]
        begin += num


@inner
def any_order(places, room, table, delta, slot, states, held, at, out):
    """Max-marginal of one place of a factor, some other places being held at their states.

    Args:
        states: ``(E,)`` states of the elements that are held; their ``delta`` is left out.
        held: Bits of the elements to hold, as in ``places.others``; 0 for none.
    """
    f = places.slot_factor[slot]
    first, last = places.scope_ptr[f], places.scope_ptr[f + 1]
    arity = last - first
    own = places.scope_var[slot]
    digit, fixed, sums = room.digit, room.fixed, room.sums
    for x in range(places.card[own]):
        out[at + x] = -np.inf
    for d in range(arity):
        v = places.scope_var[first + d]
        fixed[d] = (held & EARLIER and v < own) or (held & LATER and v > own)
        digit[d] = states[v] if fixed[d] else 0
    mine, d = slot - first, 0
    while d >= 0:
        for k in range(d, arity):
            less = 0.0
            if not fixed[k] and k != mine:
                less = delta[places.message[first + k] + digit[k]]
            sums[k + 1] = sums[k] - less
        place = 0
        for k in range(arity):
            place = place * places.card[places.scope_var[first + k]] + digit[k]
        value = sums[arity] + table[places.table[f] + place]
        if value > out[at + digit[mine]]:
            out[at + digit[mine]] = value
        d = arity - 1
        while d >= 0:
            if not fixed[d]:
                digit[d] += 1
                if digit[d] < places.card[places.scope_var[first + d]]:
                    break
                digit[d] = 0
            d -= 1


@inlined
def collect(places, room, table, delta, slot):
    """Make the factor's max-marginal at this place zero: the element takes it over."""
    f = places.slot_factor[slot]
    first = places.scope_ptr[f]
    at, num = places.message[slot], places.card[places.scope_var[slot]]
    if places.scope_ptr[f + 1] - first != 2:
        any_order(places, room, table, delta, slot, places.card, 0, at, delta)
        return
    other = 2 * first + 1 - slot
    given, num_other = places.message[other], places.card[places.scope_var[other]]
    if places.kind[f] != TABLE:
        max_marginal(places.kind[f], table, places.table[f], num, delta, given, delta, at)
    elif slot == first:
        _rows(table, places.table[f], num, num_other, given, delta, at, delta)
    else:
        _columns(table, places.table[f], num, num_other, given, delta, at, delta)
