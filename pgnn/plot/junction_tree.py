"""Plots of junction trees."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

from pgnn.graphs.checks import HasGraph
from pgnn.graphs.junction_tree import junction_tree as cliques_of
from pgnn.graphs.layered_layout import layered_layout
from pgnn.plot.canvas import Canvas
from pgnn.plot.cards import Bar, Card, draw_cards

_GAP = (14.0, 14.0)
_LISTED = 12
"""Largest number of variables of a clique that are listed."""


def junction_tree(model: HasGraph, *, ax: Any = None) -> Any:
    """Draw a junction tree of a model, with its cliques, and between them grey separators.

    Args:
        model: A model, or a graph, see :func:`pgnn.graphs.junction_tree`.
        ax: Axes to draw on; a new figure if not given.

    Returns:
        The axes.

    Raises:
        ModelError: If the model has no graph.
    """
    tree = cliques_of(model)
    drawn = tree.copy()
    cards: dict[Hashable, Card] = {clique: _card(clique, "clique") for clique in tree}
    for a, b, separator in tree.edges(data="separator"):
        between = (a, b)
        drawn.remove_edge(a, b)
        drawn.add_edges_from([(a, between), (between, b)])
        cards[between] = _card(separator, "separator")
    sizes = {node: card.size for node, card in cards.items()}
    layout = layered_layout(drawn, sizes, gap=_GAP)
    canvas = Canvas(layout.size, ax)
    canvas.curves(layout.routes.values(), arrows=False)
    draw_cards(canvas, cards, layout)
    return canvas.ax


def _card(members: frozenset[Hashable], noun: str) -> Card:
    names = sorted(map(str, members))
    bars = [Bar(name) for name in names[:_LISTED]]
    if len(names) > _LISTED:
        bars.append(Bar(f"... and {len(names) - _LISTED} more"))
    return Card(f"{noun} of {len(names)}", bars, quiet=noun == "separator")
