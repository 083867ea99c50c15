"""The arrays that the propagation kernels read and write."""

from __future__ import annotations

from typing import Any, NamedTuple


class Routes(NamedTuple):
    """The integers of a graph, gathered as the kernels read them.

    Attributes:
        factor: ``(F, 4)`` int64: first slot, number of slots, first entry, kind.
        slot: ``(L, 4)`` int32: first state column, first message entry, states, element.
        element: ``(E + 1, 3)`` int32: first state column, states, first inbox entry.
        inbox: ``(L, 3)`` int32, element by element: first message entry, slot, factor.
    """

    factor: Any
    slot: Any
    element: Any
    inbox: Any


class Numbers(NamedTuple):
    """What propagation works on, one row of evidence a row; in the algebra's numbers.

    Attributes:
        table: ``(1, T)`` or ``(B, T)`` tables.
        field: ``(B, S)`` fields.
        weight: ``(F,)`` powers of the messages in the beliefs, or ``(0,)`` for ones.
        message: ``(B, M)`` from factors to elements, normalised.
        belief: ``(B, S)`` normalised; nothing at all where no state is possible.
    """

    table: Any
    field: Any
    weight: Any
    message: Any
    belief: Any


class Course(NamedTuple):
    """How each row fares, ``(B,)`` each.

    Attributes:
        residual: Largest distance of a message in the last sweep.
        damping: Share of an old message that stays.
        iterations: Sweeps taken.
        state: 0 while a row is under way, 1 where it has converged, 2 where it is impossible.
        window: ``(B, 2)`` largest residual of this window of sweeps and of the one before.
        priority: ``(B, E)`` how urgent each element is, where the most urgent one comes next;
            else ``(B, 0)``.
    """

    residual: Any
    damping: Any
    iterations: Any
    state: Any
    window: Any
    priority: Any


class Work(NamedTuple):
    """Memory of one thread.

    Attributes:
        state: ``(E,)`` chosen states, -1 where none is.
        heap: ``(E,)`` elements, as kept by
            :mod:`pgnn.inference.propagation.kernels.propagation_queue`.
        place: ``(E,)`` where each stands.
        scratch: ``(4 W,)``, ``W`` the larger of the largest table and the most states of a scope.
    """

    state: Any
    heap: Any
    place: Any
    scratch: Any
