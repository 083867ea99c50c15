"""Checks of the arguments of graph functions."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from typing import Protocol, runtime_checkable

import networkx as nx

from pgnn.errors import ModelError, closest

Node = Hashable
"""A node of a graph: any hashable."""


@runtime_checkable
class HasGraph(Protocol):
    """An object with a graph, such as a model."""

    graph: nx.Graph


def graph_of(source: nx.Graph | HasGraph) -> nx.Graph:
    """Return the graph of a model; a graph unchanged.

    Raises:
        ModelError: If it is neither.
    """
    if isinstance(source, nx.Graph):
        return source
    if isinstance(source, HasGraph) and isinstance(source.graph, nx.Graph):
        return source.graph
    raise ModelError(f"expected a graph of networkx, or a model that has one, got {source!r}")


def check_directed(graph: nx.DiGraph) -> None:
    """Raise unless a graph is directed.

    Args:
        graph: Graph to check.

    Raises:
        ModelError: If it is not.
    """
    if not graph.is_directed():
        raise ModelError(
            f"expected a directed graph (nx.DiGraph), got an undirected {type(graph).__name__}; "
            "edges must point from parent to child"
        )


def check_directed_acyclic(graph: nx.DiGraph) -> None:
    """Raise unless a graph is directed and has no directed cycle.

    Args:
        graph: Graph to check.

    Raises:
        ModelError: If the graph is undirected, or has a cycle (the message spells one out).
    """
    check_directed(graph)
    if not nx.is_directed_acyclic_graph(graph):
        cycle = [edge[0] for edge in nx.find_cycle(graph)]
        path = " -> ".join(repr(node) for node in [*cycle, cycle[0]])
        raise ModelError(
            f"expected an acyclic graph, got the cycle {path}", "remove one of its edges"
        )


def check_undirected(graph: nx.Graph) -> None:
    """Raise unless a graph is undirected and joins no node to itself.

    Args:
        graph: Graph to check.

    Raises:
        ModelError: If the graph is directed or has a self-loop.
    """
    if graph.is_directed():
        raise ModelError(
            f"expected an undirected graph (nx.Graph), got a {type(graph).__name__}",
            "pass moral_graph(graph)",
        )
    loop = next((node for node in graph if graph.has_edge(node, node)), None)
    if loop is not None:
        raise ModelError(f"node {loop!r} is its own neighbour", "remove the self-loop")


def check_node(graph: nx.Graph, node: Node, role: str = "node") -> None:
    """Raise unless a graph has a node.

    Args:
        graph: Graph to look in.
        node: The requested node.
        role: What the caller calls the node, for the message.

    Raises:
        ModelError: If there is no such node; the message names the closest ones.
    """
    if node not in graph:
        raise ModelError(f"{role} {node!r} is not in the graph{closest(node, graph)}")


def node_set(graph: nx.Graph, nodes: Node | Iterable[Node], role: str = "node") -> set[Node]:
    """Return the set of nodes that an argument denotes: one node or a collection of nodes.

    A string, and anything that is itself a node of the graph, such as a tuple or frozenset, is one
    node. Anything else is a collection.

    Args:
        graph: Graph whose nodes are meant.
        nodes: One node, or a collection of nodes.
        role: What the caller calls the argument, for the message.

    Returns:
        A new set.

    Raises:
        ModelError: If one of them is not in the graph.
    """
    members: set[Node]
    if isinstance(nodes, Iterable) and nodes not in graph and not isinstance(nodes, (str, bytes)):
        members = set(nodes)
    else:
        members = {nodes}  # type: ignore[arg-type]
    for node in members:
        check_node(graph, node, role)
    return members


def check_permutation(graph: nx.Graph, order: Iterable[Node]) -> tuple[Node, ...]:
    """Return an elimination order as a tuple, having checked that it lists every node once.

    Args:
        graph: Graph whose nodes are eliminated.
        order: Its nodes in some order.

    Returns:
        The nodes in that order.

    Raises:
        ModelError: If a node is unknown, missing, or listed twice.
    """
    listed = tuple(order)
    visited: set[Node] = set()
    for node in listed:
        check_node(graph, node, "node of the order")
        if node in visited:
            raise ModelError(f"node {node!r} occurs twice in the order", "list every node once")
        visited.add(node)
    missing = [node for node in graph if node not in visited]
    if missing:
        shown = ", ".join(repr(node) for node in missing[:5])
        raise ModelError(
            f"the order must list all {len(graph)} nodes once, {len(missing)} are missing: "
            f"{shown}{', ...' if len(missing) > 5 else ''}"
        )
    return listed
