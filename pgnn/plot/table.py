"""Heat maps of conditional tables."""

from __future__ import annotations

from typing import Any

import numpy as np

from pgnn.errors import Unsupported
from pgnn.factors.conditionals import checks
from pgnn.factors.conditionals.conditional import Conditional
from pgnn.factors.factor import Factor
from pgnn.factors.table_frame import table_frame
from pgnn.plot.axes import axes_of
from pgnn.plot.fonts import with_fonts

_ROWS = 200
_WRITTEN = 400
"""Largest number of entries that are written into the cells."""


def table(conditional: Conditional | Factor, *, ax: Any = None) -> Any:
    """Draw a table as a heat map, with a row for each parent configuration.

    Args:
        conditional: A discrete conditional, or a factor whose last variable indexes the columns.
        ax: Axes to draw on; a new figure if not given.

    Returns:
        The axes.

    Raises:
        Unsupported: If it is not a table, or has more than 200 rows.
    """
    if isinstance(conditional, Conditional):
        checks.check_tabulated(conditional.child, conditional.scope)
        frame = conditional.frame()
        label = f"probability of {conditional.child.name}"
        parents = [str(v.name) for v in conditional.parents]
    elif isinstance(conditional, Factor):
        if conditional.batch_shape or not conditional.variables:
            raise Unsupported(f"expected a conditional with one table, got {conditional!r}")
        frame = table_frame(conditional.variables, conditional.values, across=True)
        label, parents = "value", [str(n) for n in conditional.names[:-1]]
    else:
        raise Unsupported(
            "plot.table draws a conditional such as model.conditionals['rain'], or a Factor, got "
            f"{type(conditional).__name__}"
        )
    if len(frame) > _ROWS:
        raise Unsupported(
            f"a heat map has at most {_ROWS} rows, the table has {len(frame):,}",
            "look at its frame()",
        )
    values = frame.to_numpy(dtype=float)
    columns = [str(c) for c in frame.columns]
    rows = [_words(index) for index in frame.index] if parents else [""]
    widest = max(map(len, columns))
    upright = len(columns) * widest > 80
    across = 0.5 if upright else max(0.6, 0.11 * widest)
    longest = max([len(", ".join(parents)), *map(len, rows)])
    width = 1.0 + 0.085 * longest + across * len(columns)
    ax = axes_of(ax, (max(width, 3.0), 1.2 + 0.24 * len(rows) + 0.08 * widest * upright))
    finite = values[np.isfinite(values)]
    top = 1.0 if isinstance(conditional, Conditional) else float(max([*finite, 0.0])) or 1.0
    image = ax.imshow(values, cmap="cividis", vmin=0.0, vmax=top, aspect="auto")
    ax.set_xticks(range(len(columns)), columns, rotation=90 if upright else 0)
    ax.set_yticks(range(len(rows)), rows, parse_math=False)
    ax.set_xlabel(str(frame.columns.name), parse_math=False)
    # above the labels of rows, and not upright, so that long names fit
    ax.set_ylabel(", ".join(parents), rotation=0, ha="right", va="bottom", parse_math=False)
    ax.yaxis.set_label_coords(-0.02, 1.02)
    if values.size > _WRITTEN:
        ax.figure.colorbar(image, ax=ax, label=label)
        return with_fonts(ax)
    for (i, j), value in np.ndenumerate(values):
        colour = "black" if value > 0.5 * top else "white"
        ax.text(j, i, f"{value:.3g}", ha="center", va="center", color=colour, fontsize=8)
    ax.set_title(label, fontsize=9)
    return with_fonts(ax)


def _words(index: Any) -> str:
    return ", ".join(map(str, index)) if isinstance(index, tuple) else str(index)
