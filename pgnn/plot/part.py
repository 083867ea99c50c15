"""Parts of graphs, with marks where edges lead out of the picture."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pgnn.errors import ModelError, counted
from pgnn.graphs.layered_layout import Layout
from pgnn.graphs.relatives import neighbourhood
from pgnn.limits import whole_number
from pgnn.plot.canvas import Canvas
from pgnn.plot.cards import Card

_STUB, _INSET, _TEXT = 9.0, 18.0, 6.5
_MEANING = "dotted: edges that lead out of the picture, with their number"


@dataclass(frozen=True)
class Part:
    """A graph, or the part of it around some nodes.

    Attributes:
        graph: The part.
        above: Number of parents of nodes that are not in it.
        below: Number of children, or of neighbours in an undirected graph, that are not in it.
    """

    graph: Any
    above: Mapping[Hashable, int] = field(default_factory=dict)
    below: Mapping[Hashable, int] = field(default_factory=dict)

    @classmethod
    def of(cls, graph: Any, around: Hashable | Iterable[Hashable] | None, radius: int) -> Part:
        """Return the part within some edges of the given nodes; the whole graph if none is given.

        Raises:
            ModelError: If a node is unknown, or the radius is negative.
        """
        radius = whole_number("radius", radius, 0, ModelError)
        if around is None:
            return cls(graph)
        members = neighbourhood(graph, around, radius)
        part = graph.copy()  # a view of some nodes would have them in the order of a set
        part.remove_nodes_from([node for node in graph if node not in members])
        above, below = {}, {}
        for node in part:
            outwards = graph.successors(node) if graph.is_directed() else graph.neighbors(node)
            below[node] = sum(other not in members for other in outwards)
            if graph.is_directed():
                above[node] = sum(other not in members for other in graph.predecessors(node))
        return cls(part, _positive(above), _positive(below))

    @property
    def is_cut(self) -> bool:
        """Whether any edge leads out of it."""
        return bool(self.above or self.below)

    def captions(self, findings: Iterable[Hashable]) -> list[str]:
        """Return what dotted lines mean, and how many observed variables are not in the picture."""
        hidden = sum(name not in self.graph for name in findings)
        observed = [f"{counted(hidden, 'observed variable')} not in the picture"] if hidden else []
        return [*([_MEANING] if self.is_cut else []), *observed]

    def padded(self, layout: Layout) -> Layout:
        """Return a layout with room for what leads out below it."""
        if not self.is_cut:
            return layout
        width, height = layout.size
        return Layout(layout.positions, layout.routes, (width, height + _STUB))

    def draw_ways_out(self, canvas: Canvas, cards: Mapping[Hashable, Card], layout: Layout) -> None:
        """Draw short dotted lines at the nodes whose edges lead out, with the number of edges."""
        stubs: list[list[tuple[float, float]]] = []
        for numbers, sign in ((self.above, -1.0), (self.below, 1.0)):
            for node, number in numbers.items():
                (x, y), (width, height) = layout.positions[node], cards[node].size
                x += max(4.0, width / 2 - _INSET)
                y += sign * height / 2
                stubs.append([(x, y), (x, y + sign * _STUB)])
                canvas.write(x + 2.0, y + (-2.5 if sign < 0 else 7.5), f"+{number}", _TEXT)
        if stubs:
            canvas.curves(
                stubs, arrows=False, linestyles=[(0.0, (1.2, 0.8))], linewidths=1.4 * canvas.scale
            )


def _positive(numbers: Mapping[Hashable, int]) -> dict[Hashable, int]:
    return {node: number for node, number in numbers.items() if number}
