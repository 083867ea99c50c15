"""The moral graph of a directed graph."""

from __future__ import annotations

import itertools

import networkx as nx

from pgnn.graphs.checks import HasGraph, check_directed_acyclic, graph_of


def moral_graph(graph: nx.DiGraph | HasGraph) -> nx.Graph:
    r"""Return the undirected graph that joins every node to its parents and parents to each other.

    Two nodes are joined iff some family :math:`\{x\} \cup \mathrm{pa}(x)` holds both, that is, iff
    they share a factor of :math:`\prod_x p(x \mid \mathrm{pa}(x))`.

    Args:
        graph: Directed acyclic graph, or a model on one.

    Returns:
        A new graph with the same nodes in the same order, their attributes (copied one level
        deep) and the graph's own; edges carry none.

    Raises:
        ModelError: If the graph is undirected or has a cycle.

    Cost:
        :math:`O(\sum_x |\mathrm{pa}(x)|^2)`.

    References:
        Lauritzen and Spiegelhalter (1988); Koller and Friedman (2009), section 4.5.1.

    Example:
        >>> moral = moral_graph(nx.DiGraph([("rain", "wet"), ("sprinkler", "wet")]))
        >>> sorted(moral.edges)
        [('rain', 'sprinkler'), ('rain', 'wet'), ('wet', 'sprinkler')]
    """
    graph = graph_of(graph)
    check_directed_acyclic(graph)
    moral = nx.Graph(**graph.graph)
    moral.add_nodes_from(graph.nodes(data=True))  # copies the attribute dicts
    for node in graph:
        parents = list(graph.predecessors(node))
        moral.add_edges_from((parent, node) for parent in parents)
        moral.add_edges_from(itertools.combinations(parents, 2))
    return moral


def undirected_of(source: nx.Graph | HasGraph) -> nx.Graph:
    """Return an undirected graph unchanged; of a model its graph, made moral if it is directed.

    Raises:
        ModelError: If it is neither a graph nor a model that has one.
    """
    graph = graph_of(source)
    return moral_graph(graph) if graph is not source and graph.is_directed() else graph
