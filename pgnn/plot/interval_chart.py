"""Means and intervals of the elements of real arrays, which are drawn within cards."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch.distributions import Categorical

from pgnn.plot.canvas import Canvas, text_width
from pgnn.plot.sketch import Sketch

Floats = NDArray[np.float64]

_WIDTH, _STRIP, _GAP, _TEXT = 120.0, 24.0, 4.0, 6.0
_STRIPS, _ELEMENTS = 4, 400
"""Largest numbers of strips and of elements of a strip."""
_WIDEST = 9.0


@dataclass(frozen=True, eq=False)
class IntervalChart(Sketch):
    """A strip of intervals and means for each column of an array, along its first axis.

    Attributes:
        values: ``(3, T, D)`` lower ends, means and upper ends; NaN where there is none.
        caption: What is drawn.
    """

    values: Floats
    caption: str = "mean, 5% and 95%"

    @property
    def size(self) -> tuple[float, float]:
        """See the base class."""
        steps, strips = self.values.shape[1:]
        width = min(_WIDTH, _WIDEST * steps)
        return width + self._label_width, strips * (_STRIP + _GAP) - _GAP

    @property
    def _label_width(self) -> float:
        ends = (label for k in range(self.values.shape[2]) for label in self._labels(k))
        return 3.0 + max(text_width(label, _TEXT) for label in ends)

    def _labels(self, strip: int) -> tuple[str, str]:
        low, high = self._ends(strip)
        return f"{low:.3g}", f"{high:.3g}"

    def _ends(self, strip: int) -> tuple[float, float]:
        values = self.values[:, :, strip]
        return float(np.nanmin(values)), float(np.nanmax(values))

    def draw(self, canvas: Canvas, left: float, top: float) -> None:
        """See the base class."""
        start, palette = left + self._label_width, canvas.palette
        steps = self.values.shape[1]
        width = min(_WIDEST, _WIDTH / steps)
        for strip in range(self.values.shape[2]):
            y = top + strip * (_STRIP + _GAP)
            low, high = self._ends(strip)
            scale = _STRIP / ((high - low) or 1.0)
            bars, means = [], []
            for k, (a, mean, b) in enumerate(self.values[:, :, strip].T.tolist()):
                if np.isfinite(mean):
                    x, inset = start + width * k, min(1.0, 0.15 * width)
                    box = (x + inset, y + scale * (high - b), width - 2 * inset, scale * (b - a))
                    bars.append(box)
                    means.append((x + inset, y + scale * (high - mean) - 0.6, box[2], 1.2))
            canvas.rectangles([(start, y, width * steps, _STRIP)], facecolors=palette.track, lw=0,
                              zorder=4)  # fmt: skip
            canvas.rectangles(bars, facecolors=palette.bar, lw=0, zorder=4.2)
            canvas.rectangles(means, facecolors=palette.text, lw=0, zorder=4.4)
            for label, baseline in zip(self._labels(strip), (y + _STRIP, y + 5.0), strict=True):
                canvas.write(start - 2.0, baseline, label, _TEXT, ha="right", zorder=5)


def interval_chart_of(marginal: Any, row: int | None) -> IntervalChart | None:
    """Return the intervals of an array or a vector with at most four columns.

    Args:
        marginal: The posterior of a real variable.
        row: Row of a batch; None if there are no rows.
    """
    if isinstance(marginal, Categorical):
        return None
    mean, moments = marginal.mean, not hasattr(marginal, "quantile")
    if mean.numel() > (1 if row is None else len(mean)) * _STRIPS * _ELEMENTS:
        return None
    low, high = (
        (mean - marginal.std, mean + marginal.std) if moments else marginal.quantile((0.05, 0.95))
    )
    parts = [x if row is None else x[row] for x in (low, mean, high)]
    values = np.stack([np.asarray(x.detach().cpu().double().numpy()) for x in parts])
    if values.ndim == 2:
        values = values[..., None]
    fits = values.ndim == 3 and 0 < values.shape[1] <= _ELEMENTS and 0 < values.shape[2] <= _STRIPS
    if not fits or not np.isfinite(values).any():
        return None
    return IntervalChart(values, "mean, one sd to either side" if moments else "mean, 5% and 95%")
