"""Plots of the marginals of a posterior, without the graph."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from typing import TYPE_CHECKING, Any

from pgnn.errors import EvidenceError, closest
from pgnn.graphs.layered_layout import Layout
from pgnn.plot.axes import check_drawn
from pgnn.plot.canvas import Canvas
from pgnn.plot.captions import captioned, captions_of, write_captions
from pgnn.plot.cards import Card, draw_cards
from pgnn.plot.marginal_cards import findings_of, marginal_cards

if TYPE_CHECKING:
    from pgnn.inference.posterior import Posterior

_GAP = 8.0
_MOST = 400


def marginals(
    posterior: Posterior,
    *names: Hashable,
    before: Posterior | None = None,
    row: int = 0,
    max_states: int = 8,
    ax: Any = None,
) -> Any:
    """Draw the marginals of a posterior as bars, in one box per variable.

    Observed variables are marked; below the boxes it says what ticks mean, and if the
    probabilities are estimates.

    Args:
        posterior: The result of a query.
        names: Names of variables; by default all, at most 400.
        before: Another posterior, shown as ticks on the bars.
        row: Row of a batch.
        max_states: Largest number of lines of a box; the last one sums the least probable states.
        ax: Axes to draw on; a new figure if not given.

    Returns:
        The axes.

    Raises:
        EvidenceError: If a name is not a target, or the row does not exist.
        Unsupported: If it is not the result of a query.
    """
    for answer in (posterior, *([] if before is None else [before])):
        check_drawn("marginals", answer, hasattr(answer, "log_evidence"),
                    "the answer of a query, such as model.query()")  # fmt: skip
    for name in names:
        if name not in posterior:
            raise EvidenceError(
                f"the posterior has no target {name!r}{closest(name, [*posterior])}"
            )
    chosen = [*names] or [*posterior][:_MOST]
    cards = marginal_cards(
        posterior, chosen, before=before, findings=findings_of(posterior, row), row=row,
        max_states=max_states,
    )  # fmt: skip
    layout = _in_columns(cards)
    captions = captions_of(cards, posterior, row, "before")
    canvas = Canvas(captioned(layout.size, captions), ax)
    draw_cards(canvas, cards, layout)
    write_captions(canvas, captions, layout.size[1])
    return canvas.ax


def _in_columns(cards: dict[Hashable, Card]) -> Layout:
    """Stack boxes in columns of about the same height."""
    sizes = {name: card.size for name, card in cards.items()}
    area = sum((w + _GAP) * (h + _GAP) for w, h in sizes.values())
    limit = max([math.sqrt(area) / 1.2, *(h for _, h in sizes.values())])
    columns: list[list[Hashable]] = [[]]
    height = 0.0
    for name, (_, h) in sizes.items():
        if columns[-1] and height + h > limit:
            columns.append([])
            height = 0.0
        columns[-1].append(name)
        height += h + _GAP
    return _placed(columns, sizes)


def _placed(
    columns: Sequence[Sequence[Hashable]], sizes: dict[Hashable, tuple[float, float]]
) -> Layout:
    positions: dict[Hashable, tuple[float, float]] = {}
    left = lowest = 0.0
    for column in columns:
        top, width = 0.0, max((sizes[n][0] for n in column), default=0.0)
        for name in column:
            w, h = sizes[name]
            positions[name] = (left + w / 2, top + h / 2)
            lowest = max(lowest, top + h)
            top += h + _GAP
        left += width + _GAP
    return Layout(positions, {}, (left - _GAP, lowest))
