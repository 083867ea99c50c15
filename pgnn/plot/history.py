"""How a fit went."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pgnn.errors import Unsupported
from pgnn.plot.axes import axes_of, colours_of

_ELSEWHERE = ("seconds", "gradient_norm")


def history(record: Mapping[str, Any], *, ax: Any = None) -> Any:
    """Draw what was recorded at each iteration: likelihood, objective, value on rows set apart.

    Args:
        record: ``model.history`` of a learner that iterates.
        ax: Axes to draw on; a new figure if not given.

    Returns:
        The axes.

    Raises:
        Unsupported: If nothing was recorded at each iteration.
    """
    trace = {n: y for n, y in record.get("trace", {}).items() if n not in _ELSEWHERE and len(y)}
    if not trace:
        raise Unsupported("the history has no figures of single iterations")
    same = [
        n for n in trace if n == "objective" and trace[n] in [trace[m] for m in trace if m != n]
    ]
    trace = {n: y for n, y in trace.items() if n not in same}
    ax = axes_of(ax, (6.0, 3.4))
    for (name, values), colour in zip(trace.items(), colours_of(len(trace)), strict=True):
        ax.plot(range(1, len(values) + 1), values, color=colour, label=name.replace("_", " "))
    ax.set_xlabel("iteration")
    if len(trace) == 1:
        ax.set_ylabel(next(iter(trace)).replace("_", " "))
    else:
        ax.legend(frameon=False)
    ax.spines[["top", "right"]].set_visible(False)
    return ax
