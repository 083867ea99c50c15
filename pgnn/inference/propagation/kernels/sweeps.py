"""Belief propagation: sweeps over factors or elements."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from pgnn.inference.kernels.algebra import commit
from pgnn.inference.kernels.compiled import inner_numeric, numeric
from pgnn.inference.propagation.kernels.messages import believe, flood_factors, message_into


class MessageNumbers(NamedTuple):
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


class SweepMemory(NamedTuple):
    """Memory of one thread.

    Attributes:
        state: ``(E,)`` chosen states, -1 where none is.
        heap: ``(E,)`` elements, as kept by
            :mod:`pgnn.inference.propagation.kernels.sweeps`.
        place: ``(E,)`` where each stands.
        scratch: ``(4 W,)``, ``W`` the larger of the largest table and the most states of a scope.
    """

    state: Any
    heap: Any
    place: Any
    scratch: Any


@inner_numeric
def raise_by(heap, place, priority, i, more):
    """Make an element more urgent."""
    priority[i] += more
    k = place[i]
    while k > 0:
        up = (k - 1) // 2
        j = heap[up]
        if priority[j] >= priority[i]:
            break
        heap[k] = j
        place[j] = k
        k = up
    heap[k] = i
    place[i] = k


@inner_numeric
def lower(heap, place, priority, i, value):
    """Give an element that has been renewed a lower priority."""
    priority[i] = value
    num = heap.shape[0]
    k = place[i]
    while 2 * k + 1 < num:
        down = 2 * k + 1
        if down + 1 < num and priority[heap[down + 1]] > priority[heap[down]]:
            down += 1
        j = heap[down]
        if priority[j] <= value:
            break
        heap[k] = j
        place[j] = k
        k = down
    heap[k] = i
    place[i] = k


@inner_numeric
def arrange(heap, place, priority):
    """Put elements in the order of their priorities; of equal ones, the first ones first."""
    num = heap.shape[0]
    for i in range(num):
        heap[i] = i
        place[i] = i
    for k in range(num // 2 - 1, -1, -1):
        i = heap[k]
        lower(heap, place, priority, i, priority[i])


FLOODING, SEQUENTIAL, RESIDUAL = 0, 1, 2
_WINDOW = 50  # sweeps after which the damping is looked at: time for news to travel
_FALL = 0.99  # what the residual must fall to in a window; slow progress is none of damping's
_MOST = 0.9  # damping
_OFTEN = 256  # elements between looks at the flag


@inner_numeric
def _refresh(
    algebra, factor, slot, element, inbox, i, table, field, weight, message, belief, damping,
    state, scratch,
):  # fmt: skip
    """Renew all messages into an element, and its belief; return the largest distance or -1."""
    distance = 0.0
    for p in range(element[i, 2], element[i + 1, 2]):
        at = message_into(
            algebra, factor, slot, inbox[p, 2], inbox[p, 1], table, belief, message, state, scratch
        )
        moved = commit(algebra, scratch, at, message, inbox[p, 0], element[i, 1], damping)
        if moved < 0.0:
            return -1.0
        distance = max(distance, moved)
    if not believe(algebra, element, inbox, i, field, weight, message, belief):
        return -1.0
    return distance


@inner_numeric
def _flood(
    algebra, factor, slot, element, inbox, table, field, weight, message, belief, damping, scratch
):
    """All messages from the beliefs as they are, then all beliefs."""
    distance = flood_factors(algebra, factor, slot, table, belief, message, damping, scratch)
    if distance < 0.0:
        return -1.0
    for i in range(element.shape[0] - 1):
        if not believe(algebra, element, inbox, i, field, weight, message, belief):
            return -1.0
    return distance


@inner_numeric
def _sweep(
    algebra, factor, slot, element, inbox, table, field, weight, message, belief, damping, state,
    order, backward, scratch, stop,
):  # fmt: skip
    """Every element in turn."""
    distance, num = 0.0, order.shape[0]
    for k in range(num):
        if k % _OFTEN == 0 and stop[0]:
            break
        i = order[num - 1 - k if backward else k]
        moved = _refresh(
            algebra, factor, slot, element, inbox, i, table, field, weight, message, belief,
            damping, state, scratch,
        )  # fmt: skip
        if moved < 0.0:
            return -1.0
        distance = max(distance, moved)
    return distance


@inner_numeric
def _most_urgent(
    algebra, factor, slot, element, inbox, table, field, weight, message, belief, damping, state,
    heap, place, priority, tolerance, scratch, stop,
):  # fmt: skip
    """As many elements as there are, each time the one whose neighbours have changed most."""
    before = 3 * (scratch.shape[0] // 4)
    for k in range(element.shape[0] - 1):
        if k % _OFTEN == 0 and stop[0]:
            break
        i = heap[0]
        if priority[i] <= tolerance:
            break
        o, num = element[i, 0], element[i, 1]
        for x in range(num):
            scratch[before + x] = belief[o + x]
        moved = _refresh(
            algebra, factor, slot, element, inbox, i, table, field, weight, message, belief,
            damping, state, scratch,
        )  # fmt: skip
        if moved < 0.0:
            return -1.0
        lower(heap, place, priority, i, moved * damping)  # what was held back is still to come
        change = 0.0
        for x in range(num):
            if belief[o + x] != scratch[before + x]:
                gap = abs(belief[o + x] - scratch[before + x])
                change = max(change, gap if gap < math.inf else 1.0)
        if change == 0.0:
            continue
        for p in range(element[i, 2], element[i + 1, 2]):
            f = inbox[p, 2]
            for s in range(factor[f, 0], factor[f, 0] + factor[f, 1]):
                if slot[s, 3] != i:
                    raise_by(heap, place, priority, slot[s, 3], change)
    return priority[heap[0]] if heap.shape[0] > 0 else 0.0


@inner_numeric
def _judge(course, b, distance, tolerance, adaptive):
    """Note how far a row has come; more damping where its residual does not fall."""
    course.iterations[b] += 1
    if distance < 0.0:
        course.state[b] = 2
        return
    course.residual[b] = distance
    if distance <= tolerance:
        course.state[b] = 1
        return
    course.window[b, 0] = max(course.window[b, 0], distance)
    if course.iterations[b] % _WINDOW == 0:
        if adaptive and course.window[b, 0] > _FALL * course.window[b, 1]:
            course.damping[b] = min(_MOST, 0.5 + 0.5 * course.damping[b])
            course.window[b, 1] = math.inf
        else:
            course.window[b, 1] = course.window[b, 0]
        course.window[b, 0] = 0.0


@numeric
def begin(algebra, wiring, numbers, rows, stop):
    """Beliefs of the messages as they are."""
    element, inbox = wiring.element, wiring.inbox
    for b in rows:
        if stop[0]:
            return
        field, message, belief = numbers.field[b], numbers.message[b], numbers.belief[b]
        for i in range(element.shape[0] - 1):
            believe(algebra, element, inbox, i, field, numbers.weight, message, belief)


@numeric
def propagate(
    algebra, wiring, numbers, course, rows, schedule, order, sweeps, tolerance, adaptive, work,
    history, stop,
):  # fmt: skip
    """Sweep every row under way ``sweeps`` times, or until it converges.

    Args:
        algebra: Which arithmetic.
        wiring: Integers.
        numbers: Fields, tables, messages, beliefs.
        course: How each row fares.
        rows: Which rows.
        schedule: ``FLOODING``, ``SEQUENTIAL`` or ``RESIDUAL``.
        order: ``(E,)`` elements; even sweeps go backward, odd ones forward.
        sweeps: Most sweeps now.
        tolerance: Largest distance of a message in a row that has converged.
        adaptive: Whether damping may grow.
        work: Working memory.
        history: ``(sweeps,)`` raised to the largest residual of a row in each sweep.
        stop: Looked at before each sweep, and in the course of one from time to time.
    """
    factor, slot, element, inbox = wiring.factor, wiring.slot, wiring.element, wiring.inbox
    weight = numbers.weight
    state, heap, place, scratch = work.state, work.heap, work.place, work.scratch
    for b in rows:
        table = numbers.table[b if numbers.table.shape[0] > 1 else 0]
        field, message, belief = numbers.field[b], numbers.message[b], numbers.belief[b]
        priority = course.priority[b]
        if schedule == RESIDUAL:
            arrange(heap, place, priority)
        for sweep in range(sweeps):
            if course.state[b] != 0 or stop[0]:
                break
            damping = course.damping[b]
            if schedule == FLOODING:
                distance = _flood(
                    algebra, factor, slot, element, inbox, table, field, weight, message, belief,
                    damping, scratch,
                )  # fmt: skip
            elif schedule == SEQUENTIAL:
                distance = _sweep(
                    algebra, factor, slot, element, inbox, table, field, weight, message, belief,
                    damping, state, order, course.iterations[b] % 2 == 0, scratch, stop,
                )  # fmt: skip
            else:
                distance = _most_urgent(
                    algebra, factor, slot, element, inbox, table, field, weight, message, belief,
                    damping, state, heap, place, priority, tolerance, scratch, stop,
                )  # fmt: skip
            _judge(course, b, distance, tolerance, adaptive)
            history[sweep] = max(history[sweep], course.residual[b])
