"""Sets of nodes as Python integers: bit ``i`` stands for the node at position ``i``."""

from __future__ import annotations

from collections.abc import Iterator

import networkx as nx


def bits(mask: int) -> Iterator[int]:
    """Iterate over the positions of the set bits, lowest first.

    Args:
        mask: A non-negative integer.

    Returns:
        An iterator of positions.

    Example:
        >>> list(bits(0b10110))
        [1, 2, 4]
    """
    while mask:
        low = mask & -mask
        yield low.bit_length() - 1
        mask ^= low


def adjacency_masks(graph: nx.Graph) -> list[int]:
    """Return the neighbours of every node, in the order of the graph's nodes.

    Args:
        graph: Undirected graph without self-loops.

    Returns:
        One integer a node; bit ``j`` of entry ``i`` is set iff nodes ``i`` and ``j`` are joined.
    """
    position = {node: i for i, node in enumerate(graph)}
    return [sum(1 << position[other] for other in graph.adj[node]) for node in graph]
