"""Plots of the history of a fit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from pgnn.abilities import FactorModel
from pgnn.errors import Unsupported
from pgnn.plot.axes import axes_of, colours_of

_ELSEWHERE = ("seconds", "gradient_norm")
_DOTTED = 20
"""Largest number of iterations that are marked by dots."""
_STEEP = 0.02
"""Largest share of initial iterations that may be outside the plot."""


def history(record: FactorModel | Mapping[str, Any], *, ax: Any = None) -> Any:
    """Plot the values recorded at each iteration: likelihood, objective, validation value.

    The first iterations of a long record may be outside the plot if their values are far off.

    Args:
        record: A model fitted by an iterative learner, or its ``model.history``.
        ax: Axes to draw on; a new figure if not given.

    Returns:
        The axes.

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
    ax = axes_of(ax, (6.0, 3.4))
    for (name, values), colour in zip(trace.items(), colours_of(len(trace)), strict=True):
        steps, dots = range(1, len(values) + 1), "o" if len(values) <= _DOTTED else None
        ax.plot(
            steps, values, color=colour, label=name.replace("_", " "), marker=dots, markersize=4
        )
    _look_closer(ax, trace)
    ax.set_xlabel("iteration")
    if len(trace) == 1:
        ax.set_ylabel(next(iter(trace)).replace("_", " "))
    else:
        ax.legend(frameon=False)
    ax.spines[["top", "right"]].set_visible(False)
    return ax


def _look_closer(ax: Any, trace: Mapping[str, Any]) -> None:
    """Leave out the first steps of long records, which would flatten the others."""
    kept = [np.asarray(y, dtype=float)[int(len(y) * _STEEP) :] for y in trace.values()]
    values = np.concatenate(kept)
    values = values[np.isfinite(values)]
    if len(values) and any(len(y) * _STEEP >= 1 for y in trace.values()):
        margin = 0.05 * (np.ptp(values) or 1.0)
        ax.set_ylim(values.min() - margin, values.max() + margin)
