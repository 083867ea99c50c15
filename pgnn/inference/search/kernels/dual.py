"""Sweeps of dual decomposition over the elements of a factor graph, in order and in reverse."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pgnn.factors.groups.kernel_kinds import TABLE
from pgnn.inference.kernels.compiled import entry, inlined, inner
from pgnn.inference.kernels.kinds import add_row, max_marginal

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

Bools = NDArray[np.bool_]

EARLIER, LATER = 1, 2


class Room(NamedTuple):
    """Working memory for the largest element and the largest factor."""

    belief: Floats
    choice: Floats
    digit: Ints
    fixed: Bools
    sums: Floats


@entry
def other_elements(factor_ptr: Ints, slot_var: Ints, bits: NDArray[np.int8]) -> None:
    """Write for each slot whether its factor has earlier (1) and later (2) elements.

    Args:
        factor_ptr: ``(F + 1,)`` start of each factor's slots.
        slot_var: ``(L,)`` elements of the slots.
        bits: ``(L,)`` output, initially zeros.
    """
    for f in range(factor_ptr.shape[0] - 1):
        for s in range(factor_ptr[f], factor_ptr[f + 1]):
            for t in range(factor_ptr[f], factor_ptr[f + 1]):
                if slot_var[t] < slot_var[s]:
                    bits[s] |= EARLIER
                elif slot_var[t] > slot_var[s]:
                    bits[s] |= LATER


@inner
def _rows(table, begin, num, num_other, other_at, delta, at, out):
    """Max-marginal of the first element of a pairwise factor."""
    for x in range(num):
        top = -np.inf
        for y in range(num_other):
            value = table[begin + y] - delta[other_at + y]
            top = value if value > top else top
        out[at + x] = top
        begin += num_other


@inner
def _columns(table, begin, num, num_other, other_at, delta, at, out):
    """Max-marginal of the second element of a pairwise factor."""
    for x in range(num):
        out[at + x] = -np.inf
    for y in range(num_other):
        less = delta[other_at + y]
        for x in range(num):
            value = table[begin + x] - less
            out[at + x] = value if value > out[at + x] else out[at + x]
        begin += num


@inner
def any_order(wiring, room, table, delta, slot, states, held, at, out):
    """Max-marginal of one element of a factor, with some other elements fixed.

    Args:
        states: ``(E,)`` states of the fixed elements, whose ``delta`` is omitted.
        held: Bits of the elements to fix, as in ``Sweep.others``; 0 for none.
    """
    f = wiring.slot_factor[slot]
    first, last = wiring.factor_ptr[f], wiring.factor_ptr[f + 1]
    arity = last - first
    variable = wiring.slot_var[slot]
    digit, fixed, sums = room.digit, room.fixed, room.sums
    for x in range(wiring.card[variable]):
        out[at + x] = -np.inf
    for d in range(arity):
        v = wiring.slot_var[first + d]
        fixed[d] = (held & EARLIER and v < variable) or (held & LATER and v > variable)
        digit[d] = states[v] if fixed[d] else 0
    position, d = slot - first, 0
    while d >= 0:
        for k in range(d, arity):
            less = 0.0
            if not fixed[k] and k != position:
                less = delta[wiring.message[first + k] + digit[k]]
            sums[k + 1] = sums[k] - less
        place = 0
        for k in range(arity):
            place = place * wiring.card[wiring.slot_var[first + k]] + digit[k]
        value = sums[arity] + table[wiring.table[f] + place]
        if value > out[at + digit[position]]:
            out[at + digit[position]] = value
        d = arity - 1
        while d >= 0:
            if not fixed[d]:
                digit[d] += 1
                if digit[d] < wiring.card[wiring.slot_var[first + d]]:
                    break
                digit[d] = 0
            d -= 1


@inlined
def collect(wiring, room, table, delta, slot):
    """Move the factor's max-marginal of an element to the element."""
    f = wiring.slot_factor[slot]
    first = wiring.factor_ptr[f]
    at, num = wiring.message[slot], wiring.card[wiring.slot_var[slot]]
    if wiring.factor_ptr[f + 1] - first != 2:
        any_order(wiring, room, table, delta, slot, wiring.card, 0, at, delta)
        return
    other = 2 * first + 1 - slot
    other_at, num_other = wiring.message[other], wiring.card[wiring.slot_var[other]]
    if wiring.kind[f] != TABLE:
        max_marginal(wiring.kind[f], table, wiring.table[f], num, delta, other_at, delta, at)
    elif slot == first:
        _rows(table, wiring.table[f], num, num_other, other_at, delta, at, delta)
    else:
        _columns(table, wiring.table[f], num, num_other, other_at, delta, at, delta)


class Sweep(NamedTuple):
    """The settings of one sweep.

    Attributes:
        backward: Whether to visit the elements from the last to the first.
        first: Whether this is the first sweep.
        decode: Whether to decode states.
        others: ``(L,)`` bits: whether a slot's factor also has earlier and later elements.
    """

    backward: bool
    first: bool
    decode: bool
    others: NDArray[np.int8]


