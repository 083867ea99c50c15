"""Answers as notebooks show them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch

from pgnn.factors.html import (
    folded,
    frame_table,
    html_table,
    preformatted,
    probability_bar,
    sparkline,
    stacked,
    text_line,
)
from pgnn.inference.answer_text import CELLS, probability_table

if TYPE_CHECKING:
    from pgnn.inference.assignment import Assignment
    from pgnn.inference.explanation import Explanation
    from pgnn.inference.posterior import Posterior
    from pgnn.inference.samples import Samples

_VARIABLES, _STATES, _DRAWS = 60, 8, 10


def posterior_html(posterior: Posterior) -> str:
    """Return the marginals of the first row as bars."""
    head = f"posterior of {len(posterior)} variables ({posterior.kind}, {posterior.engine})"
    if not posterior.num_rows or not posterior.variables:
        return stacked(text_line(str(posterior)))
    rows: list[Sequence[object]] = []
    for variable in posterior.variables[:_VARIABLES]:
        probs = posterior.probs(variable.name)
        probs = probs[0] if posterior.batched else probs
        if variable.shape:
            flat = probs.detach().cpu().reshape(-1).numpy()
            text = probability_table([variable], flat, max_cells=CELLS).split("\n", 1)[1]
            rows.append([variable.name, "", "", preformatted(text)])
            continue
        pairs = [*zip(variable.states or (), probs.tolist(), strict=True)]
        shown = sorted(range(len(pairs)), key=lambda k: -pairs[k][1])[:_STATES]
        for line, k in enumerate(sorted(shown)):
            name = "" if line else variable.name
            rows.append([name, pairs[k][0], probability_bar(pairs[k][1]), f"{pairs[k][1]:.4g}"])
        if len(pairs) > _STATES:
            rows.append(["", f"... and {len(pairs) - _STATES} less probable states", "", ""])
    tail = ["log evidence" + str(posterior).rpartition("log evidence")[2]]
    if len(posterior.variables) > _VARIABLES:
        tail.insert(0, f"... and {len(posterior.variables) - _VARIABLES:,} more variables")
    header = ("variable", "state", "", "probability")
    return stacked(folded(head, html_table(rows, header), opened=True), *map(text_line, tail))


def assignment_html(assignment: Assignment) -> str:
    """Return the states of the first row."""
    return stacked(preformatted(assignment))


def explanation_html(explanation: Explanation) -> str:
    """Return the cost of a query as a table."""
    pairs = [line.split("  ", 1) for line in str(explanation).splitlines()]
    return stacked(html_table([name.strip(), text.strip()] for name, text in pairs))


def samples_html(samples: Samples) -> str:
    """Return the first draws."""
    with torch.no_grad():
        first = samples.first(_DRAWS)
    return stacked(text_line(repr(samples)), frame_table(first.frame()))


def history_html(history: Mapping[str, Any], hidden: str) -> str:
    """Return the figures of a fit, and the trace of its iterations as small charts."""
    figures = [[k, _short(v)] for k, v in history.items() if k not in ("trace", hidden)]
    trace = [
        [k, sparkline([float(x) for x in v]), f"{v[0]:.6g} to {v[-1]:.6g}"]
        for k, v in history.get("trace", {}).items()
        if len(v)
    ]
    parts = [html_table(figures)] if figures else [text_line("not fitted")]
    return stacked(*parts, *([html_table(trace)] if trace else []))


def _short(value: Any) -> object:
    if isinstance(value, float):
        return f"{value:.6g}"
    text = str(value)
    return text if len(text) <= 200 else text[:200] + "…"
