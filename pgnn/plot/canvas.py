"""Drawings in units of points, so that text can be measured before it is drawn."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Any

import numpy as np

from pgnn.plot.axes import axes_of, require_matplotlib
from pgnn.plot.fonts import families_of, legible, weight_of

MARGIN = 10.0
_LARGEST = 30.0
"""Largest size of a figure in inches; beyond, text becomes smaller."""
_ARROW = 4.5
_TEXT, _READABLE, _SMALLEST = 7.0, 3.0, 1.0
"""Size of most text; smallest size that is not warned of; smallest that Matplotlib draws."""

Points = Sequence[tuple[float, float]]


@lru_cache(maxsize=20_000)
def text_width(text: str, size: float, *, bold: bool = False) -> float:
    """Return the width of a text in points."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import text_to_path

    weight = weight_of(text, "bold" if bold else "normal")
    font = FontProperties(family=families_of(text), size=size, weight=weight)
    return float(text_to_path.get_text_width_height_descent(text, font, False)[0])


def shortened(text: str, width: float, size: float, *, bold: bool = False) -> str:
    """Return a legible text, truncated with an ellipsis to a width in points."""
    text = legible(text)
    if text_width(text, size, bold=bold) <= width:
        return text
    kept = len(text)
    while kept > 1 and text_width(text[:kept] + "…", size, bold=bold) > width:
        kept -= 1
    return text[:kept] + "…"


@dataclass(frozen=True)
class Palette:
    """Colours that colour-blind readers can distinguish, on light and dark backgrounds.

    Attributes:
        text: Names and numbers.
        line: Edges and frames.
        paper: Background of a node.
        bar: Bars of probabilities.
        track: Background of a bar.
        observed: Observed variables.
        changed: The variable that changed most.
        trail: A target, and the trails from findings to it.
        whisker: Standard errors, on bars and on their background.

    References:
        Okabe and Ito (2008), Color universal design.
    """

    text: str
    line: str
    paper: str
    bar: str
    track: str
    observed: str
    changed: str
    trail: str
    whisker: str


LIGHT = Palette(
    "#1a1a1a",
    "#6b7280",
    "#ffffff",
    "#0072B2",
    "#e5e7eb",
    "#E69F00",
    "#CC79A7",
    "#009E73",
    "#D55E00",
)
DARK = Palette(
    "#f3f4f6",
    "#9ca3af",
    "#1f2430",
    "#56B4E9",
    "#3b4252",
    "#E69F00",
    "#CC79A7",
    "#009E73",
    "#D55E00",
)


class Canvas:
    """Axes whose data coordinates are points, with y downwards, scaled to fit the drawing.

    Args:
        size: Width and height of the drawing in points.
        ax: Axes to draw on; by default, a new figure of that size.
    """

    def __init__(self, size: tuple[float, float], ax: Any = None) -> None:
        width, height = size[0] + 2 * MARGIN, size[1] + 2 * MARGIN
        if ax is None:
            require_matplotlib()
            import matplotlib.pyplot as plt

            shrink = min(1.0, 72.0 * _LARGEST / max(width, height))
            figure = plt.figure(figsize=(shrink * width / 72.0, shrink * height / 72.0))
            ax = figure.add_axes((0.0, 0.0, 1.0, 1.0))
        self.ax = axes_of(ax, (width, height))
        self.ax.set(xlim=(-MARGIN, size[0] + MARGIN), ylim=(size[1] + MARGIN, -MARGIN))
        self.ax.set_aspect("equal")
        self.ax.set_axis_off()
        box = self.ax.get_window_extent().size * 72.0 / self.ax.figure.dpi
        self.scale = float(min(box[0] / width, box[1] / height))
        if self.scale * _TEXT < _READABLE:
            warnings.warn(
                f"the text of this picture has {self.scale * _TEXT:.1f} points, too small to read: "
                "draw a part of it (around=), draw it on larger axes, or use pgnn.explorer.explore",
                stacklevel=3,
            )
        self.palette = DARK if _luminance(self.ax.get_facecolor()) < 0.5 else LIGHT

    def write(self, x: float, y: float, text: str, size: float, **style: Any) -> Any:
        """Write a text whose baseline starts at a point, or is aligned to it by ``ha``."""
        text = legible(text)
        settings: dict[str, Any] = {"color": self.palette.text, "va": "baseline"}
        settings |= {"parse_math": False, "family": families_of(text)} | style
        settings["fontweight"] = weight_of(text, settings.get("fontweight", "normal"))
        drawn = self.ax.text(x, y, text, fontsize=size * self.scale, **settings)
        if size * self.scale < _SMALLEST:  # Matplotlib draws no smaller letters
            drawn.set_visible(False)
        return drawn

    def rectangles(self, boxes: Iterable[tuple[float, float, float, float]], **style: Any) -> None:
        """Draw rectangles ``(left, top, width, height)``."""
        corners = [
            [(x, y), (x + w, y), (x + w, y + h), (x, y + h)] for x, y, w, h in boxes if w and h
        ]
        self.polygons(corners, **style)

    def polygons(self, shapes: Sequence[Any], **style: Any) -> None:
        """Draw polygons, ``(n, 2)`` corners each."""
        from matplotlib.collections import PolyCollection

        if shapes:
            self.ax.add_collection(PolyCollection(shapes, **style))

    def lines(self, routes: Sequence[Any], **style: Any) -> None:
        """Draw straight lines through ``(n, 2)`` points each."""
        from matplotlib.collections import LineCollection

        if routes:
            settings: Any = {"colors": self.palette.line, "linewidths": 0.8 * self.scale}
            settings |= style
            self.ax.add_collection(LineCollection(routes, **settings))

    def curves(self, routes: Iterable[Points], *, arrows: bool, **style: Any) -> None:
        """Draw smooth lines through points, vertical at each, optionally with arrow heads."""
        from matplotlib.collections import PathCollection, PolyCollection

        routes = [*routes]
        colour = style.pop("color", self.palette.line)
        settings = {"facecolors": "none", "edgecolors": colour, "linewidths": 0.9 * self.scale}
        paths = [_smooth(route) for route in routes]
        self.ax.add_collection(PathCollection(paths, **(settings | {"zorder": 1} | style)))
        if arrows:
            heads = [
                [(x, y), (x - 0.5 * _ARROW, y - _ARROW), (x + 0.5 * _ARROW, y - _ARROW)]
                for x, y in (route[-1] for route in routes)
            ]
            self.ax.add_collection(PolyCollection(heads, facecolors=colour, zorder=2))


def _smooth(route: Points) -> Any:
    from matplotlib.path import Path

    points, codes = [route[0]], [Path.MOVETO]
    for (x0, y0), (x1, y1) in pairwise(route):
        if x0 == x1:
            points.append((x1, y1))
            codes.append(Path.LINETO)
        else:
            middle = (y0 + y1) / 2
            points += [(x0, middle), (x1, middle), (x1, y1)]
            codes += [Path.CURVE4] * 3
    return Path(points, codes)


def _luminance(colour: Any) -> float:
    from matplotlib.colors import to_rgb

    return float(np.dot(to_rgb(colour), (0.2126, 0.7152, 0.0722)))
