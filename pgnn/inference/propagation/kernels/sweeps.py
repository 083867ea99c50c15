"""Belief propagation: sweeps over factors or elements."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from pgnn.inference.kernels.algebra import commit
from pgnn.inference.kernels.compiled import inner_numeric, numeric
from pgnn.inference.propagation.kernels.messages import flood_factors, message_into, update_belief


class MessageNumbers(NamedTuple):
    """Tables, fields, messages and beliefs in the arithmetic of the kernels.

    Attributes:
        table: ``(1, T)`` or ``(B, T)`` tables.
        field: ``(B, S)`` fields.
        weight: ``(F,)`` powers of the messages in the beliefs, or ``(0,)`` for ones.
        message: ``(B, M)`` from factors to elements, normalised.
        belief: ``(B, S)`` normalised; zeros if no state is possible.
    """

    table: Any
    field: Any
    weight: Any
    message: Any
    belief: Any


class RowProgress(NamedTuple):
    """State of the iteration in each row, ``(B,)`` each.

    Attributes:
        residual: Largest change of a message in the last sweep.
        damping: Weight of the old message.
        iterations: Number of sweeps.
        state: 0 while a row is active, 1 if it has converged, 2 if it is impossible.
        window: ``(B, 2)`` largest residual of this window of sweeps and of the one before.
        priority: ``(B, E)`` priorities of the elements in the residual schedule; else ``(B, 0)``.
    """

    residual: Any
    damping: Any
    iterations: Any
    state: Any
    window: Any
    priority: Any


class SweepMemory(NamedTuple):
    """Working memory of one thread.

    Attributes:
        state: ``(E,)`` chosen states, -1 where none is.
        heap: ``(E,)`` elements as a binary heap by priority.
        place: ``(E,)`` position of each element in the heap.
        scratch: ``(4 W,)``, ``W`` the larger of the largest table and the most states of a scope.
    """

    state: Any
    heap: Any
    place: Any
    scratch: Any


@inner_numeric
def increase_priority(heap, place, priority, i, more):
    """Increase the priority of an element."""
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
def decrease_priority(heap, place, priority, i, value):
    """Set the priority of an element to a lower value."""
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
def build_heap(heap, place, priority):
    """Build the heap; ties are broken by the index of the element."""
    num = heap.shape[0]
    for i in range(num):
        heap[i] = i
        place[i] = i
    for k in range(num // 2 - 1, -1, -1):
        i = heap[k]
        decrease_priority(heap, place, priority, i, priority[i])


FLOODING, SEQUENTIAL, RESIDUAL = 0, 1, 2
_WINDOW = 50  # sweeps between changes of the damping
# the damping grows if the residual decreases by less than this factor in a window
_REDUCTION = 0.99
_MAX_DAMPING = 0.9
_STOP_INTERVAL = 256  # elements between checks of the stop flag


@inner_numeric
def _refresh(
    algebra, factor, slot, element, inbox, i, table, field, weight, message, belief, damping,
    state, scratch,
):  # fmt: skip
    """Update all messages into an element, and its belief; return the largest change or -1."""
    distance = 0.0
    for p in range(element[i, 2], element[i + 1, 2]):
        at = message_into(
            algebra, factor, slot, inbox[p, 2], inbox[p, 1], table, belief, message, state, scratch
        )
        moved = commit(algebra, scratch, at, message, inbox[p, 0], element[i, 1], damping)
        if moved < 0.0:
            return -1.0
        distance = max(distance, moved)
    if not update_belief(algebra, element, inbox, i, field, weight, message, belief):
        return -1.0
    return distance


@inner_numeric
def _flood(
    algebra, factor, slot, element, inbox, table, field, weight, message, belief, damping, scratch
):
    """Update all messages from the current beliefs, then all beliefs."""
    distance = flood_factors(algebra, factor, slot, table, belief, message, damping, scratch)
    if distance < 0.0:
        return -1.0
    for i in range(element.shape[0] - 1):
        if not update_belief(algebra, element, inbox, i, field, weight, message, belief):
            return -1.0
    return distance


@inner_numeric
def _sweep(
    algebra, factor, slot, element, inbox, table, field, weight, message, belief, damping, state,
    order, backward, scratch, stop,
):  # fmt: skip
    """Update the messages into each element in turn."""
    distance, num = 0.0, order.shape[0]
    for k in range(num):
        if k % _STOP_INTERVAL == 0 and stop[0]:
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
def _residual_sweep(
    algebra, factor, slot, element, inbox, table, field, weight, message, belief, damping, state,
    heap, place, priority, tolerance, scratch, stop,
):  # fmt: skip
    """Update ``E`` times the element of the highest priority."""
    before = 3 * (scratch.shape[0] // 4)
    for k in range(element.shape[0] - 1):
        if k % _STOP_INTERVAL == 0 and stop[0]:
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
        # the damped part of the change is still pending
        decrease_priority(heap, place, priority, i, moved * damping)
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
                    increase_priority(heap, place, priority, slot[s, 3], change)
    return priority[heap[0]] if heap.shape[0] > 0 else 0.0


@inner_numeric
def _record_sweep(row_progress, b, distance, tolerance, adaptive):
    """Record a sweep of a row; increase its damping if the residual does not fall."""
    row_progress.iterations[b] += 1
    if distance < 0.0:
        row_progress.state[b] = 2
        return
    row_progress.residual[b] = distance
    if distance <= tolerance:
        row_progress.state[b] = 1
        return
    row_progress.window[b, 0] = max(row_progress.window[b, 0], distance)
    if row_progress.iterations[b] % _WINDOW == 0:
        if adaptive and row_progress.window[b, 0] > _REDUCTION * row_progress.window[b, 1]:
            row_progress.damping[b] = min(_MAX_DAMPING, 0.5 + 0.5 * row_progress.damping[b])
            row_progress.window[b, 1] = math.inf
        else:
            row_progress.window[b, 1] = row_progress.window[b, 0]
        row_progress.window[b, 0] = 0.0


@numeric
def compute_beliefs(algebra, wiring, numbers, rows, stop):
    """Compute all beliefs from the current messages."""
    element, inbox = wiring.element, wiring.inbox
    for b in rows:
        if stop[0]:
            return
        field, message, belief = numbers.field[b], numbers.message[b], numbers.belief[b]
        for i in range(element.shape[0] - 1):
            update_belief(algebra, element, inbox, i, field, numbers.weight, message, belief)


@numeric
def propagate(
    algebra, wiring, numbers, row_progress, rows, schedule, order, sweeps, tolerance, adaptive,
    work, history, stop,
):  # fmt: skip
    """Sweep each active row ``sweeps`` times, or until it converges.

    Args:
        algebra: Arithmetic of the values.
        wiring: Wiring of the graph.
        numbers: Fields, tables, messages, beliefs.
        row_progress: State of each row.
        rows: Rows to update.
        schedule: ``FLOODING``, ``SEQUENTIAL`` or ``RESIDUAL``.
        order: ``(E,)`` elements; even sweeps go backward, odd ones forward.
        sweeps: Largest number of sweeps.
        tolerance: Largest change of a message in a row that has converged.
        adaptive: Whether damping may grow.
        work: Working memory.
        history: ``(sweeps,)`` maximum with the largest residual of a row in each sweep.
        stop: Checked before each sweep, and regularly during one.
    """
    factor, slot, element, inbox = wiring.factor, wiring.slot, wiring.element, wiring.inbox
    weight = numbers.weight
    state, heap, place, scratch = work.state, work.heap, work.place, work.scratch
    for b in rows:
        table = numbers.table[b if numbers.table.shape[0] > 1 else 0]
        field, message, belief = numbers.field[b], numbers.message[b], numbers.belief[b]
        priority = row_progress.priority[b]
        if schedule == RESIDUAL:
            build_heap(heap, place, priority)
        for sweep in range(sweeps):
            if row_progress.state[b] != 0 or stop[0]:
                break
            damping = row_progress.damping[b]
            if schedule == FLOODING:
                distance = _flood(
                    algebra, factor, slot, element, inbox, table, field, weight, message, belief,
                    damping, scratch,
                )  # fmt: skip
            elif schedule == SEQUENTIAL:
                distance = _sweep(
                    algebra, factor, slot, element, inbox, table, field, weight, message, belief,
                    damping, state, order, row_progress.iterations[b] % 2 == 0, scratch, stop,
                )  # fmt: skip
            else:
                distance = _residual_sweep(
                    algebra, factor, slot, element, inbox, table, field, weight, message, belief,
                    damping, state, heap, place, priority, tolerance, scratch, stop,
                )  # fmt: skip
            _record_sweep(row_progress, b, distance, tolerance, adaptive)
            history[sweep] = max(history[sweep], row_progress.residual[b])
