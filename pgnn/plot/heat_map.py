"""Small heat maps of the marginals of arrays, which are drawn within cards."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from pgnn.plot.canvas import Canvas, shortened, text_width
from pgnn.plot.sketch import Sketch

if TYPE_CHECKING:
    from pgnn.factors.variable import Variable

_CELLS = 4096
"""Largest number of cells that are drawn."""
_SIDE, _STRIP = 96.0, 130.0
_CELL, _ROW, _TEXT, _LABEL = 9.0, 9.0, 6.5, 50.0


@dataclass(frozen=True, eq=False)
class HeatMap(Sketch):
    """Probabilities as colours.

    Attributes:
        values: ``(R, C)`` probabilities; NaN where there is none.
        caption: What is drawn.
        labels: A label for each row, or none.
    """

    values: np.ndarray
    caption: str
    labels: tuple[str, ...] = ()

    @property
    def cell(self) -> tuple[float, float]:
        """Width and height of a cell in points."""
        rows, columns = self.values.shape
        if self.labels:
            return min(_CELL, _STRIP / columns), _ROW
        side = min(_CELL, _SIDE / max(rows, columns))
        return side, side

    @property
    def label_width(self) -> float:
        """Width of the column of labels in points."""
        texts = [shortened(label, _LABEL, _TEXT) for label in self.labels]
        return max([text_width(text, _TEXT) + 4.0 for text in texts], default=0.0)

    @property
    def size(self) -> tuple[float, float]:
        """Width and height in points."""
        rows, columns = self.values.shape
        width, height = self.cell
        return self.label_width + width * columns, height * rows

    def draw(self, canvas: Canvas, left: float, top: float) -> None:
        """Draw the cells and the labels of rows, from the upper left corner."""
        from matplotlib.collections import PolyCollection

        width, height = self.cell
        start = left + self.label_width
        known = np.argwhere(np.isfinite(self.values))
        corners = np.array([(0.0, 0.0), (width, 0.0), (width, height), (0.0, height)])
        places = known[:, ::-1] * (width, height) + (start, top)
        canvas.ax.add_collection(
            PolyCollection(
                places[:, None] + corners, array=self.values[tuple(known.T)], cmap="cividis",
                clim=(0.0, 1.0), lw=0, zorder=4, edgecolors="face", antialiaseds=False,
            )
        )  # fmt: skip
        for k, label in enumerate(self.labels):
            text = shortened(label, _LABEL, _TEXT)
            canvas.write(left, top + height * k + 7.0, text, _TEXT, zorder=5)


def heat_map_of(variable: Variable, probs: Any) -> HeatMap | None:
    """Return the heat map of an array with one or two axes.

    Args:
        variable: The array.
        probs: ``(*shape, K)`` probabilities.

    Returns:
        Of one axis a row for each state; of two the probability of the last state of two, or that
        of the most probable state. None of other arrays, and of very large ones.
    """
    table = np.asarray(probs.detach().cpu().double().numpy())
    states = [str(s) for s in variable.states or ()]
    if not table.size or table.size // len(states) > _CELLS:
        return None
    if table.ndim == 2 and len(states) <= 12 and len(table) <= 400:
        return HeatMap(table.T, "probability at each step", tuple(states))
    if table.ndim == 3:
        values = table[..., -1] if len(states) == 2 else table.max(axis=-1)
        what = f"of {states[-1]}" if len(states) == 2 else "of the most probable state"
        return HeatMap(values, f"probability {what}")
    return None
