"""Layered drawings of graphs: layers, few crossings, short and straight edges."""

from __future__ import annotations

from bisect import bisect_right, insort
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import networkx as nx
import numpy as np

from pgnn.graphs.checks import HasGraph, Node, check_directed_acyclic, graph_of

Point = tuple[float, float]
Layers = list[list[int]]

_SHAPE = 1.7
"""Width of a drawing for its height, at which layers are divided."""
_SWEEPS, _STRAIGHTENINGS = 24, 40
_EXCHANGES, _SMALL = 8, 500
"""Rounds of exchanges; nodes, and inner parts of edges, up to which several orders are tried."""
_BUNDLED = 0.3
"""Distance of edges that pass a layer side by side, as a share of the gap."""
_RIGIDITY = 8.0
"""Weight of an inner part of a long edge, which is better straight than short."""


@dataclass(frozen=True)
class Layout:
    """Where nodes are drawn, and how edges run between them; x to the right, y downwards.

    Attributes:
        positions: Centre of each node.
        routes: For each edge the points that it passes, from the lower border of its upper node to
            the upper border of its lower one. Between the points of one layer it is vertical.
        size: Width and height of the whole.
    """

    positions: Mapping[Node, Point]
    routes: Mapping[tuple[Node, Node], Sequence[Point]]
    size: Point


def layered_layout(
    graph: nx.Graph | HasGraph,
    sizes: Mapping[Node, Point] | None = None,
    *,
    gap: Point = (0.5, 0.8),
) -> Layout:
    """Place the nodes of a graph in layers, such that edges lead downwards and seldom cross.

    Nodes do not overlap, and no edge passes behind a node. An undirected graph is directed from
    the nodes that a breadth-first search meets first.

    Args:
        graph: Directed acyclic or undirected graph, or a model that has one.
        sizes: Width and height of each node; one by one if not given.
        gap: Horizontal and vertical distance between nodes.

    Raises:
        ModelError: If the graph is directed and has a cycle.

    Cost:
        A fixed number of sweeps, each linear in nodes, edges and the layers that edges cross, up
        to a logarithm.

    References:
        Sugiyama, Tagawa and Toda (1981); coordinates by alternating isotonic regressions.

    Example:
        >>> layout = layered_layout(nx.DiGraph([("rain", "wet"), ("sprinkler", "wet")]))
        >>> {name: layout.positions[name] for name in ("rain", "sprinkler", "wet")}
        {'rain': (0.5, 0.5), 'sprinkler': (2.0, 0.5), 'wet': (1.25, 2.3)}
    """
    graph = graph_of(graph)
    nodes = list(graph)
    if not nodes:
        return Layout({}, {}, (0.0, 0.0))
    boxes = np.array([(1.0, 1.0) if sizes is None else sizes[n] for n in nodes], dtype=float)
    number = {n: k for k, n in enumerate(nodes)}
    directed = graph if graph.is_directed() else _directed(graph)
    check_directed_acyclic(directed)
    edges = [(number[a], number[b]) for a, b in directed.edges]
    ranks = _narrowed(_ranks(len(nodes), edges), boxes + np.array(gap), edges)
    drawing = _Drawing(boxes, edges, ranks)
    drawing.reduce_crossings()
    return drawing.layout(nodes, gap)


def _directed(graph: nx.Graph) -> nx.DiGraph:
    """The graph with its edges directed in the order of breadth-first searches."""
    rank: dict[Node, int] = {}
    for node in sorted(graph, key=graph.degree):
        if node not in rank:
            for visited in (node, *(b for _, b in nx.bfs_edges(graph, node))):
                rank[visited] = len(rank)
    directed = nx.DiGraph()
    directed.add_nodes_from(graph)
    directed.add_edges_from(sorted(e, key=rank.__getitem__) for e in graph.edges if e[0] != e[1])
    return directed


def _ranks(size: int, edges: Sequence[tuple[int, int]]) -> list[int]:
    """The layer of each node: below all of its parents, and near to where most of its edges go."""
    graph = nx.DiGraph(edges)
    graph.add_nodes_from(range(size))
    order = list(nx.topological_sort(graph))
    ranks = [0] * size
    for node in order:
        ranks[node] = max((ranks[p] + 1 for p in graph.predecessors(node)), default=0)
    for _ in range(4):
        for node in reversed(order):
            parents, children = graph.in_degree(node), graph.out_degree(node)
            if children and children >= parents:
                ranks[node] = min(ranks[c] for c in graph.successors(node)) - 1
            elif parents:
                ranks[node] = max(ranks[p] for p in graph.predecessors(node)) + 1
    return ranks


