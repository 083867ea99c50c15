"""The M-step: each conditional is set to what fits its expected statistics best."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

from pgnn.factors.conditionals.causal_independence import CausalIndependence
from pgnn.factors.conditionals.exponential_family import ExponentialFamily
from pgnn.inference.learning.conditional_fit import gradient_step
from pgnn.inference.learning.expected_statistics import ExpectedStatistics, Pieces


def maximize(
    pieces: Pieces, expected: ExpectedStatistics, priors: Mapping[Hashable, Any]
) -> list[Hashable]:
    """Set learnable conditionals to what fits expected statistics best, in place.

    In closed form where there is one, by steps of L-BFGS otherwise.

    Args:
        pieces: The conditionals by name.
        expected: Their statistics.
        priors: What is believed of some of them beforehand, by name.

    Returns:
        Names of those that made no step though their gradient is not zero.
    """
    stuck = []
    for name, conditional in pieces.items():
        if name in expected.sums and isinstance(conditional, ExponentialFamily):
            conditional.maximize(expected.sums[name], priors.get(name))
        elif name in expected.sums and isinstance(conditional, CausalIndependence):
            conditional.maximize_effects(*expected.sums[name])
        elif name in expected.rows:
            rows = expected.rows[name]
            if not gradient_step(conditional, rows.values, rows.inputs, rows.weights):
                stuck.append(name)
    return stuck


def accepting(pieces: Pieces, prior: Any) -> dict[Hashable, Any]:
    """Return a prior for those conditionals that it applies to, by name."""
    families = {n: c for n, c in pieces.items() if isinstance(c, ExponentialFamily)}
    return {n: prior for n, c in families.items() if c.accepts(prior)}


def log_prior(pieces: Pieces, priors: Mapping[Hashable, Any]) -> float:
    """Return what the priors add to the log-likelihood."""
    total = 0.0
    for name, conditional in pieces.items():
        prior = priors.get(name)
        if prior is not None and isinstance(conditional, ExponentialFamily):
            total += float(conditional.log_prior(prior).detach())
    return total


def doubts(pieces: Pieces, expected: ExpectedStatistics) -> list[str]:
    """Return what is doubtful about conditionals that were estimated in closed form."""
    told = []
    for name, conditional in pieces.items():
        if name in expected.sums and isinstance(conditional, ExponentialFamily):
            told.append(conditional.doubt(expected.sums[name]))
    return [message for message in told if message is not None]
