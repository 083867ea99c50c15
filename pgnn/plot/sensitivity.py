"""Plots of sensitivity analyses."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from itertools import pairwise
from typing import Any

import numpy as np

from pgnn.errors import Unsupported
from pgnn.plot.axes import axes_of, check_drawn, colours_of
from pgnn.plot.network import network
from pgnn.sensitivity.curves import Curve, Surface
from pgnn.sensitivity.entry import Entry
from pgnn.sensitivity.findings import trails

_LINES, _TRAILS = 15, 3


def ranking(frame: Any, column: str | None = None, *, ax: Any = None) -> Any:
    """Draw the first 15 lines of a frame of :mod:`pgnn.sensitivity` as horizontal bars.

    Args:
        frame: Frame for one row of evidence, such as ``derivatives`` or ``mutual_information``.
        column: Column to draw; the last one by default.
        ax: Axes to draw on; a new figure if not given.

    Returns:
        The axes.

    Raises:
        Unsupported: If it is not a frame, the column does not exist, or the frame has several rows
            of evidence.
    """
    check_drawn("ranking", frame, hasattr(frame, "iloc") and hasattr(frame, "columns"),
                "a frame, such as pgnn.sensitivity.mutual_information(model, target)")  # fmt: skip
    column = frame.columns[-1] if column is None else column
    if column not in frame.columns or "variable" not in frame.columns:
        raise Unsupported(f"expected a frame with columns 'variable' and {column!r}")
    if frame.index.nlevels > 1:
        raise Unsupported("the frame has several rows of evidence", "choose one by frame.loc[row]")
    top = frame.iloc[:_LINES]
    labels = [_label(line) for line in top.to_dict("records")]
    values = top[column].to_numpy(dtype=float)
    ax = axes_of(ax, (3.2 + 0.07 * max(map(len, labels), default=0), 0.9 + 0.28 * len(top)))
    positive, negative = colours_of(2)
    colours = np.where(values >= 0, positive, negative)
    ax.barh(range(len(top)), values, color=colours)
    ax.set_yticks(range(len(top)), labels, parse_math=False)
    ax.invert_yaxis()
    ax.axvline(0.0, color="gray", lw=0.8)
    ax.set_xlabel(column.replace("_", " "))
    ax.spines[["top", "right"]].set_visible(False)
    return ax


def sensitivity(function: Curve | Surface, *, ax: Any = None) -> Any:
    """Draw a posterior probability as a function of one or two table entries.

    Args:
        function: Result of :func:`pgnn.sensitivity.curve` or :func:`pgnn.sensitivity.surface`.
        ax: Axes to draw on; a new figure if not given.

    Returns:
        The axes.

    Raises:
        Unsupported: If it is no such function.
    """
    check_drawn("sensitivity", function, isinstance(function, Curve | Surface),
                "what pgnn.sensitivity.curve() or surface() returned")  # fmt: skip
    ax = axes_of(ax, (4.6, 3.4))
    grid = np.linspace(0.0, 1.0, 101)
    if isinstance(function, Surface):
        values = function(grid[:, None], grid[None, :])
        filled = ax.contourf(grid, grid, values.T, levels=np.linspace(0, 1, 21), cmap="cividis")
        ax.figure.colorbar(filled, ax=ax, label="posterior probability")
        ax.plot(*function.values, "o", color="#D55E00", markeredgecolor="white", label="now")
        ax.set(xlabel=_formula(function.entries[0]), ylabel=_formula(function.entries[1]))
    else:
        ax.plot(grid, function(grid), color=colours_of(1)[0])
        ax.plot(function.value, function(function.value), "o", color="#D55E00", label="now")
        ax.set(xlim=(0, 1), ylim=(0, 1), ylabel="posterior probability")
        ax.set_xlabel(_formula(function.entry), parse_math=False)
        ax.spines[["top", "right"]].set_visible(False)
    ax.legend(frameon=True)
    return ax


def explanation(
    model: Any, target: Hashable, evidence: Mapping[Hashable, Any], *, ax: Any = None
) -> Any:
    """Draw a network, with the trails from findings to a variable as thick lines.

    The variable has the mark "target".
    The three strongest active trails of each finding are drawn, see
    :func:`pgnn.sensitivity.trails`.

    Args:
        model: A Bayesian network.
        target: Name of an unobserved variable.
        evidence: One row of evidence.
        ax: Axes to draw on; a new figure if not given.

    Returns:
        The axes.
    """
    frame = trails(model, target, evidence)
    strengths: dict[frozenset[Hashable], float] = {}
    for _, lines in frame.groupby("finding", sort=False):
        for trail, strength in zip(lines["trail"][:_TRAILS], lines["strength"], strict=False):
            for a, b in pairwise(trail):
                edge = frozenset((a, b))
                strengths[edge] = max(strengths.get(edge, 0.0), strength)
    return network(model, evidence=evidence, highlighted=strengths, target=target, ax=ax)


def _label(line: Mapping[Any, Any]) -> str:
    if "state" in line and "parents" in line:
        return _formula(Entry(line["variable"], line["state"], line["parents"]))
    return str(line["variable"])


def _formula(entry: Entry) -> str:
    given = ", ".join(f"{n}={s}" for n, s in entry.parents.items())
    return f"p({entry.variable}={entry.state}{' | ' if given else ''}{given})"
