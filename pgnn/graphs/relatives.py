"""Ancestors, Markov blankets, neighbourhoods and other relatives of a node."""

from __future__ import annotations

from collections.abc import Iterable

import networkx as nx

from pgnn.errors import ModelError
from pgnn.graphs.checks import (
    HasGraph,
    Node,
    check_directed,
    check_directed_acyclic,
    check_node,
    graph_of,
    node_set,
)


def markov_blanket(graph: nx.Graph | HasGraph, node: Node) -> set[Node]:
    """Return the nodes given which a node is independent of all others.

    In a directed graph these are its parents, its children and their other parents; in an
    undirected one its neighbours.

    Args:
        graph: Directed acyclic or undirected graph, or a model on one.
        node: One of its nodes.

    Returns:
        A new set without the node itself.

    Raises:
        ModelError: If a directed graph is cyclic, or the node is unknown.

    References:
        Pearl (1988), chapter 3; Koller and Friedman (2009), section 4.3.2.
    """
    graph = graph_of(graph)
    check_node(graph, node)
    if not graph.is_directed():
        return set(graph.neighbors(node)) - {node}
    check_directed_acyclic(graph)
    blanket = set(graph.predecessors(node))
    for child in graph.successors(node):
        blanket.add(child)
        blanket.update(graph.predecessors(child))
    return blanket - {node}


def ancestors(graph: nx.DiGraph | HasGraph, nodes: Node | Iterable[Node]) -> set[Node]:
    """Return the nodes themselves and everything from which a directed path leads to them.

    Args:
        graph: Directed graph, or a model on one; cycles do no harm.
        nodes: A node or a collection of nodes.

    Returns:
        A new set, ``nodes`` included.

    Raises:
        ModelError: If the graph is undirected, or a node is unknown.
    """
    graph = graph_of(graph)
    check_directed(graph)
    reached = node_set(graph, nodes)
    queue = list(reached)
    while queue:
        for parent in graph.pred[queue.pop()]:
            if parent not in reached:
                reached.add(parent)
                queue.append(parent)
    return reached


def neighbourhood(
    graph: nx.Graph | HasGraph, nodes: Node | Iterable[Node], radius: int = 1
) -> set[Node]:
    """Return the nodes that are at most ``radius`` edges away, whatever their directions.

    Args:
        graph: Any graph, or a model on one.
        nodes: A node or a collection of nodes.
        radius: Largest number of edges.

    Returns:
        A new set, ``nodes`` included; the nodes of ``nx.ego_graph(graph, node, radius,
        undirected=True)`` if there is one.

    Raises:
        ModelError: If a node is unknown, or the radius is negative.

    Example:
        >>> chain = nx.path_graph(7, create_using=nx.DiGraph)
        >>> sorted(neighbourhood(chain, 3)), sorted(neighbourhood(chain, [0, 6], radius=2))
        ([2, 3, 4], [0, 1, 2, 4, 5, 6])
    """
    graph = graph_of(graph)
    if radius < 0:
        raise ModelError(f"radius must not be negative, got {radius}")
    reached = node_set(graph, nodes)
    border = reached
    for _ in range(min(radius, len(graph))):
        border = {other for node in border for other in nx.all_neighbors(graph, node)} - reached
        reached = reached | border
    return reached


def barren_nodes(
    graph: nx.DiGraph | HasGraph,
    targets: Node | Iterable[Node],
    evidence: Node | Iterable[Node] = (),
) -> set[Node]:
    """Return the nodes with neither a target nor evidence at or below them.

    They sum to one: leaving them out changes no answer about the targets.

    Args:
        graph: Directed acyclic graph, or a model on one.
        targets: The queried node or nodes.
        evidence: The observed node or nodes; may overlap the targets.

    Returns:
        A new set of nodes.

    Raises:
        ModelError: If the graph is undirected or cyclic, or a node is unknown.

    References:
        Shachter (1986), removal of barren nodes.
    """
    graph = graph_of(graph)
    check_directed_acyclic(graph)
    used = node_set(graph, targets, "target") | node_set(graph, evidence, "evidence node")
    return set(graph) - ancestors(graph, used)
