"""Elements in the order of how much is to be gained from renewing them: an indexed binary heap.

Args of every kernel: ``heap``, ``(E,)`` elements, none less urgent than those below it; ``place``,
``(E,)`` where each stands; ``priority``, ``(E,)`` how urgent each is.
"""

from __future__ import annotations

from pgnn.inference.kernels.compiled import inner_numeric


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
