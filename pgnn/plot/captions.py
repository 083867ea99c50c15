"""Lines of text below a drawing that say what its signs mean."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import TYPE_CHECKING

from pgnn.inference.answer_text import diagnostics_text
from pgnn.plot.canvas import Canvas, text_width
from pgnn.plot.cards import Card
from pgnn.plot.density_curve import DensityCurve
from pgnn.plot.heat_map import HeatMap

if TYPE_CHECKING:
    from pgnn.inference.posterior import Posterior

_SIZE, _LINE, _GAP = 7.0, 10.0, 4.0
_DIAGNOSTICS = ("converged", "r_hat", "effective_sample_size")
_DOUBTFUL = "not converged"


def captions_of(
    cards: Mapping[Hashable, Card], posterior: Posterior | None, row: int, before: str
) -> list[str]:
    """Return the lines that say what the signs on cards mean, and what kind of numbers they are.

    Args:
        cards: The cards that are drawn.
        posterior: The answer that they show, if any.
        row: Row of a batch.
        before: What ticks and lines stand for.
    """
    return [
        *_tick_caption(cards, before),
        *_whisker_caption(cards),
        *_colour_caption(cards),
        *_kind_caption(posterior, row),
    ]


def captioned(size: tuple[float, float], captions: Sequence[str]) -> tuple[float, float]:
    """Return the size of a drawing and its captions in points."""
    if not captions:
        return size
    widest = max(text_width(line, _SIZE, bold=_DOUBTFUL in line) for line in captions)
    return max(size[0], widest), size[1] + _GAP + _LINE * len(captions)


def write_captions(canvas: Canvas, captions: Sequence[str], height: float) -> None:
    """Write lines below a drawing of a height; what did not converge is bold.

    Args:
        canvas: The canvas, of the :func:`captioned` size.
        captions: The lines.
        height: Height of the drawing above them in points.
    """
    for k, line in enumerate(captions):
        weight = "bold" if _DOUBTFUL in line else "normal"
        y = height + _GAP + _LINE * (k + 1) - 2.0
        canvas.write(0.0, y, line, _SIZE, style="italic", fontweight=weight)


def _tick_caption(cards: Mapping[Hashable, Card], meaning: str) -> list[str]:
    """Return what ticks and lines mean, if there are any."""
    ticks = any(bar.before is not None for card in cards.values() for bar in card.bars)
    lines = any(
        isinstance(card.sketch, DensityCurve) and card.sketch.before is not None
        for card in cards.values()
    )
    signs = ["tick"] * ticks + ["line"] * lines
    return [f"{' and '.join(signs)}: {meaning}"] if signs else []


def _whisker_caption(cards: Mapping[Hashable, Card]) -> list[str]:
    """Return what whiskers mean, if there are any."""
    drawn = any(bar.whisker is not None for card in cards.values() for bar in card.bars)
    return ["whisker: two standard errors to either side"] if drawn else []


def _colour_caption(cards: Mapping[Hashable, Card]) -> list[str]:
    """Return what colours mean, if there are heat maps."""
    drawn = any(isinstance(card.sketch, HeatMap) for card in cards.values())
    return ["colours: blue 0, yellow 1"] if drawn else []


def _kind_caption(posterior: Posterior | None, row: int) -> list[str]:
    """Return what kind of numbers a posterior has, unless they are exact."""
    if posterior is None or posterior.kind == "exact":
        return []
    known = {n: posterior.diagnostics[n] for n in _DIAGNOSTICS if n in posterior.diagnostics}
    diagnostics = diagnostics_text(known, row)
    return [", ".join(filter(None, [posterior.kind, posterior.engine, diagnostics]))]
