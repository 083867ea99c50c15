"""Densities of real variables, which are drawn within cards."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pgnn.inference.gaussian_marginals import MixtureMarginal, NormalMarginal
from pgnn.plot.canvas import Canvas, text_width
from pgnn.plot.sketch import Sketch

Floats = NDArray[np.float64]

_WIDTH, _HEIGHT, _TICK, _LABEL, _TEXT = 104.0, 26.0, 2.0, 7.0, 6.0
_POINTS = 201
_NARROW = 20
"""Largest number of components with points of their own."""
_MASS = 1e-6
"""Weight of a single value from which on there is no density."""
_WIDER = 4.0
"""How many times its own width an axis is extended to either side for an earlier density."""
_FEWEST, _MOST_BINS = 8, 32
_TINY = 1e-9
"""Smallest width of an axis for its numbers."""


@dataclass(frozen=True, eq=False)
class DensityCurve(Sketch):
    """A density as a filled curve, its part between two quantiles in the colour of bars.

    Attributes:
        now: ``(n, 2)`` points of the curve.
        interval: Two quantiles.
        before: ``(m, 2)`` points of the earlier curve, drawn as a line, or None.
    """

    now: Floats
    interval: tuple[float, float]
    before: Floats | None = None

    @property
    def size(self) -> tuple[float, float]:
        """See the base class."""
        return _WIDTH, _HEIGHT + _TICK + _LABEL

    @property
    def _inner(self) -> Floats:
        """The part of the curve between the quantiles."""
        (low, high), x = self.interval, self.now[:, 0]
        first, last = ((value, np.interp(value, *self.now.T)) for value in (low, high))
        return np.concatenate([[first], self.now[(x > low) & (x < high)], [last]])

    def draw(self, canvas: Canvas, left: float, top: float) -> None:
        """See the base class."""
        curves = [self.now, *([] if self.before is None else [self.before])]
        points = np.concatenate(curves)
        (start, _), (end, peak) = points.min(axis=0), points.max(axis=0)
        scale, bottom = _WIDTH / (end - start), top + _HEIGHT

        def placed(curve: Floats) -> Floats:
            return np.stack(
                [left + scale * (curve[:, 0] - start), bottom - _HEIGHT * curve[:, 1] / peak], 1
            )

        palette = canvas.palette
        whole, inner = (_closed(placed(c), bottom) for c in (self.now, self._inner))
        canvas.polygons([whole], facecolors=palette.track, lw=0, zorder=4)
        canvas.polygons([inner], facecolors=palette.bar, lw=0, zorder=4.2)
        canvas.lines([[(left, bottom), (left + _WIDTH, bottom)]], zorder=4.3)
        if self.before is not None:
            canvas.lines([placed(self.before)], colors=palette.text, zorder=4.4)
        for value, label in _labels(float(start), float(end)):
            place = left + scale * (value - start)
            canvas.lines([[(place, bottom), (place, bottom + _TICK)]], zorder=4.3)
            half = text_width(label, _TEXT) / 2
            place = min(max(place, left + half), left + _WIDTH - half)
            y = bottom + _TICK + _LABEL - 1.5
            canvas.write(place, y, label, _TEXT, ha="center", zorder=5)


def density_curve_of(marginal: Any, row: int, before: Any = None) -> DensityCurve | None:
    """Return the density of a scalar real variable.

    Args:
        marginal: Its posterior: a normal distribution or a mixture, drawn as a curve, or weighted
            samples, drawn as a histogram.
        row: Row of a batch, if the marginal has an axis of rows.
        before: Its earlier posterior, of which the first row is used.

    Returns:
        None if the value is known, there are very few samples, or the kind of posterior has none.
    """
    now, old = _of_row(marginal, row), _of_row(before, 0)
    if now is None:
        return None
    low, high = now.span
    span = (low, high)
    if high - low <= _TINY * max(abs(low), abs(high)):
        return None
    if old is not None:
        room = _WIDER * (high - low)
        span = (max(min(low, old.span[0]), low - room), min(max(high, old.span[1]), high + room))
    earlier = None if old is None else old.points(span)
    if earlier is not None and not len(earlier):  # far away
        earlier = None
    return DensityCurve(now.points(span), now.quantiles(0.05, 0.95), earlier)


@dataclass(frozen=True, eq=False)
class _Mixture:
    """Weighted normal densities of one variable: ``(K,)`` weights, means and deviations."""

    weights: Floats
    means: Floats
    deviations: Floats

    def quantiles(self, low: float, high: float) -> tuple[float, float]:
        parts = NormalMarginal(torch.from_numpy(self.means), torch.from_numpy(self.deviations))
        ends = MixtureMarginal(torch.from_numpy(self.weights), parts).quantile((low, high))
        return float(ends[0]), float(ends[1])

    @property
    def span(self) -> tuple[float, float]:
        return self.quantiles(0.002, 0.998)

    def points(self, span: tuple[float, float]) -> Floats:
        narrow = np.argsort(self.deviations)[:_NARROW]
        around = self.means[narrow, None] + self.deviations[narrow, None] * np.linspace(-4, 4, 33)
        x = np.union1d(np.linspace(*span, _POINTS), around[(around > span[0]) & (around < span[1])])
        standard = (x[:, None] - self.means) / self.deviations
        scales = self.weights / (self.deviations * np.sqrt(2.0 * np.pi))
        return np.stack([x, np.exp(-0.5 * standard**2) @ scales], 1)


@dataclass(frozen=True, eq=False)
class _Draws:
    """Draws of one variable with weights that sum to one, sorted."""

    values: Floats
    weights: Floats

    def quantiles(self, low: float, high: float) -> tuple[float, float]:
        at = np.searchsorted(np.cumsum(self.weights), (low, high))
        ends = self.values[np.minimum(at, len(self.values) - 1)]
        return float(ends[0]), float(ends[1])

    @property
    def span(self) -> tuple[float, float]:
        return self.quantiles(0.002, 0.998)

    def points(self, span: tuple[float, float]) -> Floats:
        """The outline of a histogram; the number of bins grows with the number of draws."""
        size = 1.0 / float(np.square(self.weights).sum())
        bins = int(min(max(_FEWEST, 2.0 * size ** (1 / 3)), _MOST_BINS))
        edges = np.linspace(*self.span, bins + 1)
        edges = edges[(edges >= span[0]) & (edges <= span[1])]
        if len(edges) < 2:
            return np.zeros((0, 2))
        shares = np.histogram(self.values, edges, weights=self.weights)[0]
        return np.stack([np.repeat(edges, 2)[1:-1], np.repeat(shares / np.diff(edges), 2)], 1)


def _of_row(marginal: Any, row: int) -> _Mixture | _Draws | None:
    """Return the density of a row; None if there is none."""
    if isinstance(marginal, NormalMarginal):
        one = torch.ones_like(marginal.loc)[..., None]
        return _mixture(one, marginal.loc[..., None], marginal.scale[..., None], row)
    if isinstance(marginal, MixtureMarginal):
        parts: Any = marginal.component_distribution
        if isinstance(parts, NormalMarginal):
            return _mixture(marginal.mixture_distribution.probs, parts.loc, parts.scale, row)
    if not hasattr(marginal, "draws"):
        return None
    draws = _row(marginal.draws, row, axis=1)
    is_weighted = hasattr(marginal, "weights")
    return _sorted(draws, _row(marginal.weights, row, axis=1) if is_weighted else draws**0)


def _mixture(weights: Any, means: Any, deviations: Any, row: int) -> _Mixture | None:
    w, m, d = (_row(x, row, axis=0, dims=1) for x in (weights, means, deviations))
    kept = w > _MASS
    w, m, d = w[kept], m[kept], d[kept]
    is_smooth = len(w) and bool((d > 0.0).all()) and bool(np.isfinite([w, m, d]).all())
    return _Mixture(w / w.sum(), m, d) if is_smooth else None


def _sorted(values: Floats, weights: Floats) -> _Draws | None:
    kept = np.isfinite(values) & (weights > 0.0)
    values, weights = values[kept], weights[kept]
    if len(values) < _FEWEST:
        return None
    order = np.argsort(values, kind="stable")
    draws = _Draws(values[order], weights[order] / weights.sum())
    low, high = draws.span
    return draws if high > low else None


def _row(tensor: Any, row: int, axis: int, dims: int | None = None) -> Floats:
    """Return a row of an axis of rows, if there is one, as an array of one axis."""
    array = np.asarray(tensor.detach().cpu().double().numpy())
    has_rows = array.ndim == (2 if dims is None else dims + 1)
    return np.asarray(np.take(array, min(row, array.shape[axis] - 1), axis) if has_rows else array)


def _closed(curve: Floats, bottom: float) -> Floats:
    return np.concatenate([[(curve[0, 0], bottom)], curve, [(curve[-1, 0], bottom)]])


def _labels(low: float, high: float) -> Sequence[tuple[float, str]]:
    """Return round values of an axis with their labels; none if the labels are the same."""
    from matplotlib.ticker import MaxNLocator

    values = MaxNLocator(nbins=4, steps=[1, 2, 5, 10]).tick_values(low, high)
    ticks = [(float(v), f"{v + 0.0:.6g}") for v in values if low <= v <= high]
    widths = [text_width(label, _TEXT) for _, label in ticks]
    scale = _WIDTH / (high - low)
    is_clear = all(
        scale * (b[0] - a[0]) > (v + w) / 2 + 3.0
        for (a, b), (v, w) in zip(pairwise(ticks), pairwise(widths), strict=True)
    )
    return ticks if is_clear else ticks[:: max(1, len(ticks) - 1)]
