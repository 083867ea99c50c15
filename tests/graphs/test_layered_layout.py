"""Layouts in layers: nothing overlaps, edges lead downwards, crossings are as few as can be."""

import itertools

import networkx as nx
import numpy as np
import pytest

from pgnn.errors import ModelError
from pgnn.graphs import layered_layout, nested_layout
from pgnn.graphs.layered_layout import _Drawing

GAP = (5.0, 8.0)


def random_graph(seed: int, size: int = 14) -> nx.DiGraph:
    rng = np.random.default_rng(seed)
    graph = nx.DiGraph()
    graph.add_nodes_from(range(size))
    graph.add_edges_from(
        (a, b) for a, b in itertools.combinations(range(size), 2) if rng.random() < 0.18
    )
    return graph


def random_sizes(graph: nx.Graph, seed: int) -> dict[object, tuple[float, float]]:
    rng = np.random.default_rng(seed)
    return {n: tuple(rng.uniform(5, 40, 2)) for n in graph}


def rectangles(layout, sizes):
    for n, (x, y) in layout.positions.items():
        w, h = sizes[n]
        yield n, (x - w / 2, y - h / 2, x + w / 2, y + h / 2)


def apart(a, b) -> bool:
    return a[2] <= b[0] + 1e-6 or b[2] <= a[0] + 1e-6 or a[3] <= b[1] + 1e-6 or b[3] <= a[1] + 1e-6


def passes_behind(route, box) -> bool:
    """Whether a route of vertical lines and S-curves enters the inside of a rectangle."""
    left, top, right, bottom = box
    for (x0, y0), (x1, y1) in itertools.pairwise(route):
        t = np.linspace(0, 1, 60)
        x = x0 + (x1 - x0) * (3 * t**2 - 2 * t**3)
        middle = (y0 + y1) / 2
        y = (1 - t) ** 3 * y0 + 3 * t * (1 - t) * middle + t**3 * y1
        inside = (x > left + 1e-6) & (x < right - 1e-6) & (y > top + 1e-6) & (y < bottom - 1e-6)
        if inside.any():
            return True
    return False


@pytest.mark.parametrize("seed", range(6))
def test_nodes_do_not_overlap_and_edges_lead_downwards_around_them(seed: int) -> None:
    graph = random_graph(seed)
    sizes = random_sizes(graph, seed)
    layout = layered_layout(graph, sizes, gap=GAP)
    boxes = dict(rectangles(layout, sizes))
    assert all(apart(a, b) for a, b in itertools.combinations(boxes.values(), 2))
    assert set(layout.routes) == set(graph.edges)
    for (a, b), route in layout.routes.items():
        assert all(v1 >= v0 for (_, v0), (_, v1) in itertools.pairwise(route))
        assert route[0] == pytest.approx(((boxes[a][0] + boxes[a][2]) / 2, boxes[a][3]))
        assert route[-1] == pytest.approx(((boxes[b][0] + boxes[b][2]) / 2, boxes[b][1]))
        assert not [n for n in graph if passes_behind(route, boxes[n])]
    width, height = layout.size
    assert min(b[0] for b in boxes.values()) >= -1e-6
    assert max(b[2] for b in boxes.values()) <= width + 1e-6
    assert max(b[3] for b in boxes.values()) == pytest.approx(height)


def fewest_crossings(drawing: _Drawing) -> int:
    """By trying every order of every layer."""
    orders = itertools.product(*(itertools.permutations(layer) for layer in drawing.layers))
    fewest = 10**9
    for layers in orders:
        drawing.layers = [list(layer) for layer in layers]
        fewest = min(fewest, slow_crossings(drawing))
    return fewest


def slow_crossings(drawing: _Drawing) -> int:
    place = {k: i for layer in drawing.layers for i, k in enumerate(layer)}
    rank = {k: r for r, layer in enumerate(drawing.layers) for k in layer}
    edges = [(u, v) for u in rank for v in drawing.below[u]]
    return sum(
        (place[a] - place[c]) * (place[b] - place[d]) < 0
        for (a, b), (c, d) in itertools.combinations(edges, 2)
        if rank[a] == rank[c]
    )


@pytest.mark.parametrize("seed", range(8))
def test_crossings_are_nearly_as_few_as_enumeration_finds(seed: int) -> None:
    rng = np.random.default_rng(seed)
    ranks = [0] * 3 + [1] * 5 + [2] * 3
    edges = [
        (a, b)
        for a, b in itertools.combinations(range(len(ranks)), 2)
        if ranks[b] == ranks[a] + 1 and rng.random() < 0.5
    ]
    drawing = _Drawing(np.ones((len(ranks), 2)), edges, ranks)
    assert drawing.crossings() == slow_crossings(drawing)
    drawing.reduce_crossings()
    reached = drawing.crossings()
    assert reached == slow_crossings(drawing)
    assert reached <= fewest_crossings(drawing) + 1


def test_a_tree_has_no_crossings() -> None:
    tree = nx.balanced_tree(2, 3, create_using=nx.DiGraph)
    layout = layered_layout(nx.relabel_nodes(tree, lambda k: (k * 7) % 15))
    ends = [(r[0], r[-1]) for r in layout.routes.values()]
    for (a, b), (c, d) in itertools.combinations(ends, 2):
        if a[1] == c[1]:
            assert (a[0] - c[0]) * (b[0] - d[0]) >= -1e-9


def test_wide_layers_are_divided_and_undirected_graphs_drawn() -> None:
    star = nx.star_graph(60)
    assert layered_layout(star).size[0] < 0.5 * (60 * 1.5)
    assert set(layered_layout(star).positions) == set(star)


def test_degenerate_graphs() -> None:
    assert layered_layout(nx.DiGraph()).size == (0.0, 0.0)
    assert layered_layout(nx.empty_graph(1, nx.DiGraph)).positions == {0: (0.5, 0.5)}
    with pytest.raises(ModelError, match="cycle"):
        layered_layout(nx.DiGraph([(0, 1), (1, 0)]))


def test_boxes_hold_their_group_and_nothing_else() -> None:
    graph = nx.DiGraph(
        [("mu", "z"), ("mu", "y"), ("z", "w"), ("w", "y"), ("z", "s"), ("s", "y"), ("c", "y")]
    )
    groups = {"z": ["r"], "w": ["r", "q"], "y": ["r", "q"], "c": ["q"]}
    sizes = dict.fromkeys(graph, (20.0, 10.0))
    layout, boxes = nested_layout(graph, groups, sizes, gap=GAP, padding=4.0)
    assert set(layout.positions) == set(graph)
    assert set(layout.routes) == set(graph.edges)
    nodes = dict(rectangles(layout, sizes))
    assert all(apart(a, b) for a, b in itertools.combinations(nodes.values(), 2))
    held: dict[str, set[str]] = {"r": set(), "q": set()}
    for box in boxes:
        frame = (box.left, box.top, box.left + box.width, box.top + box.height)
        for name, node in nodes.items():
            if not apart(frame, node):
                assert box.group in groups.get(name, ())
                held[box.group].add(name)
    assert held == {"r": {"z", "w", "y"}, "q": {"w", "y", "c"}}
    # z -> s -> y leaves the rows and comes back
    assert [b.group for b in boxes].count("r") == 2
