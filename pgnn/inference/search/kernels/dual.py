"""Sweeps of dual decomposition over the nodes of a factor graph, in order and back."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pgnn.factors.groups.kernel_kinds import TABLE
from pgnn.inference.kernels.compiled import entry, inlined, inner
from pgnn.inference.kernels.kinds import add_row
from pgnn.inference.search.kernels.max_marginals import (
    EARLIER,
    LATER,
    Places,
    Room,
    any_order,
    collect,
)

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


class Sweep(NamedTuple):
    """What one sweep is to do.

    Attributes:
        backward: Whether to visit the elements from the last to the first.
        first: Whether no sweep came before, so that nothing is settled yet.
        decode: Whether to choose states on the way.
    """

    backward: bool
    first: bool
    decode: bool


@inner
def _choose(places, room, table, field, delta, v, decided, states):
    """Decode one element: its best state, given those of the elements visited before it."""
    num, column = places.card[v], places.offset[v]
    belief, choice = room.belief, room.choice
    for x in range(num):
        choice[x] = field[column + x]
    for k in range(places.var_ptr[v], places.var_ptr[v + 1]):
        slot = places.var_slot[k]
        f = places.slot_factor[slot]
        at, source = places.message[slot], delta
        if places.others[slot] & decided:
            at, source = num, choice
            if places.kind[f] != TABLE:
                other = states[places.scope_var[2 * places.scope_ptr[f] + 1 - slot]]
                choice[num : 2 * num] = 0.0
                add_row(places.kind[f], table, places.table[f], other, num, choice, num)
            else:
                any_order(places, room, table, delta, slot, states, decided, num, choice)
        for x in range(num):
            if belief[x] > -np.inf:
                choice[x] += source[at + x]
    best = -1
    for x in range(num):
        if belief[x] > -np.inf and (best < 0 or choice[x] > choice[best]):
            best = x
    if choice[best] == -np.inf:  # no choice is possible: the most promising one
        for x in range(num):
            if belief[x] > belief[best]:
                best = x
    states[v] = best


@inlined
def _visit(places, room, sweep, table, field, delta, v, cut, states):
    """Gather at one element what its factors hold, and share it out to those further on.

    Returns what the element keeps for itself of the bound.
    """
    num, column = places.card[v], places.offset[v]
    belief = room.belief
    begin, end = places.var_ptr[v], places.var_ptr[v + 1]
    ahead, behind = (EARLIER, LATER) if sweep.backward else (LATER, EARLIER)
    num_ahead, num_behind = 0, 0
    for x in range(num):
        belief[x] = field[column + x]
    for k in range(begin, end):
        slot = places.var_slot[k]
        num_ahead += (places.others[slot] & ahead) != 0
        num_behind += (places.others[slot] & behind) != 0
        # a factor that only touches elements further on was settled here on the way back
        if sweep.first or places.others[slot] & behind:
            collect(places, room, table, delta, slot)
        at = places.message[slot]
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
        if belief[x] == -np.inf:  # impossible, or worse than what is known: never again
            field[column + x] = -np.inf
            for k in range(begin, end):
                delta[places.message[places.var_slot[k]] + x] = np.inf
    if sweep.decode:
        _choose(places, room, table, field, delta, v, behind, states)
    shares = max(num_ahead, num_behind)
    if num_ahead:
        share = 1.0 / shares
        for x in range(num):
            belief[x] *= share
        for k in range(begin, end):
            slot = places.var_slot[k]
            if places.others[slot] & ahead:
                at = places.message[slot]
                for x in range(num):
                    delta[at + x] -= belief[x]
        top *= (shares - num_ahead) / shares
    return top


@entry
def sweep_rows(
    places: Places,
    sweep: Sweep,
    tables: Floats,
    fields: Floats,
    deltas: Floats,
    cuts: Floats,
    todo: Ints,
    states: Ints,
    bounds: Floats,
) -> None:
    """Sweep once over all elements, for several rows of evidence.

    Args:
        places: Where numbers stand.
        sweep: Which way, and whether to decode.
        tables: ``(1, T)`` or ``(B, T)`` log values.
        fields: ``(B, S)`` log fields; states proved to be useless become ``-inf``.
        deltas: ``(B, L)`` what each factor has handed to its elements; ``inf`` where the state is
            useless. Changed.
        cuts: ``(B,)`` bound before the sweep less the best score known; a state whose belief lies
            further below the best is useless. ``inf`` to keep them all.
        todo: Rows to work on.
        states: ``(B, E)`` written if the sweep decodes.
        bounds: ``(B,)`` written: no possible assignment of states still in use scores more.
    """
    num = places.card.shape[0]
    most = places.card.max() if num else 0
    arity = np.diff(places.scope_ptr).max() if places.table.shape[0] else 0
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
            v = num - 1 - k if sweep.backward else k
            bound += _visit(
                places, room, sweep, table, fields[row], deltas[row], v, cuts[row], states[row]
            )
            if bound == -np.inf:
                break
        bounds[row] = bound
