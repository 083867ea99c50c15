"""d-separation: the independences that the edges of a directed graph imply."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import networkx as nx

from pgnn.errors import ModelError
from pgnn.graphs.checks import HasGraph, Node, check_directed_acyclic, graph_of, node_set
from pgnn.graphs.relatives import ancestors

_DOWN = True  # came along an edge, from a parent
_UP = False  # came against an edge, from a child; also how a trail starts
_Step = tuple[Node, bool]


def is_d_separated(
    graph: nx.DiGraph | HasGraph,
    x: Node | Iterable[Node],
    y: Node | Iterable[Node],
    given: Node | Iterable[Node] = (),
) -> bool:
    r"""Tell whether ``given`` blocks every trail between ``x`` and ``y``.

    If it does, :math:`x \perp y \mid given` holds in every distribution that factorises along the
    graph; if not, it fails in almost all of them. An empty ``x`` or ``y`` is always separated.

    Args:
        graph: Directed acyclic graph, or a model on one.
        x: A node or a collection of nodes.
        y: A node or a collection of nodes.
        given: The observed node or nodes.

    Returns:
        Whether no trail is active.

    Raises:
        ModelError: If the graph is undirected or cyclic, a node is unknown, or two of the three
            sets overlap.

    Cost:
        Linear in the number of nodes and edges.

    References:
        Koller and Friedman (2009), definition 3.7 and algorithm 3.1.

    Example:
        >>> collider = nx.DiGraph([("rain", "wet"), ("sprinkler", "wet")])
        >>> is_d_separated(collider, "rain", "sprinkler")
        True
        >>> is_d_separated(collider, "rain", "sprinkler", given="wet")
        False
    """
    graph = graph_of(graph)
    sources, targets, observed = _three_sets(graph, x, y, given)
    return targets.isdisjoint(_reach(graph, sources, observed))


def d_connected(
    graph: nx.DiGraph | HasGraph, source: Node | Iterable[Node], given: Node | Iterable[Node] = ()
) -> set[Node]:
    """Return every node that an active trail joins to ``source``, the sources included.

    Everything else, but for the observed nodes, is independent of the sources.

    Args:
        graph: Directed acyclic graph, or a model on one.
        source: A node or a collection of nodes.
        given: The observed node or nodes; none of them is returned.

    Returns:
        A new set of nodes.

    Raises:
        ModelError: If the graph is undirected or cyclic, a node is unknown, or a source is
            observed.

    Cost:
        Linear in the number of nodes and edges.

    References:
        Koller and Friedman (2009), algorithm 3.1.
    """
    graph = graph_of(graph)
    sources, _, observed = _three_sets(graph, source, (), given)
    return _reach(graph, sources, observed)


def active_trails(
    graph: nx.DiGraph | HasGraph,
    x: Node | Iterable[Node],
    y: Node | Iterable[Node],
    given: Node | Iterable[Node] = (),
) -> Iterator[tuple[Node, ...]]:
    """Iterate over the active trails between ``x`` and ``y`` that visit no node twice.

    A trail follows edges in either direction. It is active if each collider on it
    (``a -> c <- b``) is observed or has an observed descendant, and no other node on it is
    observed.

    Args:
        graph: Directed acyclic graph, or a model on one; it must not change while the trails are
            read.
        x: A node or a collection of nodes where the trails start.
        y: A node or a collection of nodes where they end.
        given: The observed node or nodes.

    Returns:
        A lazy iterator of tuples of nodes, in an order that depends on the graph's alone.

    Raises:
        ModelError: As for :func:`is_d_separated`, at the call.

    Cost:
        There may be exponentially many; :func:`is_d_separated` tests whether there is any.

    References:
        Koller and Friedman (2009), definition 3.6.

    Example:
        >>> chain = nx.DiGraph([("cloudy", "rain"), ("rain", "wet")])
        >>> list(active_trails(chain, "wet", "cloudy"))
        [('wet', 'rain', 'cloudy')]
    """
    graph = graph_of(graph)
    sources, targets, observed = _three_sets(graph, x, y, given)
    return _trails(graph, sources, targets, observed)


def _three_sets(
    graph: nx.DiGraph,
    x: Node | Iterable[Node],
    y: Node | Iterable[Node],
    given: Node | Iterable[Node],
) -> tuple[set[Node], set[Node], set[Node]]:
    check_directed_acyclic(graph)
    sources = node_set(graph, x)
    targets = node_set(graph, y)
    observed = node_set(graph, given, "given node")
    if sources & observed or targets & observed:
        both = next(iter((sources | targets) & observed))
        raise ModelError(f"node {both!r} is both a query node and given", "drop one")
    if sources & targets:
        both = next(iter(sources & targets))
        raise ModelError(f"node {both!r} is on both sides; x and y must have no node in common")
    return sources, targets, observed


def _next_steps(
    graph: nx.DiGraph, step: _Step, observed: set[Node], opening: set[Node]
) -> Iterator[_Step]:
    """Continue an active trail over a node; ``opening`` is ``observed`` with its ancestors."""
    node, came = step
    if node not in observed:
        for child in graph.succ[node]:
            yield child, _DOWN
    if (came is _UP and node not in observed) or (came is _DOWN and node in opening):
        for parent in graph.pred[node]:
            yield parent, _UP


def _reach(graph: nx.DiGraph, sources: set[Node], observed: set[Node]) -> set[Node]:
    opening = ancestors(graph, observed)
    queue: list[_Step] = [(node, _UP) for node in sources]
    visited = set(queue)
    while queue:
        for step in _next_steps(graph, queue.pop(), observed, opening):
            if step not in visited:
                visited.add(step)
                queue.append(step)
    return {node for node, _ in visited} - observed


def _trails(
    graph: nx.DiGraph, sources: set[Node], targets: set[Node], observed: set[Node]
) -> Iterator[tuple[Node, ...]]:
    opening = ancestors(graph, observed)
    useful = _leading_to(graph, targets, observed, opening)
    for source in (node for node in graph if node in sources):
        trail: dict[Node, None] = {source: None}
        branches = [_next_steps(graph, (source, _UP), observed, opening)]
        while branches:
            step = next((s for s in branches[-1] if s in useful and s[0] not in trail), None)
            if step is None:
                branches.pop()
                trail.popitem()
                continue
            trail[step[0]] = None
            if step[0] in targets:
                yield tuple(trail)
            branches.append(_next_steps(graph, step, observed, opening))


def _leading_to(
    graph: nx.DiGraph, targets: set[Node], observed: set[Node], opening: set[Node]
) -> set[_Step]:
    """Steps from which an active walk leads to a target."""
    before: dict[_Step, list[_Step]] = {}
    for step in ((node, came) for node in graph for came in (_UP, _DOWN)):
        for after in _next_steps(graph, step, observed, opening):
            before.setdefault(after, []).append(step)
    queue: list[_Step] = [(node, came) for node in targets for came in (_UP, _DOWN)]
    useful = set(queue)
    while queue:
        for step in before.get(queue.pop(), ()):
            if step not in useful:
                useful.add(step)
                queue.append(step)
    return useful
