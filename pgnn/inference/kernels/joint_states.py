"""Enumeration of the joint states of a factor's elements, in the order of its table."""

from __future__ import annotations

from pgnn.inference.kernels.compiled import inlined_lean


@inlined_lean
def next_joint_state(card, slot_var, first, last, states):
    """Advance to the next joint state of the slots ``first, ..., last - 1``, the last one fastest.

    Args:
        card: ``(N,)`` state counts of the elements.
        slot_var: Element of each slot.
        first: First slot.
        last: One past the last slot.
        states: ``(last - first,)`` states, updated; zeros after the last joint state.

    Returns:
        The position that was incremented, -1 after the last joint state.
    """
    d = last - first - 1
    while d >= 0:
        states[d] += 1
        if states[d] < card[slot_var[first + d]]:
            break
        states[d] = 0
        d -= 1
    return d
