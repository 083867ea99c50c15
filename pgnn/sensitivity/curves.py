"""A posterior probability as a function of one or of two entries of tables."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from pgnn.errors import EvidenceError
from pgnn.inference.engine import Engine
from pgnn.sensitivity.derivatives import relative_gradients
from pgnn.sensitivity.entry import Entry, place_of, table_of, with_entry
from pgnn.sensitivity.what_if import (
    Floats,
    check_hidden,
    check_network,
    question_text,
    read_evidence,
    read_target,
    with_states,
)


@dataclass(frozen=True)
class Curve:
    r"""The exact function :math:`p(t \mid e)(x) = (a + b x) / (c + d x)` of one entry.

    Attributes:
        entry: The entry.
        value: What it is now.
        coefficients: ``(a, b, c, d)``, scaled such that the evidence has probability one now.
        question: The probability as text, for pictures.

    Example:
        >>> line = Curve(Entry("a", 1), 0.5, (0.0, 1.0, 1.0, 0.0))
        >>> line(0.25), line.values_where(at_least=0.75)
        (0.25, (0.75, 1.0))
    """

    entry: Entry
    value: float
    coefficients: tuple[float, float, float, float]
    question: str = ""

    def __call__(self, x: ArrayLike) -> Any:
        """Return the posterior probability, NaN where the evidence would be impossible.

        Args:
            x: Values of the entry.

        Raises:
            EvidenceError: If one is not a probability.
        """
        a, b, c, d = self.coefficients
        at = _entries(x)
        y = _ratio(a + b * at, c + d * at)
        return float(y) if at.ndim == 0 else y

    def values_where(self, *, at_least: float) -> tuple[float, float] | None:
        """Return the interval of values for which the posterior is at least so large, if any."""
        a, b, c, d = self.coefficients
        slope, start = b - at_least * d, a - at_least * c  # start + slope x >= 0
        low, high = 0.0, 1.0
        if slope > 0:
            low = max(low, -start / slope)
        elif slope < 0:
            high = min(high, -start / slope)
        elif start < 0:
            return None
        return (low, high) if low <= high else None


@dataclass(frozen=True)
class Surface:
    r"""The exact function of two entries, a ratio of two bilinear ones.

    Attributes:
        entries: The two entries.
        values: What they are now.
        target: ``(2, 2)`` coefficients of :math:`1, y; x, xy` in the numerator.
        evidence: The same of the denominator.
        question: The probability as text, for pictures.
    """

    entries: tuple[Entry, Entry]
    values: tuple[float, float]
    target: Floats
    evidence: Floats
    question: str = ""

    def __call__(self, x: ArrayLike, y: ArrayLike) -> Any:
        """Return the posterior probability for values of the two entries, which broadcast.

        Raises:
            EvidenceError: If one is not a probability.
        """
        u, v = np.broadcast_arrays(_entries(x), _entries(y))
        terms = np.stack([np.ones_like(u), v, u, u * v])
        over, under = (np.tensordot(m.ravel(), terms, 1) for m in (self.target, self.evidence))
        z = _ratio(over, under)
        return float(z) if z.ndim == 0 else z


def curve(
    model: Any,
    target: Mapping[Hashable, Any],
    entry: Entry,
    evidence: Any = None,
    *,
    engine: Engine | None = None,
) -> Curve:
    """Return a posterior probability as a function of an entry of a table.

    The other entries of its row are rescaled in proportion.

    Args:
        model: A Bayesian network.
        target: A state of a variable that was not observed.
        entry: The entry.
        evidence: One row of evidence.
        engine: An exact engine.

    Raises:
        EvidenceError: If the target, the entry or the evidence is wrong.
        ImpossibleEvidence: If the evidence has probability zero.

    References:
        Castillo, Gutierrez and Hadi (1997), Sensitivity analysis in discrete Bayesian networks.

    Example:
        >>> from pgnn.models import BayesianNetwork
        >>> model = BayesianNetwork([("a", "b")], {"a": [0.5, 0.5], "b": [[0.9, 0.1], [0.2, 0.8]]})
        >>> line = curve(model, {"a": 1}, Entry("b", 1, {"a": 0}), {"b": 1})
        >>> round(line(0.1), 4), round(line(0.8), 4)
        (0.8889, 0.5)
    """
    network = check_network(model)
    place = place_of(network, entry)
    value = float(table_of(network.conditionals[entry.variable])[place])
    (log_e, log_te), (by_e, by_te) = _two_rows(network, target, entry, evidence, engine)
    probability = float(np.exp(log_te - log_e))
    coefficients = probability - value * by_te, by_te, 1.0 - value * by_e, by_e
    question = question_text(network, target, read_evidence(network, evidence))
    return Curve(entry, value, coefficients, question)


def surface(
    model: Any,
    target: Mapping[Hashable, Any],
    entries: tuple[Entry, Entry],
    evidence: Any = None,
    *,
    engine: Engine | None = None,
) -> Surface:
    """Return a posterior probability as a function of two entries of different rows.

    Args:
        model: A Bayesian network.
        target: A state of a variable that was not observed.
        entries: The two entries.
        evidence: One row of evidence.
        engine: An exact engine.

    Raises:
        EvidenceError: If the target, an entry or the evidence is wrong, or both are of one row.
        ImpossibleEvidence: If the evidence has probability zero.

    References:
        Chan and Darwiche (2004), Sensitivity analysis in Bayesian networks: from single to multiple
        parameters.
    """
    first, second = entries
    network = check_network(model)
    places = [place_of(network, e) for e in entries]
    if first.variable == second.variable and places[0][:-1] == places[1][:-1]:
        raise EvidenceError(
            f"both entries are in one row of the table of {first.variable!r}, which must sum to "
            "one",
            "choose two rows",
        )
    now = float(table_of(network.conditionals[second.variable])[places[1]])
    # bilinear in the two: lines in the first at two values of the second
    ends = sorted({now, 0.0 if now > 0.5 else 1.0}, key=lambda y: y != now)
    lines, scale = [], None
    for y in ends:
        moved = with_entry(network, second, y)
        x = float(table_of(moved.conditionals[first.variable])[places[0]])
        logs, slopes = _two_rows(moved, target, first, evidence, engine, scale)
        scale = logs[0] if scale is None else scale
        values = [float(np.exp(log - scale)) for log in logs]
        lines.append([[p - x * b, b] for p, b in zip(values, slopes, strict=True)])
    at_now, at_other = (np.array(line) for line in lines)
    rise = (at_other - at_now) / (ends[1] - ends[0])
    under, over = (np.stack([at_now[k] - now * rise[k], rise[k]], axis=1) for k in (0, 1))
    x_now = float(table_of(network.conditionals[first.variable])[places[0]])
    question = question_text(network, target, read_evidence(network, evidence))
    return Surface(entries, (x_now, now), over, under, question)


def _two_rows(
    model: Any,
    target: Mapping[Hashable, Any],
    entry: Entry,
    evidence: Any,
    engine: Engine | None,
    scale: float | None = None,
) -> tuple[tuple[float, float], tuple[float, float]]:
    """Logs of p(e) and p(t, e), and both derivatives by the entry divided by the scale."""
    observed = read_evidence(model, evidence)
    if observed.num_rows != 1:
        raise EvidenceError(f"a curve needs exactly one row of evidence, got {observed.num_rows}")
    variable, code = read_target(model, target)
    check_hidden(model, observed, variable.name)
    place = place_of(model, entry)
    given = None if scale is None else np.array([scale])
    log_e, by_e = relative_gradients(model, observed, given, engine=engine)
    both = with_states(model, observed, variable.name, np.array([code]))
    log_te, by_te = relative_gradients(
        model, both, log_e if given is None else given, engine=engine
    )
    name = entry.variable
    return (
        (float(log_e[0]), float(log_te[0])),
        (float(by_e[name][0][place]), float(by_te[name][0][place])),
    )


def _entries(x: ArrayLike) -> Floats:
    """Values of an entry of a table.

    Raises:
        EvidenceError: If one is not a probability.
    """
    values = np.asarray(x)
    if values.dtype.kind not in "iuf" or not ((values >= 0) & (values <= 1)).all():
        raise EvidenceError(f"an entry of a table must be a probability between 0 and 1, got {x!r}")
    return values.astype(float)


def _ratio(over: Floats, under: Floats) -> Floats:
    positive = under > 1e-300
    return np.where(positive, over / np.where(positive, under, 1.0), np.nan)
