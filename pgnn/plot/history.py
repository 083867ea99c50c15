"""Plots of the history of a fit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from pgnn.abilities import FactorModel
from pgnn.errors import Unsupported, counted
from pgnn.plot.axes import axes_of, colours_of

_ELSEWHERE = ("seconds", "gradient_norm")
_DOTTED = 20
"""Largest number of iterations that are marked by dots."""
_STEEP = 0.02
"""Largest share of initial iterations that may be outside the plot."""


def history(record: FactorModel | Mapping[str, Any], *, ax: Any = None) -> Any:
    """Plot the values recorded at each iteration: likelihood, objective, validation value.

    The first iterations of a long record may be outside the plot if their values are far off; a
    title says how many. Quantities whose values are far apart have panels of their own.

    Args:
        record: A model fitted by an iterative learner, or its ``model.history``.
        ax: Axes to draw on; a new figure if not given.

    Returns:
        The axes, of the first panel.

    Raises:
        Unsupported: If no values were recorded at each iteration.
    """
    if isinstance(record, FactorModel):
        fitted: Any = record
        record = fitted.history
    if not isinstance(record, Mapping):
        raise Unsupported(f"expected a fitted model or its history, got {record!r}")
    trace = {n: y for n, y in record.get("trace", {}).items() if n not in _ELSEWHERE and len(y)}
    if not trace:
        why = "" if record else "; fit the model first"
        raise Unsupported(f"the history has no values of single iterations{why}")
    same = [
        n for n in trace if n == "objective" and trace[n] in [trace[m] for m in trace if m != n]
    ]
    trace = {n: y for n, y in trace.items() if n not in same}
    panels = _panels(trace)
    ax = axes_of(ax, (6.0, 1.4 + 2.0 * len(panels)))
    drawn = [ax, *_below(ax, len(panels) - 1)]
    for panel, names in zip(drawn, panels, strict=True):
        _draw(panel, {n: trace[n] for n in names})
        panel.tick_params(labelbottom=panel is drawn[-1])
    drawn[-1].set_xlabel("iteration")
    return ax


def _panels(trace: Mapping[str, Any]) -> list[list[str]]:
    """Return the names of quantities that share an axis: those whose values are near."""
    panels: list[list[str]] = []
    for name in trace:
        near = (p for p in panels if all(_comparable(trace[name], trace[n]) for n in p))
        panel = next(near, None)
        if panel is None:
            panels.append([name])
        else:
            panel.append(name)
    return panels


def _comparable(a: Any, b: Any) -> bool:
    """Whether the gap between two ranges of values is at most the larger of the ranges."""
    first, second = (y[np.isfinite(y)] for y in (np.asarray(x, dtype=float) for x in (a, b)))
    if not len(first) or not len(second):
        return True
    gap = max(first.min(), second.min()) - min(first.max(), second.max())
    return bool(gap <= max(np.ptp(first), np.ptp(second)))


def _below(ax: Any, number: int) -> list[Any]:
    """Return further axes of the same size below, in the space of the first."""
    if not number:
        return []
    place = ax.get_subplotspec()
    if place is None:  # axes that were placed by hand
        from mpl_toolkits.axes_grid1 import (  # type: ignore[import-untyped]
            make_axes_locatable,
        )

        divider = make_axes_locatable(ax)
        return [
            divider.append_axes("bottom", size="100%", pad=0.15, sharex=ax) for _ in range(number)
        ]
    grid = place.subgridspec(number + 1, 1)
    ax.set_subplotspec(grid[0])
    return [ax.figure.add_subplot(grid[k + 1], sharex=ax) for k in range(number)]


def _draw(ax: Any, trace: Mapping[str, Any]) -> None:
    """Draw the quantities of a panel."""
    for (name, values), colour in zip(trace.items(), colours_of(len(trace)), strict=True):
        steps, dots = range(1, len(values) + 1), "o" if len(values) <= _DOTTED else None
        ax.plot(
            steps, values, color=colour, label=name.replace("_", " "), marker=dots, markersize=4
        )
    _look_closer(ax, trace)
    ax.xaxis.get_major_locator().set_params(integer=True)
    if len(trace) == 1:
        ax.set_ylabel(next(iter(trace)).replace("_", " "))
    else:
        ax.legend(frameon=False)
    ax.spines[["top", "right"]].set_visible(False)


def _look_closer(ax: Any, trace: Mapping[str, Any]) -> None:
    """Leave out the first steps of long records, which would flatten the others."""
    kept = [np.asarray(y, dtype=float)[int(len(y) * _STEEP) :] for y in trace.values()]
    values = np.concatenate(kept)
    values = values[np.isfinite(values)]
    if len(values) and any(len(y) * _STEEP >= 1 for y in trace.values()):
        margin = 0.05 * (np.ptp(values) or 1.0)
        bottom, top = values.min() - margin, values.max() + margin
        ax.set_ylim(bottom, top)
        outside = max(
            int(np.sum((np.asarray(y) < bottom) | (np.asarray(y) > top))) for y in trace.values()
        )
        if outside:
            ax.set_title(f"{counted(outside, 'first iteration')} not shown", fontsize=8, loc="left")
