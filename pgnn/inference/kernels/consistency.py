"""Arc consistency on zeros of tables, and a search for one possible assignment."""

from __future__ import annotations

import numpy as np

from pgnn.factors.groups.kernel_kinds import TABLE
from pgnn.inference.kernels.compiled import entry, inner
from pgnn.inference.kernels.joint_states import next_joint_state
from pgnn.inference.kernels.kinds import mark_supported

FOUND = 0
"""An assignment was found."""
UNKNOWN = 1
"""The search was given up."""
IMPOSSIBLE = 2
"""There is no assignment."""


@inner
def _support(wiring, table, f, alive, states, kept):
    """Mark in ``kept`` the states that factor ``f`` supports given the live states."""
    first, last = wiring.factor_ptr[f], wiring.factor_ptr[f + 1]
    n, base = last - first, wiring.table[f]
    if wiring.kind[f] != TABLE:
        one, two = wiring.slot_var[first], wiring.slot_var[first + 1]
        mark_supported(
            wiring.kind[f], table, base, alive, wiring.offset[one], wiring.offset[two],
            wiring.card[one], kept,
        )  # fmt: skip
        return
    card, offset, slot_var = wiring.card, wiring.offset, wiring.slot_var
    for d in range(n):
        states[d] = 0
    kept[: wiring.message[last] - wiring.message[first]] = False
    at = base
    d = 0
    while d >= 0:
        allowed = table[at] > -np.inf
        for d in range(n):
            allowed &= alive[offset[slot_var[first + d]] + states[d]]
        if allowed:
            for d in range(n):
                kept[wiring.message[first + d] - wiring.message[first] + states[d]] = True
        at += 1
        d = next_joint_state(card, slot_var, first, last, states)


@inner
def _push(wiring, i, hard, queue, queued, count):
    """Put the factors of an element that have zeros on the stack."""
    for s in range(wiring.var_ptr[i], wiring.var_ptr[i + 1]):
        f = wiring.slot_factor[wiring.var_slot[s]]
        if hard[f] and not queued[f]:
            queued[f] = True
            queue[count] = f
            count += 1
    return count


@inner
def _propagate(wiring, table, hard, alive, queue, queued, count, trail, marks, states, kept):
    """Remove unsupported states to a fixed point; return False if an element has no state left.

    Removed columns are appended to ``trail`` at ``marks[0]``, which advances; ``marks[1]`` is the
    factor that left an element without states.
    """
    fine = True
    while count > 0:
        count -= 1
        f = queue[count]
        queued[f] = False
        if not fine:
            continue
        _support(wiring, table, f, alive, states, kept)
        first = wiring.factor_ptr[f]
        for s in range(first, wiring.factor_ptr[f + 1]):
            i = wiring.slot_var[s]
            changed, left = False, False
            for k in range(wiring.card[i]):
                column = wiring.offset[i] + k
                if alive[column] and not kept[wiring.message[s] - wiring.message[first] + k]:
                    alive[column] = False
                    trail[marks[0]] = column
                    marks[0] += 1
                    changed = True
                left |= alive[column]
            if not left:
                fine, marks[1] = False, f
            if changed:
                count = _push(wiring, i, hard, queue, queued, count)
    return fine


@inner
def _kill(wiring, i, chosen, keep, alive, trail, marks):
    """Remove the chosen state of an element, or all others."""
    for k in range(wiring.card[i]):
        column = wiring.offset[i] + k
        if alive[column] and (k == chosen) != keep:
            alive[column] = False
            trail[marks[0]] = column
            marks[0] += 1


@inner
def _restore(mark, alive, trail, marks):
    """Restore the states removed since ``mark``."""
    while marks[0] > mark:
        marks[0] -= 1
        alive[trail[marks[0]]] = True


@inner
def _next_choice(wiring, order, cursor, by_weight, weight, alive):
    """Position of the next element to branch on, among those with two or more live states.

    The first one from ``cursor`` on; or, by weight, that with the most conflicts per live state.
    """
    best, most = len(order), -1.0
    for c in range(cursor, len(order)):
        left = 0
        for k in range(wiring.offset[order[c]], wiring.offset[order[c] + 1]):
            left += alive[k]
        if left > 1 and weight[order[c]] / left > most:
            best, most = c, weight[order[c]] / left
            if not by_weight:
                break
    return best


