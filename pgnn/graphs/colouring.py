"""Colours for the nodes of a graph, so that no edge joins two of one colour."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import networkx as nx

from pgnn.graphs.checks import HasGraph, Node
from pgnn.graphs.moral import undirected_of


def greedy_colouring(
    graph: nx.Graph | HasGraph, order: Iterable[Node] | None = None
) -> dict[Node, int]:
    """Give each node the smallest colour that none of its neighbours has.

    Nodes of one colour are independent of each other given the rest, so that a sampler may
    update them all at once.

    Args:
        graph: Undirected, or a model; a self-loop is ignored.
        order: In which nodes are coloured; by falling degree if not given (Welsh and Powell),
            ties in the order of the graph.

    Returns:
        Node to colour, numbered from zero; at most the largest degree plus one of them.

    Cost:
        Linear in nodes and edges, but for the sort.

    References:
        Welsh and Powell (1967), The Computer Journal 10(1). For parallel Gibbs sampling:
        Gonzalez, Low, Gretton and Guestrin (2011), AISTATS, section 3.

    Example:
        >>> greedy_colouring(nx.cycle_graph(5))
        {0: 0, 1: 1, 2: 0, 3: 1, 4: 2}
    """
    graph = undirected_of(graph)
    if order is None:
        order = sorted(graph, key=lambda node: -len(set(graph[node]) - {node}))
    colours: dict[Node, int] = {}
    for node in order:
        taken = {colours[other] for other in graph[node] if other in colours and other != node}
        colours[node] = next(c for c in range(len(taken) + 1) if c not in taken)
    return colours


def saturation_colouring(graph: nx.Graph | HasGraph) -> dict[Node, int]:
    """Colour greedily, the node first whose neighbours have most colours (DSATUR).

    It needs fewer colours than :func:`greedy_colouring` on many graphs (two on every bipartite
    one) and takes longer.

    Args:
        graph: Undirected, or a model, without self-loops.

    Returns:
        Node to colour, as in :func:`greedy_colouring`.

    References:
        Brelaz (1979), Communications of the ACM 22(4).

    Example:
        >>> saturation_colouring(nx.path_graph(4))
        {1: 0, 2: 1, 0: 1, 3: 0}
    """
    return dict(nx.greedy_color(undirected_of(graph), strategy="saturation_largest_first"))


def is_colouring(graph: nx.Graph | HasGraph, colours: Mapping[Node, int]) -> bool:
    """Say whether every node has a colour and no edge joins two nodes of one.

    Example:
        >>> is_colouring(nx.path_graph(3), {0: 0, 1: 1, 2: 0})
        True
    """
    graph = undirected_of(graph)
    return all(node in colours for node in graph) and all(
        colours[a] != colours[b] for a, b in graph.edges if a != b
    )