def _narrowed(
    ranks: Sequence[int], boxes: np.ndarray, edges: Sequence[tuple[int, int]]
) -> list[int]:
    """Divide layers that are much wider than the drawing is to be."""
    surplus = np.zeros(len(ranks))
    for a, b in edges:
        surplus[a] += 1.0
        surplus[b] -= 1.0
    limit = max(_SHAPE * float(np.sqrt(_SHAPE * boxes.prod(axis=1).sum())), boxes[:, 0].max())
    narrowed, first = [0] * len(ranks), 0
    for rank in sorted(set(ranks)):
        members = [k for k, r in enumerate(ranks) if r == rank]
        parts = int(np.ceil(boxes[members, 0].sum() / limit))
        # a node with more parents than children is placed nearer to its parents
        for place, k in enumerate(sorted(members, key=surplus.__getitem__)):
            narrowed[k] = first + place * parts // len(members)
        first += parts
    return narrowed


class _Drawing:
    """Nodes and the inner parts of long edges, in layers.

    Args:
        boxes: ``(n, 2)`` sizes of the nodes.
        edges: Pairs of nodes, downwards.
        ranks: Layer of each node.
    """

    def __init__(
        self, boxes: np.ndarray, edges: Sequence[tuple[int, int]], ranks: Sequence[int]
    ) -> None:
        self.ranks = list(ranks)
        self.boxes = boxes
        self.chains: dict[tuple[int, int], list[int]] = {}
        for a, b in edges:
            inner = range(len(self.ranks), len(self.ranks) + self.ranks[b] - self.ranks[a] - 1)
            self.ranks += range(self.ranks[a] + 1, self.ranks[b])
            self.chains[a, b] = [a, *inner, b]
        self.above: list[list[int]] = [[] for _ in self.ranks]
        self.below: list[list[int]] = [[] for _ in self.ranks]
        for chain in self.chains.values():
            for u, v in pairwise(chain):
                self.below[u].append(v)
                self.above[v].append(u)
        self.layers: Layers = [[] for _ in range(max(self.ranks) + 1)]
        for k in self._depth_first():
            self.layers[self.ranks[k]].append(k)

    def _depth_first(self) -> list[int]:
        """All nodes, those of a component next to each other."""
        visited: dict[int, None] = {}
        for root in range(len(self.ranks)):
            stack = [root]
            while stack:
                k = stack.pop()
                if k not in visited:
                    visited[k] = None
                    stack += [*self.above[k], *self.below[k]]
        return list(visited)

    def reduce_crossings(self) -> None:
        """Reorder the layers by the mean place of their neighbours, from a few first orders."""
        rng = np.random.default_rng(0)
        starts = [self.layers, [layer[::-1] for layer in self.layers]]
        if len(self.ranks) <= _SMALL:
            starts += [[rng.permutation(x).tolist() for x in self.layers] for _ in range(6)]
        best: tuple[float, Layers] = (np.inf, self.layers)
        for start in starts:
            self.layers = [list(layer) for layer in start]
            best = min(best, self._swept(), key=lambda candidate: candidate[0])
            if not best[0]:
                break
        self.layers = best[1]

    def _swept(self) -> tuple[int, Layers]:
        """Fewest crossings, and their order, of sweeps downwards and upwards."""
        best, fewest = [list(layer) for layer in self.layers], self.crossings()
        for sweep in range(_SWEEPS):
            downwards = sweep % 2 == 0
            places = self._places()
            for layer in self.layers if downwards else reversed(self.layers):
                _sort(layer, self.above if downwards else self.below, places)
            self._exchange()
            number = self.crossings()
            if number < fewest:
                best, fewest = [list(layer) for layer in self.layers], number
            if not fewest:
                break
        return fewest, best

    def crossings(self) -> int:
        """Number of pairs of edges that cross."""
        total = 0
        places = self._places()
        for layer in self.layers[:-1]:
            ends: list[int] = []
            for u in layer:
                following = [places[v] for v in self.below[u]]
                total += sum(len(ends) - bisect_right(ends, place) for place in following)
                for place in following:
                    insort(ends, place)
        return total

    def _places(self) -> dict[int, int]:
        return {k: place for layer in self.layers for place, k in enumerate(layer)}

    def _exchange(self) -> None:
        """Swap adjacent nodes while that reduces the number of crossings."""
        places = self._places()
        for _ in range(_EXCHANGES):
            exchanged = False
            for layer in self.layers:
                for i in range(len(layer) - 1):
                    if self._saved(layer[i], layer[i + 1], places) > 0:
                        layer[i], layer[i + 1] = layer[i + 1], layer[i]
                        places[layer[i]], places[layer[i + 1]] = i, i + 1
                        exchanged = True
            if not exchanged:
                break

    def _saved(self, u: int, v: int, places: Mapping[int, int]) -> int:
        """How many crossings fewer there are if neighbours change places."""
        saved = 0
        for side in (self.above, self.below):
            right = [places[k] for k in side[v]]
            for a in (places[k] for k in side[u]):
                saved += sum((a > b) - (a < b) for b in right)
        return saved

    def layout(self, nodes: Sequence[Node], gap: Point) -> Layout:
        """Return coordinates of the nodes and of the edges."""
        size = len(nodes)
        widths = np.zeros(len(self.ranks))
        widths[:size] = self.boxes[:, 0]
        x = self._straightened(widths, gap[0])
        x -= (x - widths / 2).min()
        heights = [max((self.boxes[k, 1] for k in layer if k < size), default=0.0)
                   for layer in self.layers]  # fmt: skip
        tops = np.concatenate([[0.0], np.cumsum(np.array(heights) + gap[1])])
        middle = [tops[r] + heights[r] / 2 for r in self.ranks]
        positions = {n: (float(x[k]), float(middle[k])) for k, n in enumerate(nodes)}
        routes = {}
        for (a, b), chain in self.chains.items():
            points = [(x[a], middle[a] + self.boxes[a, 1] / 2)]
            for k in chain:
                top, bottom = tops[self.ranks[k]], tops[self.ranks[k]] + heights[self.ranks[k]]
                points += [(x[k], top)] * (k != a) + [(x[k], bottom)] * (k != b)
            points.append((x[b], middle[b] - self.boxes[b, 1] / 2))
            routes[nodes[a], nodes[b]] = [(float(u), float(v)) for u, v in points]
        return Layout(positions, routes, (float((x + widths / 2).max()), float(tops[-1] - gap[1])))

    def _straightened(self, widths: np.ndarray, gap: float) -> np.ndarray:
        r"""Minimise the weighted sum of :math:`(x_u - x_v)^2` over edges, layer by layer."""
        from scipy.optimize import isotonic_regression

        size = len(self.boxes)
        x = np.zeros(len(self.ranks))
        offsets = []
        for layer in self.layers:
            w = widths[layer]
            inner = np.array([k >= size for k in layer])
            between = np.where(inner[1:] & inner[:-1], _BUNDLED * gap, gap)
            offsets.append(np.concatenate([[0.0], np.cumsum((w[1:] + w[:-1]) / 2 + between)]))
            x[layer] = offsets[-1] - offsets[-1][-1] / 2
        neighbours = [[*a, *b] for a, b in zip(self.above, self.below, strict=True)]
        weights = [
            np.array([_RIGIDITY if k >= size and j >= size else 1.0 for j in neighbours[k]])
            for k in range(len(x))
        ]
        for sweep in range(_STRAIGHTENINGS):
            order = range(len(self.layers))
            for r in order if sweep % 2 == 0 else reversed(order):
                layer = self.layers[r]
                ideal = [
                    weights[k] @ x[neighbours[k]] / weights[k].sum() if neighbours[k] else x[k]
                    for k in layer
                ]
                stiffness = [max(weights[k].sum(), 0.1) if len(weights[k]) else 0.1 for k in layer]
                fitted = isotonic_regression(np.array(ideal) - offsets[r], weights=stiffness)
                x[layer] = fitted.x + offsets[r]
        return x


def _sort(layer: list[int], neighbours: Sequence[Sequence[int]], places: dict[int, int]) -> None:
    """Sort a layer by the mean place of its nodes' neighbours."""
    means = {
        k: sum(places[j] for j in neighbours[k]) / len(neighbours[k]) if neighbours[k] else place
        for place, k in enumerate(layer)
    }
    layer.sort(key=means.__getitem__)
    places.update((k, place) for place, k in enumerate(layer))