@inner
def _favourite(wiring, i, liked, alive):
    """The preferred live state of an element."""
    best = -1
    for k in range(wiring.card[i]):
        column = wiring.offset[i] + k
        if alive[column] and (best < 0 or liked[column] > liked[wiring.offset[i] + best]):
            best = k
    return best


@inner
def _search(wiring, table, hard, order, liked, budget, alive, work, stop):
    """Depth-first search, preferred states first, with restarts after some conflicts.

    The first run branches in the given order; later runs on the elements whose factors had the most
    conflicts (Boussemart, Hemery, Lecoutre and Sais 2004).
    """
    queue, queued, trail, states, kept, level, value, mark = work
    marks = np.zeros(2, np.int64)
    weight = np.ones(len(wiring.card))
    depth, cursor, conflicts, limit, by_weight = 0, 0, 0, 64.0, False
    until = limit
    while not stop[0]:
        cursor = _next_choice(wiring, order, 0 if by_weight else cursor, by_weight, weight, alive)
        if cursor == len(order):
            return FOUND
        i = order[cursor]
        level[depth], value[depth], mark[depth] = (
            cursor,
            _favourite(wiring, i, liked, alive),
            marks[0],
        )
        _kill(wiring, i, value[depth], True, alive, trail, marks)
        depth += 1
        count = _push(wiring, i, hard, queue, queued, 0)
        while not _propagate(
            wiring, table, hard, alive, queue, queued, count, trail, marks, states, kept
        ):
            conflicts += 1
            for s in range(wiring.factor_ptr[marks[1]], wiring.factor_ptr[marks[1] + 1]):
                weight[wiring.slot_var[s]] += 1.0
            if depth == 0:
                return IMPOSSIBLE
            if conflicts > budget:
                return UNKNOWN
            again = conflicts > until
            depth = 0 if again else depth - 1
            _restore(mark[depth], alive, trail, marks)
            cursor, count = level[depth], 0
            if again:
                limit *= 1.2
                until, by_weight = conflicts + limit, True
            else:
                i = order[cursor]
                _kill(wiring, i, value[depth], False, alive, trail, marks)
                count = _push(wiring, i, hard, queue, queued, 0)
    return UNKNOWN


@entry
def search(wiring, sizes, tables, hard, orders, liked, budget, todo, all_alive, status, stop):
    """Remove states by arc consistency, then search for an assignment of positive probability.

    Args:
        wiring: Wiring of the graph.
        sizes: Largest state count, and largest number of elements of a factor.
        tables: ``(1, T)`` or ``(B, T)`` log tables.
        hard: ``(F,)`` factors with zeros.
        orders: ``(B, N)`` elements of such factors, in branching order.
        liked: ``(B, S)`` preferences; the state with the largest one is tried first.
        budget: Number of conflicts after which the search stops; if negative, states are removed
            without a search.
        todo: Rows to process.
        all_alive: ``(B, S)`` possible states; removed states become False. If an assignment was
            found, each element of ``orders`` has one state left.
        status: ``(B,)`` output: :data:`FOUND`, :data:`UNKNOWN` or :data:`IMPOSSIBLE`.
        stop: Flag that is checked before each choice.

    References:
        Mackworth (1977), Consistency in networks of relations, section 4 (arc consistency).
        Boussemart, Hemery, Lecoutre and Sais (2004), Boosting systematic search by weighting
        constraints.
    """
    num_factors, num_states = len(hard), all_alive.shape[1]
    depth = orders.shape[1] + 1
    work = (
        np.zeros(num_factors + 1, np.int64),
        np.zeros(num_factors + 1, np.bool_),
        np.zeros(num_states + 1, np.int64),
        np.zeros(sizes[1], np.int64),
        np.zeros(sizes[0] * sizes[1], np.bool_),
        np.zeros(depth, np.int64),
        np.zeros(depth, np.int64),
        np.zeros(depth, np.int64),
    )
    queue, queued, trail, states, kept, _, _, _ = work
    for r in todo:
        if stop[0]:
            break
        table, alive = tables[min(r, len(tables) - 1)], all_alive[r]
        marks = np.zeros(2, np.int64)
        count = 0
        for f in range(num_factors):
            if hard[f]:
                queue[count] = f
                queued[f] = True
                count += 1
        if not _propagate(
            wiring, table, hard, alive, queue, queued, count, trail, marks, states, kept
        ):
            status[r] = IMPOSSIBLE
        elif budget < 0:
            status[r] = UNKNOWN
        else:
            status[r] = _search(wiring, table, hard, orders[r], liked[r], budget, alive, work, stop)
