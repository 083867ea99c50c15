"""Plots of the sites and plates of programs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable
from typing import Any, cast

from pgnn.errors import Unsupported
from pgnn.graphs.nested_layout import nested_layout
from pgnn.plot.canvas import Canvas, text_width
from pgnn.plot.cards import BODY, Bar, Card, Mark, draw_cards
from pgnn.plot.network import GAP
from pgnn.programs.program import Program

_PADDING, _MARGIN = 12.0, 3.0


def structure(program: Program, *, ax: Any = None) -> Any:
    """Draw the sample sites of a program, their dependencies, and the plates around them.

    Args:
        program: The program.
        ax: Axes to draw on; a new figure if not given.

    Returns:
        The axes.

    Raises:
        Unsupported: If it is not a program.

    References:
        Buntine (1994), Operations for learning with graphical models (plates).
    """
    if not isinstance(program, Program):
        raise Unsupported(
            f"plot.structure draws a Program, got {type(program).__name__}", "see plot.network"
        )
    sites = program.sites
    cards: dict[Hashable, Card] = {
        name: Card(
            name,
            (Bar(_values(program, name)),),
            Mark.OBSERVED if site.observed else Mark.NONE,
        )
        for name, site in sites.items()
    }
    members = Counter(plate for site in sites.values() for plate in site.plates)
    plates: dict[Hashable, list[Hashable]] = {
        name: [(p, site.plates[p]) for p in sorted(site.plates, key=lambda p: -members[p])]
        for name, site in sites.items()
    }
    sizes = {site: card.size for site, card in cards.items()}
    groups = {plate for nested in plates.values() for plate in nested}
    layout, boxes = nested_layout(
        program.graph, plates, sizes, gap=GAP, padding=_PADDING,
        widths={g: text_width(_label(g), BODY) + 2 * _MARGIN for g in groups},
    )  # fmt: skip
    canvas = Canvas(layout.size, ax)
    edge = canvas.palette.line
    for box in boxes:
        canvas.rectangles([box[1:]], facecolors="none", edgecolors=edge, lw=canvas.scale, zorder=0)
        x, y = box.left + box.width - _MARGIN, box.top + box.height - _MARGIN
        canvas.write(x, y, _label(box.group), BODY, ha="right", style="italic")
    canvas.curves(layout.routes.values(), arrows=True)
    draw_cards(canvas, cards, layout)
    return canvas.ax


def _label(plate: Hashable) -> str:
    name, size = cast("tuple[str, int]", plate)
    return f"{name}: {size}"


def _values(program: Program, name: str) -> str:
    variable = program.sites[name].variable
    if variable is None:
        return "data"
    return f"{variable.num_states} states" if variable.is_discrete else "real"
