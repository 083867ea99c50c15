"""What notebooks show of models and answers: short HTML, all text escaped, nothing loaded."""

from __future__ import annotations

import html
import math
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

_BAR = "#0072B2"
_CELL = "text-align:left;padding:1px 8px;white-space:nowrap"


class Html(NamedTuple):
    """Text that is HTML already and is not escaped again."""

    text: str


def escaped(value: object) -> str:
    """Return anything as HTML; what is :class:`Html` stays as it is."""
    return value.text if isinstance(value, Html) else html.escape(str(value))


def name_text(name: object) -> str:
    """Return a name, and that of an element such as ``("pixel", 0, 1)`` as ``pixel[0, 1]``.

    Example:
        >>> name_text(("pixel", 0, 1)), name_text(("state", -1)), name_text("rain")
        ('pixel[0, 1]', 'state (step before)', 'rain')
        >>> name_text((0, 1))  # a node of a grid
        '(0, 1)'
    """
    if not isinstance(name, tuple) or len(name) < 2 or isinstance(name[0], int):
        return str(name)
    if name[1:] == (-1,):
        return f"{name[0]} (step before)"
    return f"{name[0]}{list(name[1:])}" if all(isinstance(k, int) for k in name[1:]) else str(name)


def html_table(rows: Iterable[Sequence[object]], header: Sequence[object] = ()) -> Html:
    """Return a table.

    Args:
        rows: Cells of each row.
        header: Names of the columns.

    Example:
        >>> html_table([["a<b", 1]]).text.count("a&lt;b")
        1
    """
    head = "".join(f'<th style="{_CELL}">{escaped(x)}</th>' for x in header)
    body = "".join(
        "<tr>" + "".join(f'<td style="{_CELL}">{escaped(x)}</td>' for x in row) + "</tr>"
        for row in rows
    )
    first = f"<thead><tr>{head}</tr></thead>" if head else ""
    return Html(f"<table>{first}<tbody>{body}</tbody></table>")


def probability_bar(probability: float) -> Html:
    """Return a bar as long as a probability."""
    if math.isnan(probability):
        return Html("")
    width = 100.0 * min(max(probability, 0.0), 1.0)
    return Html(
        '<div style="width:120px;height:10px;background:rgba(128,128,128,.25)">'
        f'<div style="width:{width:.1f}%;height:10px;background:{_BAR}"></div></div>'
    )


def folded(summary: object, body: Html, *, opened: bool = False) -> Html:
    """Return something that is folded away under a summary."""
    flag = " open" if opened else ""
    return Html(f"<details{flag}><summary>{escaped(summary)}</summary>{body.text}</details>")


def text_line(text: object) -> Html:
    """Return a line of text."""
    return Html(f"<div>{escaped(text)}</div>")


def preformatted(text: object) -> Html:
    """Return text with its spaces and lines."""
    return Html(f'<pre style="line-height:1.25">{escaped(text)}</pre>')


def frame_table(data: Any, rows: int = 24) -> Html:
    """Return the first rows of a data frame."""
    omitted = len(data) - rows
    shown = data.head(rows)
    if any(isinstance(n, tuple) for n in (*data.index.names, *data.columns.names)):
        index, columns = (_axis_names(a) for a in (data.index, data.columns))
        shown = shown.rename_axis(index=index, columns=columns)
    text: str = shown.to_html(border=0, float_format=lambda x: f"{x:.4g}")
    more = text_line(f"... and {omitted:,} more rows").text if omitted > 0 else ""
    return Html(text + more)


def _axis_names(axis: Any) -> list[str | None]:
    return [None if n is None else name_text(n) for n in axis.names]


def sparkline(values: Sequence[float]) -> Html:
    """Return a small line chart of finite numbers."""
    finite = [(k, v) for k, v in enumerate(values) if math.isfinite(v)]
    if len(finite) < 2:
        return Html("")
    low, high = min(v for _, v in finite), max(v for _, v in finite)
    every = -(-len(finite) // 120)
    points = " ".join(
        f"{120.0 * k / (len(values) - 1):.1f},{22.0 - 20.0 * (v - low) / ((high - low) or 1.0):.1f}"
        for k, v in finite[::every]
    )
    return Html(
        '<svg width="120" height="24" role="img" aria-label="values of the iterations">'
        f'<polyline fill="none" stroke="{_BAR}" stroke-width="1.5" points="{points}"/></svg>'
    )


def stacked(*parts: Html) -> str:
    """Return the parts one below the other, as ``_repr_html_`` returns them."""
    return "".join(part.text for part in parts)
