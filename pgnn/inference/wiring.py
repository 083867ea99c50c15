"""The index arrays of a factor graph: adjacency of factors and elements, offsets of entries."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pgnn.factors.elements import Elements
from pgnn.factors.groups.factor_group import FactorGroup
from pgnn.factors.groups.kernel_kinds import TABLE

Ints = NDArray[np.int64]
Mask = NDArray[np.bool_]


class Wiring(NamedTuple):
    """The index arrays of a graph: adjacency of factors and elements, offsets of entries.

    A *slot* is one axis of one factor's scope; messages between the factor and the element on
    that axis are stored at ``message[slot] : message[slot] + card``.

    Attributes:
        card: ``(E,)`` state counts.
        offset: ``(E + 1,)`` first column of each element, states being concatenated.
        factor_ptr: ``(F + 1,)`` first slot of each factor.
        slot_var: ``(L,)`` element of each slot.
        slot_factor: ``(L,)`` factor of each slot.
        message: ``(L + 1,)`` first message entry of each slot.
        var_ptr: ``(E + 1,)`` first index of each element's slots in ``var_slot``.
        var_slot: ``(L,)`` slots of each element.
        kind: ``(F,)`` code of each factor's kind, see
            :mod:`pgnn.factors.groups.kernel_kinds`.
        table: ``(F,)`` first entry of each factor; shared entries are stored once.
        size: ``(F,)`` number of entries of each factor.
        stride: ``(L,)`` distance between the entries of a slot's states in a dense table; the last
            slot's are adjacent.
        num_entries: Total length of all tables, ``T``.
    """

    card: Ints
    offset: Ints
    factor_ptr: Ints
    slot_var: Ints
    slot_factor: Ints
    message: Ints
    var_ptr: Ints
    var_slot: Ints
    kind: NDArray[np.int8]
    table: Ints
    size: Ints
    stride: Ints
    num_entries: int

    @classmethod
    def of(cls, elements: Elements, groups: Sequence[FactorGroup]) -> Wiring:
        """Return the wiring of groups whose kinds are known to the kernels."""
        card = elements.card
        arity = np.concatenate([[0], *(np.full(g.num_factors, g.arity) for g in groups)])
        factor_ptr = np.cumsum(arity).astype(np.int64)
        slot_var = np.concatenate([np.zeros(0, np.int64), *(g.scopes.ravel() for g in groups)])
        slot_factor = np.repeat(np.arange(len(factor_ptr) - 1), np.diff(factor_ptr))
        message = np.concatenate([[0], np.cumsum(card[slot_var])]).astype(np.int64)
        tables, kinds = [np.zeros(0, np.int64)], [np.zeros(0, np.int8)]
        first = 0
        for g in groups:
            size = g.num_entries
            step = 0 if g.shared and g.num_factors > 1 else size
            tables.append(first + step * np.arange(g.num_factors, dtype=np.int64))
            kinds.append(np.full(g.num_factors, g.kernel_kind, dtype=np.int8))
            first += size if step == 0 else size * g.num_factors
        counts = np.bincount(slot_var, minlength=len(elements))
        return cls(
            card=card,
            offset=elements.offset,
            factor_ptr=factor_ptr,
            slot_var=slot_var,
            slot_factor=slot_factor.astype(np.int64),
            message=message,
            var_ptr=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
            var_slot=np.argsort(slot_var, kind="stable").astype(np.int64),
            kind=np.concatenate(kinds),
            table=np.concatenate(tables),
            size=np.repeat(
                np.array([g.num_entries for g in groups], dtype=np.int64),
                [g.num_factors for g in groups],
            ),
            stride=_strides(card[slot_var], factor_ptr),
            num_entries=first,
        )


class MessageWiring(NamedTuple):
    """The index arrays of a graph in the layout for message passing.

    Attributes:
        factor: ``(F, 4)`` int64: first slot, number of slots, first entry, kind.
        slot: ``(L, 4)`` int32: first state column, first message entry, states, element.
        element: ``(E + 1, 3)`` int32: first state column, states, first inbox entry.
        inbox: ``(L, 3)`` int32, element by element: first message entry, slot, factor.
    """

    factor: Ints
    slot: NDArray[np.int32]
    element: NDArray[np.int32]
    inbox: NDArray[np.int32]

    @classmethod
    def of(cls, wiring: Wiring) -> MessageWiring:
        """Convert the wiring of a graph."""
        num, slots, var = len(wiring.card), wiring.var_slot, wiring.slot_var
        factor = np.zeros((len(wiring.kind), 4), dtype=np.int64)
        factor[:, 0], factor[:, 1] = wiring.factor_ptr[:-1], np.diff(wiring.factor_ptr)
        factor[:, 2], factor[:, 3] = wiring.table, wiring.kind
        slot = np.zeros((len(slots), 4), dtype=np.int32)
        slot[:, 0], slot[:, 1], slot[:, 3] = wiring.offset[var], wiring.message[:-1], var
        slot[:, 2] = wiring.card[var]
        element = np.zeros((num + 1, 3), dtype=np.int32)
        element[:, 0], element[:num, 1], element[:, 2] = wiring.offset, wiring.card, wiring.var_ptr
        inbox = np.zeros((len(slots), 3), dtype=np.int32)
        inbox[:, 0], inbox[:, 1] = wiring.message[slots], slots
        inbox[:, 2] = wiring.slot_factor[slots]
        return cls(factor, slot, element, inbox)

    def with_tables(self, start: Ints) -> MessageWiring:
        """Return the wiring with other ``(F,)`` first entries of the factors."""
        factor = self.factor.copy()
        factor[:, 2] = start
        return self._replace(factor=factor)


class LocalWiring(NamedTuple):
    """The index arrays of a graph in the layout for updates of single elements.

    Attributes:
        card: ``(E,)`` state counts.
        offset: ``(E + 1,)`` first column of each element.
        factor_ptr: ``(F + 1,)`` first slot of each factor.
        slot_var: ``(L,)`` element of each slot.
        slot_factor: ``(L,)`` factor of each slot.
        stride: ``(L,)`` see :class:`Wiring`.
        kind: ``(F,)`` see :class:`Wiring`.
        table: ``(F,)`` first entry of each factor's table.
        pair_ptr: ``(E + 1,)`` first index of each element's pairwise factors in ``pair``.
        pair: ``(P, 5)`` for each end of a pairwise factor: the other element's first column and
            state count, the first entry, this element's stride, the other's stride; for kinds other
            than dense tables, -1 and the code of the kind instead of the strides.
        wide_ptr: ``(E + 1,)`` first index of each element's slots in larger factors.
        wide_slot: Slots in factors over more than two elements.
    """

    card: Ints
    offset: Ints
    factor_ptr: Ints
    slot_var: Ints
    slot_factor: Ints
    stride: Ints
    kind: NDArray[np.int8]
    table: Ints
    pair_ptr: Ints
    pair: Ints
    wide_ptr: Ints
    wide_slot: Ints

    @classmethod
    def of(cls, wiring: Wiring) -> LocalWiring:
        """Convert the wiring of a graph."""
        arity = np.diff(wiring.factor_ptr)
        stride = wiring.stride
        two = arity[wiring.slot_factor] == 2
        elements, slots = (
            np.repeat(np.arange(len(wiring.card)), np.diff(wiring.var_ptr)),
            wiring.var_slot,
        )
        paired = two[slots]
        slot, f = slots[paired], wiring.slot_factor[slots[paired]]
        other_slot = 2 * wiring.factor_ptr[f] + 1 - slot
        other = wiring.slot_var[other_slot]
        dense = wiring.kind[f] == TABLE
        own_step = np.where(dense, stride[slot], -1)
        other_step = np.where(dense, stride[other_slot], wiring.kind[f])
        columns = (wiring.offset[other], wiring.card[other], wiring.table[f], own_step, other_step)
        return cls(
            card=wiring.card,
            offset=wiring.offset,
            factor_ptr=wiring.factor_ptr,
            slot_var=wiring.slot_var,
            slot_factor=wiring.slot_factor,
            stride=stride,
            kind=wiring.kind,
            table=wiring.table,
            pair_ptr=_pointers(elements[paired], len(wiring.card)),
            pair=np.ascontiguousarray(np.stack(columns, axis=1), dtype=np.int64),
            wide_ptr=_pointers(elements[~paired], len(wiring.card)),
            wide_slot=slots[~paired],
        )


class Neighbours(NamedTuple):
    """Pairs of elements that share factors, with their slots.

    Attributes:
        ptr: ``(E + 1,)`` first index of each element's neighbours in ``var``.
        var: The neighbours of all elements, without repetition, concatenated.
        shared_ptr: First index of each neighbourhood's factors in ``shared``.
        shared: ``(., 2)`` slots of the element and of its neighbour in one factor.
    """

    ptr: Ints
    var: Ints
    shared_ptr: Ints
    shared: Ints

    @classmethod
    def of(cls, wiring: LocalWiring) -> Neighbours:
        """Find the elements that share factors; ``O(sum of squared factor sizes)``."""
        arity = np.diff(wiring.factor_ptr)
        pairs = [np.zeros((0, 2), np.int64)]
        for n in np.unique(arity):
            first = wiring.factor_ptr[:-1][arity == n]
            one, two = np.nonzero(~np.eye(int(n), dtype=np.bool_))
            both = np.stack([first[:, None] + one, first[:, None] + two], axis=2)
            pairs.append(both.reshape(-1, 2))
        shared = np.concatenate(pairs)
        num = max(len(wiring.card), 1)
        key = wiring.slot_var[shared[:, 0]] * num + wiring.slot_var[shared[:, 1]]
        order = np.argsort(key, kind="stable")
        kinds, first = np.unique(key[order], return_index=True)
        return cls(
            ptr=_pointers(kinds // num, len(wiring.card)),
            var=kinds % num,
            shared_ptr=np.concatenate([first, [len(key)]]).astype(np.int64),
            shared=np.ascontiguousarray(shared[order]),
        )


def _strides(size: Ints, factor_ptr: Ints) -> Ints:
    """Return strides of dense tables in row-major order.

    Args:
        size: ``(L,)`` states of each slot.
        factor_ptr: ``(F + 1,)`` first slot of each factor.
    """
    arity = np.diff(factor_ptr)
    stride = np.ones(len(size), dtype=np.int64)
    for n in np.unique(arity):
        slots = factor_ptr[:-1][arity == n][:, None] + np.arange(n)
        stride[slots[:, :-1]] = np.cumprod(size[slots][:, :0:-1], axis=1)[:, ::-1]
    return stride


def _pointers(owner: Ints, num: int) -> Ints:
    """Return the first index of each owner's entries, which are sorted by owner."""
    counts = np.bincount(owner, minlength=num)
    return np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