@inner
def _choose(wiring, room, sweep, table, field, delta, v, decided, states):
    """Decode one element: its best state, given those of the elements visited before it."""
    num, column = wiring.card[v], wiring.offset[v]
    belief, choice = room.belief, room.choice
    for x in range(num):
        choice[x] = field[column + x]
    for k in range(wiring.var_ptr[v], wiring.var_ptr[v + 1]):
        slot = wiring.var_slot[k]
        f = wiring.slot_factor[slot]
        at, source = wiring.message[slot], delta
        if sweep.others[slot] & decided:
            at, source = num, choice
            if wiring.kind[f] != TABLE:
                other = states[wiring.slot_var[2 * wiring.factor_ptr[f] + 1 - slot]]
                choice[num : 2 * num] = 0.0
                add_row(wiring.kind[f], table, wiring.table[f], other, num, choice, num)
            else:
                any_order(wiring, room, table, delta, slot, states, decided, num, choice)
        for x in range(num):
            if belief[x] > -np.inf:
                choice[x] += source[at + x]
    best = -1
    for x in range(num):
        if belief[x] > -np.inf and (best < 0 or choice[x] > choice[best]):
            best = x
    if choice[best] == -np.inf:  # no state is possible: take the one of largest belief
        for x in range(num):
            if belief[x] > belief[best]:
                best = x
    states[v] = best


@inlined
def _visit(wiring, room, sweep, table, field, delta, v, cut, states):
    """Collect the max-marginals of an element's factors, and distribute them to later ones.

    Returns the element's own contribution to the bound.
    """
    num, column = wiring.card[v], wiring.offset[v]
    belief = room.belief
    begin, end = wiring.var_ptr[v], wiring.var_ptr[v + 1]
    ahead, behind = (EARLIER, LATER) if sweep.backward else (LATER, EARLIER)
    num_ahead, num_behind = 0, 0
    for x in range(num):
        belief[x] = field[column + x]
    for k in range(begin, end):
        slot = wiring.var_slot[k]
        num_ahead += (sweep.others[slot] & ahead) != 0
        num_behind += (sweep.others[slot] & behind) != 0
        # a factor with only later elements was already processed in the reverse sweep
        if sweep.first or sweep.others[slot] & behind:
            collect(wiring, room, table, delta, slot)
        at = wiring.message[slot]
        for x in range(num):
            if belief[x] > -np.inf:
                belief[x] += delta[at + x]
    top = -np.inf
    for x in range(num):
        top = belief[x] if belief[x] > top else top
    if top == -np.inf:
        return top
    for x in range(num):
        if belief[x] < top - cut:
            belief[x] = -np.inf
        if belief[x] == -np.inf:  # impossible, or worse than the best known assignment: removed
            field[column + x] = -np.inf
            for k in range(begin, end):
                delta[wiring.message[wiring.var_slot[k]] + x] = np.inf
    if sweep.decode:
        _choose(wiring, room, sweep, table, field, delta, v, behind, states)
    shares = max(num_ahead, num_behind)
    if num_ahead:
        share = 1.0 / shares
        for x in range(num):
            belief[x] *= share
        for k in range(begin, end):
            slot = wiring.var_slot[k]
            if sweep.others[slot] & ahead:
                at = wiring.message[slot]
                for x in range(num):
                    delta[at + x] -= belief[x]
        top *= (shares - num_ahead) / shares
    return top


@entry
def sweep_rows(
    wiring: Any,
    sweep: Sweep,
    tables: Floats,
    fields: Floats,
    deltas: Floats,
    cuts: Floats,
    todo: Ints,
    states: Ints,
    bounds: Floats,
    stop: Ints,
) -> None:
    """Run one sweep over all elements, for several rows of evidence.

    Args:
        wiring: Wiring of the graph.
        sweep: Direction, and whether to decode.
        tables: ``(1, T)`` or ``(B, T)`` log values.
        fields: ``(B, S)`` unary log potentials; removed states become ``-inf``.
        deltas: ``(B, L)`` dual variables, updated; ``inf`` at removed states.
        cuts: ``(B,)`` bound before the sweep minus the best known score; a state whose belief is
            further below the largest is removed. ``inf`` to keep all states.
        todo: Rows to process.
        states: ``(B, E)`` output if the sweep decodes.
        bounds: ``(B,)`` output: upper bounds on the score of any assignment of remaining states.
        stop: Flag that is checked before each element.
    """
    num = wiring.card.shape[0]
    most = wiring.card.max() if num else 0
    arity = np.diff(wiring.factor_ptr).max() if wiring.table.shape[0] else 0
    room = Room(
        np.zeros(most),
        np.zeros(2 * most),
        np.zeros(arity, np.int64),
        np.zeros(arity, np.bool_),
        np.zeros(arity + 1),
    )
    for row in todo:
        table = tables[row if tables.shape[0] > 1 else 0]
        bound = 0.0
        for k in range(num):
            if stop[0]:
                return
            v = num - 1 - k if sweep.backward else k
            bound += _visit(
                wiring, room, sweep, table, fields[row], deltas[row], v, cuts[row], states[row]
            )
            if bound == -np.inf:
                break
        bounds[row] = bound
