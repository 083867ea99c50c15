"""Plots of sensitivity analyses."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from itertools import pairwise
from textwrap import wrap
from typing import Any

import numpy as np

from pgnn.errors import Unsupported
from pgnn.plot.axes import axes_of, check_drawn, colours_of
from pgnn.plot.fonts import with_fonts
from pgnn.plot.network import network
from pgnn.sensitivity.curves import Curve, Surface
from pgnn.sensitivity.entry import Entry
from pgnn.sensitivity.findings import trails

_LINES, _TRAILS = 15, 3
_ZERO = 1e-12
_WIDE = 36
"""Letters in a line of a title."""


def ranking(frame: Any, column: str | None = None, *, ax: Any = None) -> Any:
    """Draw the first 15 lines of a frame of :mod:`pgnn.sensitivity` as horizontal bars.

    Lines of zero are left out and counted; of two opposite derivatives, of the two entries of a
    row of a table, the first is drawn.

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
    kept, num_zeros = _informative(frame, column)
    top = kept[:_LINES]
    labels = [_label(line) for line in top]
    values = np.array([line[column] for line in top], dtype=float)
    ax = axes_of(ax, (3.2 + 0.07 * max(map(len, labels), default=0), 1.2 + 0.28 * len(top)))
    _signed_bars(ax, values)
    ax.set_yticks(range(len(top)), labels, parse_math=False)
    ax.invert_yaxis()
    ax.axvline(0.0, color="gray", lw=0.8)
    ax.set_xlabel(column.replace("_", " "))
    question = frame.attrs.get("question", "")
    more = f"{num_zeros:,} more: 0" if num_zeros else ""
    _title(ax, "; ".join(filter(None, [_of(column, question), more])))
    ax.spines[["top", "right"]].set_visible(False)
    return with_fonts(ax)


def _informative(frame: Any, column: str) -> tuple[list[dict[Any, Any]], int]:
    """Return the lines that are not zero, and the number of those that are.

    Of the two entries of a row of a table, whose derivatives are opposite, the first is kept.
    """
    lines = [line for line in frame.to_dict("records") if abs(line[column]) > _ZERO]
    num_zeros = len(frame) - len(lines)
    if not {"state", "parents"} <= set(frame.columns):
        return lines, num_zeros
    rows: dict[Any, list[dict[Any, Any]]] = {}
    for line in lines:
        rows.setdefault((line["variable"], *line["parents"].items()), []).append(line)
    mirrored = {
        id(row[1]) for row in rows.values()
        if len(row) == 2 and abs(row[0][column] + row[1][column]) <= _ZERO
    }  # fmt: skip
    return [line for line in lines if id(line) not in mirrored], num_zeros


def _signed_bars(ax: Any, values: Any) -> None:
    """Draw bars, with a legend if some are positive and some negative."""
    places, colours = np.arange(len(values)), colours_of(2)
    for sign, colour, label in ((1, colours[0], "increases it"), (-1, colours[1], "decreases it")):
        chosen = (values >= 0) == (sign > 0)
        if chosen.any():
            ax.barh(places[chosen], values[chosen], color=colour, label=label)
    if (values > 0).any() and (values < 0).any():
        ax.legend(frameon=False, fontsize=8)


def _of(column: str, question: str) -> str:
    words = "share of the entropy" if column == "share" else column.replace("_", " ")
    return f"{words} of {question}" if question else ""


def _title(ax: Any, text: str) -> None:
    ax.set_title("\n".join(wrap(text, _WIDE)), fontsize=10, loc="left", parse_math=False)


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
        ax.plot(
            *function.values, "o", color="#D55E00", markeredgecolor="white", label="current values"
        )
        ax.set_xlabel(_formula(function.entries[0]), parse_math=False)
        ax.set_ylabel(_formula(function.entries[1]), parse_math=False)
    else:
        ax.plot(grid, function(grid), color=colours_of(1)[0])
        ax.plot(
            function.value, function(function.value), "o", color="#D55E00", label="current value"
        )
        ax.set(xlim=(0, 1), ylim=(0, 1), ylabel="posterior probability")
        ax.set_xlabel(_formula(function.entry), parse_math=False)
        ax.spines[["top", "right"]].set_visible(False)
    _title(ax, function.question)
    ax.legend(frameon=True)
    return with_fonts(ax)


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
    return f"P({entry.variable}={entry.state}{' | ' if given else ''}{given})"
