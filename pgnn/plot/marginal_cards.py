"""Posterior marginals as cards."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from torch.distributions import Categorical

from pgnn.errors import EvidenceError
from pgnn.factors.html import name_text
from pgnn.plot.cards import Bar, Card, Mark
from pgnn.plot.density_curve import density_curve_of
from pgnn.plot.heat_map import heat_map_of
from pgnn.plot.interval_chart import interval_chart_of
from pgnn.plot.sketch import Sketch

if TYPE_CHECKING:
    from pgnn.inference.posterior import Posterior

RowFindings = Mapping[Hashable, Any]
"""What was observed in a row, see :meth:`pgnn.inference.findings.Findings.of_row`."""


def marginal_cards(
    posterior: Posterior,
    names: Collection[Hashable],
    *,
    before: Posterior | None = None,
    findings: RowFindings,
    row: int,
    max_states: int,
) -> dict[Hashable, Card]:
    """Return a card for each variable.

    Args:
        posterior: The marginals.
        names: Names of the variables.
        before: Marginals to compare with, of which the first row is used.
        findings: The evidence.
        row: Row of a batch.
        max_states: Largest number of lines of a card; the last one sums the least probable states.

    Raises:
        EvidenceError: If the row does not exist.
    """
    if not 0 <= row < posterior.num_rows:
        raise EvidenceError(
            f"row must be below {posterior.num_rows}, the number of rows, got {row}"
        )
    probs = {n: _probs(posterior, n, row) for n in names}
    compared = {} if before is None else {n: _probs(before, n, 0) for n in names if n in before}
    most = _changed_most(probs, compared, findings)
    variables = {v.name: v for v in posterior.variables}
    cards: dict[Hashable, Card] = {}
    for name, values in probs.items():
        mark = mark_of(name, findings, most)
        bars: Sequence[Bar] = _summary_lines(posterior, before, name, row, findings.get(name))
        if values is not None:
            states = variables[name].states or ()
            errors = _errors(posterior, name, row)
            bars = _bars(states, values, compared.get(name), findings.get(name), errors)
        sketch = None if values is not None else _sketch(posterior, before, name, row)
        if sketch is not None and sketch.caption:
            bars = [*bars, Bar(sketch.caption)]
        lines = bars if values is None else _abridged(bars, max_states)
        cards[name] = Card(name_text(name), lines, mark, sketch=sketch)
    return cards


def findings_of(posterior: Posterior | None, row: int) -> RowFindings:
    """Return what a posterior was given, as far as it is known.

    Raises:
        EvidenceError: If the row does not exist.
    """
    findings = None if posterior is None else posterior.findings
    return {} if findings is None else findings.of_row(row)


def mark_of(name: Hashable, findings: RowFindings, most: Hashable | None) -> Mark:
    """Return the mark of a variable, given the variable ``most`` that changed most."""
    if name in findings:
        return Mark.EVIDENCE if findings[name] is None else Mark.OBSERVED
    return Mark.CHANGED if most is not None and name == most else Mark.NONE


def _probs(posterior: Posterior, name: Hashable, row: int) -> np.ndarray | None:
    """Return ``(K,)`` probabilities; None for reals and arrays."""
    marginal: Any = posterior[name]
    if not isinstance(marginal, Categorical):
        return None
    probs = marginal.probs.detach().cpu().numpy()
    if posterior.batched:
        probs = probs[row]
    return probs if probs.ndim == 1 else None


def _changed_most(
    probs: Mapping[Hashable, Any], before: Mapping[Hashable, Any], findings: RowFindings
) -> Hashable | None:
    """Return the unobserved variable that changed most, in total variation."""
    distances = {
        n: 0.5 * float(np.abs(p - before[n]).sum())
        for n, p in probs.items()
        if p is not None and before.get(n) is not None and n not in findings
    }
    most = max(distances, key=distances.__getitem__, default=None)
    return most if most is not None and distances[most] > 1e-9 else None


def _bars(
    states: Sequence[Hashable],
    probs: np.ndarray,
    before: np.ndarray | None,
    observed: Any,
    errors: np.ndarray | None,
) -> list[Bar]:
    none: Sequence[float | None] = [None] * len(probs)
    ticks = none if before is None else before.tolist()
    wide = none if errors is None else errors.tolist()
    return [
        Bar(str(state), p, tick, observed=observed is not None and state == observed, error=error)
        for state, p, tick, error in zip(states, probs.tolist(), ticks, wide, strict=True)
    ]


def _errors(posterior: Posterior, name: Any, row: int) -> np.ndarray | None:
    """Return ``(K,)`` standard errors of probabilities, if the engine knows them."""
    known = posterior.diagnostics.get("standard_error")
    if not isinstance(known, Mapping):
        return None
    if name in known:
        errors = known[name]
    elif isinstance(name, tuple) and name[0] in known:
        errors = known[name[0]][(..., *name[1:], slice(None))]
    else:
        return None
    return np.asarray((errors[row] if posterior.batched else errors).numpy(force=True))


def _sketch(
    posterior: Posterior, before: Posterior | None, name: Hashable, row: int
) -> Sketch | None:
    """Return the picture of a real variable or an array."""
    variable = next((v for v in posterior.variables if v.name == name), None)
    if variable is not None:
        probs = posterior.probs(name)
        return heat_map_of(variable, probs[row] if posterior.batched else probs)
    marginal: Any = posterior[name]
    if _is_single(posterior, name):
        was = before[name] if before is not None and name in before else None
        return density_curve_of(marginal, row, was)
    return interval_chart_of(marginal, row if posterior.batched else None)


def _is_single(posterior: Posterior, name: Hashable) -> bool:
    """Whether a target is a real number in each row."""
    marginal: Any = posterior[name]
    return not isinstance(marginal, Categorical) and marginal.mean.dim() <= int(posterior.batched)


def finding_lines(finding: Any) -> list[Bar]:
    """Return the line that says what was observed of a variable without bars."""
    if finding is None:
        return []
    number = isinstance(finding, float)
    return [Bar(f"{finding:.6g}" if number else str(finding), observed=True)]


def _summary_lines(
    posterior: Posterior, before: Posterior | None, name: Hashable, row: int, finding: Any
) -> list[Bar]:
    """Return the lines of a real variable or an array."""
    now = _summary(posterior, name, row)
    lines = [*finding_lines(finding), Bar(now), *_interval(posterior, name, row)]
    if before is not None and name in before:
        was = _summary(before, name, 0)
        lines += [Bar(f"was {was}")] if was != now and was.startswith("mean") else []
    return lines


def _interval(posterior: Posterior, name: Hashable, row: int) -> list[Bar]:
    """Return the line with two quantiles of a real variable."""
    marginal: Any = posterior[name]
    if not _is_single(posterior, name) or not hasattr(marginal, "quantile"):
        return []
    ends = marginal.quantile((0.05, 0.95)).detach()
    low, high = (float(x[row] if x.dim() else x) for x in ends)
    return [Bar(f"5% {low:.3g}, 95% {high:.3g}")]


def _summary(posterior: Posterior, name: Hashable, row: int) -> str:
    """Return the summary line of a real variable or an array."""
    marginal: Any = posterior[name]
    lead = 1 if posterior.batched else 0
    if isinstance(marginal, Categorical):
        return f"{' x '.join(map(str, tuple(marginal.batch_shape)[lead:]))} values"
    mean, std = marginal.mean.detach(), marginal.std.detach()
    if mean.dim() > lead:
        return f"{' x '.join(map(str, tuple(mean.shape)[lead:]))} values"
    at = min(row, len(mean) - 1) if mean.dim() else ...
    error = marginal.standard_error if hasattr(marginal, "standard_error") else None
    wide = "" if error is None or error[at].isnan() else f" (se {float(error[at]):.2g})"
    return f"mean {float(mean[at]):.4g}{wide}, sd {float(std[at]):.3g}"


def _abridged(bars: Sequence[Bar], lines: int) -> Sequence[Bar]:
    """Return bars of the most probable states, and one for all others."""
    if len(bars) <= lines:
        return bars
    ranked = sorted(bars, key=lambda b: (b.observed, b.probability or 0.0), reverse=True)
    kept = {id(bar) for bar in ranked[: max(1, lines - 1)]}
    rest = [bar for bar in bars if id(bar) not in kept]
    total = min(1.0, sum(bar.probability or 0.0 for bar in rest))
    before = [bar.before for bar in rest if bar.before is not None]
    last = Bar(f"{len(rest)} more", total, min(1.0, sum(before)) if before else None)
    return [*(bar for bar in bars if id(bar) in kept), last]
