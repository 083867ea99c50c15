"""Spanning trees of complete graphs."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def maximum_spanning_tree(weights: NDArray[np.float64], root: int = 0) -> NDArray[np.int64]:
    """Return the parent of each node in the spanning tree of the largest total weight.

    Edges of weight zero, or less, are edges like any other: the tree always reaches all nodes.

    Args:
        weights: ``(V, V)`` symmetric, finite; the diagonal does not matter.
        root: The node that has no parent.

    Returns:
        ``(V,)`` indices of nodes; -1 at the root.

    Cost:
        ``O(V^2)``.

    References:
        Prim (1957), Shortest connection networks and some generalizations.

    Example:
        >>> maximum_spanning_tree(np.array([[0.0, 2.0, 0.0], [2.0, 0.0, 0.0], [0.0, 0.0, 0.0]]))
        array([-1,  0,  0])
    """
    size = len(weights)
    parents = np.full(size, -1, dtype=np.int64)
    if not size:
        return parents
    outside = np.ones(size, dtype=np.bool_)
    outside[root] = False
    best, nearest = weights[root].astype(np.float64), np.full(size, root)
    for _ in range(size - 1):
        node = int(np.where(outside, best, -np.inf).argmax())
        parents[node], outside[node] = nearest[node], False
        closer = outside & (weights[node] > best)
        best[closer], nearest[closer] = weights[node][closer], node
    return parents
