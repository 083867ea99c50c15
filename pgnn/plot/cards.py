"""Nodes as cards with a name and a bar for the probability of each state."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

from pgnn.graphs.layered_layout import Layout
from pgnn.inference.answer_text import is_one
from pgnn.plot.canvas import Canvas, Palette, shortened, text_width
from pgnn.plot.sketch import Sketch

TITLE, BODY = 8.0, 7.0
_PAD, _LINE, _HEAD, _GAP = 5.0, 10.0, 12.0, 2.0
_BAR, _NUMBER = 44.0, 29.0
_SMALLEST = 1e-4
"""Smallest whisker that is drawn; rounding errors are smaller."""
_SLACK = 1.03
"""Text on a screen may be wider than its outline."""
_NAME, _LABEL = 130.0, 80.0
"""Largest width of names and labels in points."""


class Mark(Enum):
    """Highlight of a node; the value is written on it."""

    NONE = ""
    OBSERVED = "observed"
    EVIDENCE = "soft evidence"
    CHANGED = "changed most"
    TARGET = "target"

    def colour(self, palette: Palette) -> str:
        """Return the colour of the frame."""
        colours = {
            Mark.NONE: palette.line,
            Mark.CHANGED: palette.changed,
            Mark.TARGET: palette.trail,
        }
        return colours.get(self, palette.observed)


@dataclass(frozen=True)
class Bar:
    """A state with its probability, each of whose numbers may be None.

    Attributes:
        label: The state.
        probability: Its probability.
        before: Its previous probability, drawn as a tick.
        observed: Whether it was observed.
        error: The standard error of the probability; two of them are a whisker.
    """

    label: str
    probability: float | None = None
    before: float | None = None
    observed: bool = False
    error: float | None = None

    @property
    def whisker(self) -> tuple[float, float] | None:
        """Two standard errors to either side of the probability, cut at zero and one."""
        wide = 2.0 * (self.error or 0.0)
        if self.probability is None or not wide > _SMALLEST:
            return None
        return max(self.probability - wide, 0.0), min(self.probability + wide, 1.0)


@dataclass(frozen=True)
class Card:
    """The contents of a node.

    Attributes:
        name: Name of the variable.
        bars: A line for each state.
        mark: Highlight of the node.
        quiet: Whether it is grey, with a plain name.
        sketch: A small drawing below the lines.
    """

    name: str
    bars: Sequence[Bar] = ()
    mark: Mark = Mark.NONE
    quiet: bool = False
    sketch: Sketch | None = None

    @property
    def title(self) -> str:
        """The name, truncated if it is long."""
        return shortened(self.name, _NAME, TITLE, bold=True)

    @property
    def size(self) -> tuple[float, float]:
        """Width and height in points."""
        head = text_width(self.title, TITLE, bold=True)
        if self.mark is not Mark.NONE:
            head += 8.0 + text_width(self.mark.value, BODY - 1)
        plain = [bar for bar in self.bars if bar.probability is None]
        body = max([_width(bar, _NAME) for bar in plain], default=0.0)
        if len(plain) < len(self.bars):
            body = max(body, self.label_width + 4.0 + _BAR + _NUMBER)
        height = _HEAD + _LINE * len(self.bars) + _PAD
        if self.sketch is not None:
            body = max(body, self.sketch.size[0])
            height += self.sketch.size[1] + _GAP
        return max(head, body) + 2 * _PAD, height

    @property
    def label_width(self) -> float:
        """Width of the column of labels in points."""
        lines = [bar for bar in self.bars if bar.probability is not None]
        return max([_width(bar, _LABEL) for bar in lines], default=0.0)


def _width(bar: Bar, room: float) -> float:
    """Return the width of a label in points."""
    label = shortened(bar.label, room, BODY, bold=bar.observed)
    return _SLACK * text_width(label, BODY, bold=bar.observed)


def draw_cards(canvas: Canvas, cards: Mapping[Hashable, Card], layout: Layout) -> None:
    """Draw the nodes of a layout for the sizes of the cards."""
    palette = canvas.palette
    frames: dict[tuple[Mark, bool], list[tuple[float, float, float, float]]] = {}
    tracks, bars, ticks, whiskers = [], [], [], []
    for node, card in cards.items():
        width, height = card.size
        left = layout.positions[node][0] - width / 2
        top = layout.positions[node][1] - height / 2
        frames.setdefault((card.mark, card.quiet), []).append((left, top, width, height))
        _write_title(canvas, card, left, top, width)
        if card.sketch is not None:
            card.sketch.draw(canvas, left + _PAD, top + height - _PAD - card.sketch.size[1])
        bar_left = left + width - _PAD - _NUMBER - _BAR
        for k, bar in enumerate(card.bars):
            y = top + _HEAD + _LINE * k
            room = _NAME if bar.probability is None else _LABEL
            weight = "bold" if bar.observed else "normal"
            label = shortened(bar.label, room, BODY, bold=bar.observed)
            canvas.write(left + _PAD, y + 7.5, label, BODY, fontweight=weight, zorder=5)
            if bar.probability is None:
                continue
            tracks.append((bar_left, y + 1.5, _BAR, 7.0))
            bars.append((bar_left, y + 1.5, _BAR * bar.probability, 7.0))
            number = percent(bar.probability)
            canvas.write(left + width - _PAD, y + 7.5, number, BODY, ha="right", zorder=5)
            if bar.before is not None:
                ticks.append((bar_left + _BAR * bar.before - 0.7, y + 0.5, 1.4, 9.0))
            if bar.whisker is not None:
                low, high = (bar_left + _BAR * end for end in bar.whisker)
                whiskers += _whisker(low, high, y + 5.0)
    for (mark, quiet), boxes in frames.items():
        colour, thick = mark.colour(palette), 0.8 if mark is Mark.NONE else 2.2
        canvas.rectangles(
            boxes,
            facecolors=palette.track if quiet else palette.paper,
            edgecolors=colour,
            lw=thick * canvas.scale,
            zorder=3,
        )
    for mark in (m for m in Mark if m is not Mark.NONE):
        heads = [(x, y, w, _HEAD) for x, y, w, _ in frames.get((mark, False), ())]
        canvas.rectangles(heads, facecolors=mark.colour(palette), alpha=0.3, lw=0, zorder=3.5)
    canvas.rectangles(tracks, facecolors=palette.track, lw=0, zorder=4)
    canvas.rectangles(bars, facecolors=palette.bar, lw=0, zorder=4.2)
    canvas.rectangles(ticks, facecolors=palette.text, lw=0, zorder=4.4)
    canvas.lines(whiskers, colors=palette.whisker, zorder=4.5)


def _whisker(start: float, end: float, y: float) -> list[list[tuple[float, float]]]:
    """Return a line with caps."""
    caps = [[(x, y - 1.8), (x, y + 1.8)] for x in (start, end)]
    return [[(start, y), (end, y)], *caps]


def percent(probability: float) -> str:
    """Return a probability in percent; 0% and 100% are exact, up to rounding of the last bits."""
    if probability == 0.0 or is_one(probability):
        return f"{100 * probability:.0f}%"
    shown = 100.0 * probability
    if shown < 0.1:
        return "<0.1%"
    return ">99.9%" if shown > 99.9 else f"{shown:.1f}%"


def _write_title(canvas: Canvas, card: Card, left: float, top: float, width: float) -> None:
    style = {"fontweight": "normal" if card.quiet else "bold", "zorder": 5}
    canvas.write(left + _PAD, top + 9.5, card.title, TITLE, **style)
    if card.mark is not Mark.NONE:
        canvas.write(
            left + width - _PAD, top + 9.5, card.mark.value, BODY - 1, ha="right",
            style="italic", zorder=5,
        )  # fmt: skip
