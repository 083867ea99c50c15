"""Layered drawings of graphs whose nodes lie in boxes, such as plates, one within the other."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from itertools import combinations
from typing import Any, NamedTuple

import networkx as nx
import numpy as np

from pgnn.graphs.checks import Node, check_directed_acyclic
from pgnn.graphs.layered_layout import Layout, Point, layered_layout

Groups = Mapping[Node, Sequence[Hashable]]

_NOTHING = (0.0, 0.0)


class Box(NamedTuple):
    """A rectangle around nodes of a group."""

    group: Hashable
    left: float
    top: float
    width: float
    height: float


class _Part(NamedTuple):
    """What is drawn as one box: members of a group between which no path leaves the group."""

    group: Hashable
    number: int


class _End(NamedTuple):
    """Where edges of an outer node enter a box, or leave it."""

    node: Node


def nested_layout(
    graph: nx.DiGraph,
    groups: Groups,
    sizes: Mapping[Node, Point],
    *,
    gap: Point,
    padding: float,
    widths: Mapping[Hashable, float] | None = None,
) -> tuple[Layout, list[Box]]:
    """Place nodes in layers, those of a group in a box of their own.

    A group has several boxes where a path leaves it and comes back, or where groups overlap
    without one lying in the other.

    Args:
        graph: Directed acyclic graph.
        groups: For each node the groups that it lies in, the outermost first.
        sizes: Width and height of each node.
        gap: Horizontal and vertical distance between nodes.
        padding: Distance between a box and what it contains.
        widths: Least widths of the boxes of groups, for their labels.

    Returns:
        The layout, and the boxes, outer ones first.

    Raises:
        ModelError: If the graph is undirected or has a cycle.

    Example:
        >>> graph = nx.DiGraph([("mean", "x")])
        >>> sizes = {"mean": (1.0, 1.0), "x": (1.0, 1.0)}
        >>> layout, (box,) = nested_layout(
        ...     graph, {"x": ["rows"]}, sizes, gap=(0.5, 1.0), padding=0.5
        ... )
        >>> box.group, layout.positions["mean"], layout.positions["x"]
        ('rows', (1.0, 0.5), (1.0, 4.0))
    """
    check_directed_acyclic(graph)
    group_of = {node: groups[node][0] for node in graph if groups.get(node)}
    if not group_of:
        return layered_layout(graph, {n: sizes.get(n, _NOTHING) for n in graph}, gap=gap), []
    outer = nx.DiGraph(graph)
    unit: dict[Node, Node] = {node: node for node in graph}
    for group in dict.fromkeys(group_of.values()):
        parts = _parts(outer, group, {n for n, g in group_of.items() if g == group})
        unit |= parts
        outer = _contracted(outer, parts)
    insides: dict[_Part, tuple[Layout, list[Box]]] = {}
    for part in dict.fromkeys(u for u in unit.values() if isinstance(u, _Part)):
        members = {n for n, u in unit.items() if u == part}
        deeper = {n: groups[n][1:] for n in members}
        insides[part] = nested_layout(
            _with_ends(graph, members), deeper, sizes, gap=gap, padding=padding, widths=widths
        )
    least = widths or {}
    frames = {
        part: (
            max(layout.size[0] + 2 * padding, least.get(part.group, 0.0)),
            layout.size[1] + 2 * padding,
        )
        for part, (layout, _) in insides.items()
    }
    extents = {n: frames[n] if n in frames else sizes.get(n, _NOTHING) for n in outer}
    whole = layered_layout(outer, extents, gap=gap)
    insides = {
        part: _mirrored(*inside) if _crosses(inside[0], whole, unit) else inside
        for part, inside in insides.items()
    }
    shifted = {
        part: _shifted(*insides[part], whole.positions[part], frames[part], padding)
        for part in insides
    }
    return _joined(graph, whole, unit, shifted), [
        box
        for part, (_, boxes) in shifted.items()
        for box in (_box(part, whole.positions[part], frames[part]), *boxes)
    ]


def _parts(graph: nx.DiGraph, group: Hashable, members: set[Node]) -> dict[Node, _Part]:
    """Divide a group by how often a path has left it before."""
    left: dict[Node, int] = {}
    for node in nx.topological_sort(graph):
        leaves = [
            left[p] + (p in members and node not in members) for p in graph.predecessors(node)
        ]
        left[node] = max(leaves, default=0)
    return {node: _Part(group, left[node]) for node in members}


def _contracted(graph: nx.DiGraph, parts: Mapping[Node, _Part]) -> nx.DiGraph:
    """The graph with a node for each part in place of its members."""
    contracted = nx.DiGraph()
    contracted.add_nodes_from(parts.get(n, n) for n in graph)
    ends = ((parts.get(a, a), parts.get(b, b)) for a, b in graph.edges)
    contracted.add_edges_from((a, b) for a, b in ends if a != b)
    return contracted


def _with_ends(graph: nx.DiGraph, members: set[Node]) -> nx.DiGraph:
    """The members, and a node without size for each outer one that they are joined to."""
    inside = nx.DiGraph()
    inside.add_nodes_from(n for n in graph if n in members)
    for a, b in graph.edges:
        if a in members or b in members:
            inside.add_edge(a if a in members else _End(a), b if b in members else _End(b))
    return inside


def _crosses(inside: Layout, whole: Layout, unit: Mapping[Node, Node]) -> bool:
    """Whether more pairs of edges into or out of a box cross than if it were mirrored."""
    ends = [(n.node, x) for n, (x, _) in inside.positions.items() if isinstance(n, _End)]
    places = [(whole.positions[unit[node]][0], x) for node, x in ends if node in unit]
    signs = [np.sign((u - v) * (x - y)) for (u, x), (v, y) in combinations(places, 2)]
    return bool(sum(signs) < 0)


def _mirrored(layout: Layout, boxes: list[Box]) -> tuple[Layout, list[Box]]:
    width = layout.size[0]
    positions = {n: (width - u, v) for n, (u, v) in layout.positions.items()}
    routes = {e: [(width - u, v) for u, v in route] for e, route in layout.routes.items()}
    turned = [box._replace(left=width - box.left - box.width) for box in boxes]
    return Layout(positions, routes, layout.size), turned


def _shifted(
    layout: Layout, boxes: list[Box], centre: Point, frame: Point, padding: float
) -> tuple[Layout, list[Box]]:
    """The inside of a box where the box is placed."""
    x, y = centre[0] - layout.size[0] / 2, centre[1] - frame[1] / 2 + padding
    positions = {n: (u + x, v + y) for n, (u, v) in layout.positions.items()}
    routes = {e: [(u + x, v + y) for u, v in route] for e, route in layout.routes.items()}
    moved = [box._replace(left=box.left + x, top=box.top + y) for box in boxes]
    return Layout(positions, routes, layout.size), moved


def _box(part: _Part, centre: Point, frame: Point) -> Box:
    return Box(part.group, centre[0] - frame[0] / 2, centre[1] - frame[1] / 2, *frame)


def _joined(
    graph: nx.DiGraph,
    whole: Layout,
    unit: Mapping[Node, Node],
    insides: Mapping[Any, tuple[Layout, list[Box]]],
) -> Layout:
    """The outer layout with the contents of its boxes, in which routes continue."""
    positions = {
        n: insides[u][0].positions[n] if u in insides else whole.positions[n]
        for n, u in unit.items()
    }
    routes: dict[tuple[Node, Node], Sequence[Point]] = {}
    for a, b in graph.edges:
        upper, lower = unit[a], unit[b]
        if upper == lower:
            routes[a, b] = insides[upper][0].routes[a, b]
            continue
        start = insides[upper][0].routes[a, _End(b)] if upper in insides else []
        end = insides[lower][0].routes[_End(a), b] if lower in insides else []
        between = [*whole.routes[upper, lower]]
        if start:  # through a place of its own on the border of the box
            between[:2] = [(start[-1][0], y) for _, y in between[:2]]
        if end:
            between[-2:] = [(end[0][0], y) for _, y in between[-2:]]
        routes[a, b] = [*start, *between, *end]
    return Layout(positions, routes, whole.size)
