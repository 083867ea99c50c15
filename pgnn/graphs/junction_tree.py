"""Triangulations and junction trees of undirected graphs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import networkx as nx

from pgnn.graphs.checks import HasGraph, Node, check_undirected, graph_of
from pgnn.graphs.elimination import EliminationOrder, elimination_order, evaluate_order
from pgnn.graphs.heuristics import MinFill, MinWeight, WeightedMinFill
from pgnn.graphs.moral import moral_graph, undirected_of


def triangulate(graph: nx.Graph | HasGraph, order: EliminationOrder | Iterable[Node]) -> nx.Graph:
    """Return the graph with the edges that eliminating its nodes in an order adds.

    The result is chordal: every cycle of four or more nodes has a short cut.

    Args:
        graph: Undirected graph without self-loops, or a model.
        order: All its nodes in the order of elimination, or what :func:`elimination_order` found.

    Returns:
        A copy of the graph, attributes too (one level deep), with the fill edges added.

    Raises:
        ModelError: If the graph is directed or has a self-loop, or the order does not list every
            node once.

    References:
        Koller and Friedman (2009), section 9.4.2.

    Example:
        >>> square = nx.cycle_graph(["a", "b", "c", "d"])
        >>> sorted(set(triangulate(square, "abcd").edges) - set(square.edges))
        [('b', 'd')]
    """
    graph = undirected_of(graph)
    elimination = evaluate_order(graph, _nodes(order))
    filled = graph.copy()
    rank = {node: i for i, node in enumerate(elimination.order)}
    for node, clique in zip(elimination.order, elimination.cliques, strict=True):
        for other in sorted(clique - {node}, key=rank.__getitem__):
            if not filled.has_edge(node, other):
                filled.add_edge(node, other)
    return filled


def junction_tree(
    graph: nx.Graph | HasGraph,
    order: EliminationOrder | Iterable[Node] | None = None,
    num_states: Mapping[Node, int] | None = None,
) -> nx.Graph:
    r"""Return a junction tree of the triangulation that an elimination order makes.

    Its nodes are the maximal cliques, as frozensets. Running intersection: the cliques that hold
    a node are connected. Each edge carries ``separator``, the intersection of its two cliques.

    A graph of several components gives a forest, one tree a component: no edges with empty
    separators are made up to join them. A graph without nodes gives a tree without nodes.

    Args:
        graph: Undirected graph without self-loops; of a directed one, its :func:`moral_graph`. Or
            a model, whose graph is made moral if it is directed.
        order: All nodes in the order of elimination, or what :func:`elimination_order` found;
            if not given, the cheapest that min-fill, weighted min-fill and min-weight find.
        num_states: Number of states of each node, for finding an order; binary if not given.

    Returns:
        A new graph of cliques.

    Raises:
        ModelError: If the graph is directed or has a self-loop, the order does not list every
            node once, or a state count is missing or below one.

    Cost:
        Linear in the sizes of the elimination cliques, once the order is known.

    References:
        Blair and Peyton (1993); Koller and Friedman (2009), section 10.4.

    Example:
        >>> tree = junction_tree(nx.path_graph(["a", "b", "c"]))
        >>> [(sorted(u), sorted(v), sorted(s)) for u, v, s in tree.edges(data="separator")]
        [(['a', 'b'], ['b', 'c'], ['b'])]
    """
    graph = undirected_of(graph)
    if order is None:
        rules = MinFill(), WeightedMinFill(), MinWeight()
        elimination = elimination_order(graph, num_states, heuristic=rules)
    else:
        elimination = evaluate_order(graph, _nodes(order), num_states)
    rank = {node: i for i, node in enumerate(elimination.order)}
    rests = [
        clique - {node} for node, clique in zip(elimination.order, elimination.cliques, strict=True)
    ]
    above = [min((rank[node] for node in rest), default=None) for rest in rests]
    host = list(range(len(rests)))  # the maximal clique that an elimination clique lies in
    for i, parent in enumerate(above):
        if parent is not None and rests[i] == elimination.cliques[parent]:
            host[parent] = host[i]
    tree = nx.Graph()
    tree.add_nodes_from(elimination.cliques[i] for i in range(len(host)) if host[i] == i)
    for i, parent in enumerate(above):
        if parent is not None and host[parent] != host[i]:
            a, b = elimination.cliques[host[i]], elimination.cliques[host[parent]]
            tree.add_edge(a, b, separator=a & b)
    return tree


def is_junction_tree(tree: nx.Graph, graph: nx.Graph | HasGraph) -> bool:
    """Tell whether a graph of node sets is a junction tree (or forest) for another graph.

    It is if it has no cycle, every node and edge of ``graph`` (of its moral graph, if it is
    directed) lies in a clique, the cliques that hold a node are connected, and every edge carries
    as ``separator`` the intersection of its ends. By the Helly property of subtrees every family
    and every clique of ``graph`` then lies in a clique of the tree. The cliques need not be
    maximal.

    Args:
        tree: Undirected graph whose nodes are frozensets.
        graph: Undirected, or directed acyclic graph, or a model.

    Returns:
        Whether all of that holds.

    Raises:
        ModelError: If ``tree`` is directed, or ``graph`` is directed and cyclic.

    References:
        Koller and Friedman (2009), section 4.5.3.
    """
    check_undirected(tree)
    graph = graph_of(graph)
    target = moral_graph(graph) if graph.is_directed() else graph
    if not all(isinstance(clique, frozenset) for clique in tree):
        return False
    if len(tree) and not nx.is_forest(tree):
        return False
    if any(a & b != separator for a, b, separator in tree.edges(data="separator")):
        return False
    holders = {node: {clique for clique in tree if node in clique} for node in target}
    if any(not clique <= holders.keys() for clique in tree):
        return False
    covered = all(holders[a] & holders[b] for a, b in target.edges)
    # In a forest, cliques are connected iff they outnumber the edges among them by one.
    connected = all(
        len(cliques) - sum(node in s for *_, s in tree.edges(data="separator")) == 1
        for node, cliques in holders.items()
    )
    return covered and connected


def _nodes(order: EliminationOrder | Iterable[Node]) -> Iterable[Node]:
    return order.order if isinstance(order, EliminationOrder) else order
