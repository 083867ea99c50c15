"""Answers as notebooks show them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor

from pgnn.errors import counted
from pgnn.factors.html import (
    Html,
    escaped,
    folded,
    frame_table,
    html_table,
    name_text,
    preformatted,
    probability_bar,
    sparkline,
    stacked,
    text_line,
)
from pgnn.inference.answer_text import CELLS, diagnostics_text, probability_table

if TYPE_CHECKING:
    from pgnn.factors.variable import Variable
    from pgnn.inference.assignment import Assignment, KBest
    from pgnn.inference.explanation import Explanation
    from pgnn.inference.posterior import Posterior
    from pgnn.inference.samples import Samples
    from pgnn.inference.with_reals import WithReals

_VARIABLES, _STATES, _DRAWS, _LETTERS = 60, 8, 10, 120


def posterior_html(posterior: Posterior) -> str:
    """Return the marginals of the first row: bars of states, and a summary of reals."""
    by = f"{posterior.kind}, {posterior.engine}" if posterior.engine else posterior.kind
    head = f"posterior of {counted(len(posterior), 'variable')} ({by})"
    if not posterior.num_rows or not len(posterior):
        return stacked(text_line(str(posterior)))
    findings = {} if posterior.findings is None else posterior.findings.of_row(0)
    shown = posterior.variables[:_VARIABLES]
    rows = [line for v in shown for line in _lines_of(posterior, v, v.name in findings)]
    body = [html_table(rows, ("variable", "state", "", "probability"))] if rows else []
    body += _summaries(posterior)
    what = posterior.name_of_evidence
    tail = [what + str(posterior).rpartition(what)[2]]
    if len(posterior.variables) > _VARIABLES:
        tail.insert(0, f"... and {len(posterior.variables) - _VARIABLES:,} more variables")
    table = folded(head, Html(stacked(*body)), opened=True)
    return stacked(*_doubts(posterior), table, *map(text_line, tail))


def _summaries(posterior: Posterior) -> list[Html]:
    """Return the table of real variables, if there are any."""
    if not getattr(posterior, "reals", None):
        return []
    summary: Any = cast("WithReals", posterior).summary()
    lines = zip(summary.index, (summary.to_numpy().round(12) + 0.0).tolist(), strict=True)
    rows = [[name, *(f"{x:.4g}" for x in values)] for name, values in lines]
    omitted = len(rows) - _VARIABLES
    more = [text_line(f"... and {omitted:,} more: see .summary()")] if omitted > 0 else []
    return [html_table(rows[:_VARIABLES], ("variable", *summary.columns)), *more]


def _doubts(posterior: Posterior) -> list[Html]:
    """Return a bold line if an estimate has not converged."""
    text = diagnostics_text(posterior.diagnostics)
    doubtful = "not converged" in text
    return [Html(f"<div><b>{escaped(text)}</b></div>")] if doubtful else []


def _lines_of(posterior: Posterior, variable: Variable, is_observed: bool) -> list[list[object]]:
    """Return the lines of a discrete variable: the most probable states, or a summary."""
    plain = escaped(name_text(variable.name))
    name = Html(f"{plain} <i>observed</i>" if is_observed else plain)
    probs = posterior.probs(variable.name)
    probs = probs[0] if posterior.batched else probs
    if variable.shape:
        flat = probs.detach().cpu().reshape(-1).numpy()
        text = probability_table([variable], flat, max_cells=CELLS).split("\n", 1)[1]
        # the text begins with the name
        return [[Html("<i>observed</i>") if is_observed else "", "", "", preformatted(text)]]
    pairs = [*zip(variable.states or (), probs.tolist(), strict=True)]
    kept = sorted(sorted(range(len(pairs)), key=lambda k: -pairs[k][1])[:_STATES])
    lines: list[list[object]] = [
        ["", pairs[k][0], probability_bar(pairs[k][1]), f"{pairs[k][1]:.4g}"] for k in kept
    ]
    lines[0][0] = name
    if len(pairs) > _STATES:
        lines.append(["", f"... and {len(pairs) - _STATES} less probable states", "", ""])
    return lines


def assignment_html(assignment: Assignment) -> str:
    """Return the states of the first row."""
    return stacked(preformatted(assignment))


def without_nones(text: str) -> str:
    """Return the representation of settings without arguments that are None.

    Example:
        >>> without_nones("EM(prior=None, tolerance=0.1, engine=None)")
        'EM(tolerance=0.1)'
    """
    shorter = re.sub(r"\b\w+=None, ", "", text)
    return re.sub(r"(, )?\b\w+=None\)", ")", shorter)


def best_html(best: KBest) -> str:
    """Return the best assignments, a row for each, with their log probabilities."""
    logs = best.log_prob.detach().reshape(-1)[:_DRAWS].tolist()
    table = best.frame().head(_DRAWS)
    noun = "log score" if best.is_score else "log probability"
    header = (*(table.index.names), noun, *map(name_text, table.columns))
    ranks = [rank if isinstance(rank, tuple) else (rank,) for rank in table.index]
    lines = zip(ranks, logs, table.to_numpy(dtype=object).tolist(), strict=True)
    rows = [[*rank, f"{log:.6g}", *states] for rank, log, states in lines]
    return stacked(text_line(repr(best)), html_table(rows, header))


def marginal_html(probs: Tensor) -> str:
    """Return the probabilities of states by index; of arrays and batches, those of the first."""
    values = probs.detach().reshape(-1, probs.shape[-1])
    if not len(values):
        return stacked(text_line(f"no marginals, {tuple(probs.shape)}"))
    first = values[0].tolist()
    rows = [[k, probability_bar(p), f"{p:.4g}"] for k, p in enumerate(first[:_VARIABLES])]
    parts = [html_table(rows, ("index of state", "", "probability"))]
    if len(first) > _VARIABLES:
        parts.append(text_line(f"... and {len(first) - _VARIABLES:,} more states"))
    if len(values) > 1:
        parts.append(text_line(f"the first of {len(values):,}, {tuple(probs.shape)}"))
    return stacked(*parts)


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
    figures = [[_words(k), _short(v)] for k, v in history.items() if k not in ("trace", hidden)]
    trace = [
        [_words(k), sparkline([float(x) for x in v]), f"{v[0]:.6g} to {v[-1]:.6g}"]
        for k, v in history.get("trace", {}).items()
        if len(v)
    ]
    parts = [html_table(figures)] if figures else [text_line("not fitted")]
    return stacked(*parts, *([html_table(trace)] if trace else []))


def _words(name: object) -> str:
    return str(name).replace("_", " ")


def _short(value: Any) -> object:
    if isinstance(value, float):
        return f"{value:.6g}"
    text = without_nones(str(value))
    return text if len(text) <= _LETTERS else text[:_LETTERS] + "…"
