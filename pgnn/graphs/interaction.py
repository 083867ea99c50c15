"""The graph of which variables share a factor."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterable

import networkx as nx

from pgnn.graphs.checks import Node


def interaction_graph(scopes: Iterable[Collection[Node]], nodes: Iterable[Node] = ()) -> nx.Graph:
    """Return the undirected graph that joins two nodes iff some scope holds both.

    Args:
        scopes: Nodes of each factor; an empty scope adds nothing.
        nodes: Nodes that come first, in this order, whether they are in a scope or not.

    Returns:
        A new graph; its nodes are in order of first mention.

    Cost:
        Linear in the sum of the squared scope sizes.

    References:
        Koller and Friedman (2009), section 9.4.2.

    Example:
        >>> graph = interaction_graph([("a", "b"), ("b", "c", "d"), ("e",)])
        >>> list(graph.edges), list(graph)
        ([('a', 'b'), ('b', 'c'), ('b', 'd'), ('c', 'd')], ['a', 'b', 'c', 'd', 'e'])
    """
    graph = nx.Graph()
    graph.add_nodes_from(nodes)
    for scope in scopes:
        graph.add_nodes_from(scope)
        # A scope that lists a node twice must not make a self-loop.
        graph.add_edges_from(itertools.combinations(dict.fromkeys(scope), 2))
    return graph
