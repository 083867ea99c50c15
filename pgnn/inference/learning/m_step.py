"""The M-step: each conditional maximises its expected log-likelihood."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

from pgnn.errors import AdvisedWarning
from pgnn.factors.conditionals.causal_independence import CausalIndependence
from pgnn.factors.conditionals.exponential_family import ExponentialFamily, Statistics, check_sums
from pgnn.factors.conditionals.parameter_prior import ParameterPrior
from pgnn.factors.conditionals.renamed import bare
from pgnn.inference.learning.conditional_fit import fit_terms
from pgnn.inference.learning.expected_statistics import ExpectedStatistics, Pieces, tied
from pgnn.inference.learning.term import Term

_ITERATIONS = 20
"""Number of L-BFGS iterations of conditionals without a closed form."""
_WITH_PRIOR = 50
"""Number of L-BFGS iterations with a prior on parameters."""
_OF_A_BATCH = 500
"""Number of L-BFGS iterations in a batch, which is learned from once."""


def maximize(
    pieces: Pieces, expected: ExpectedStatistics, priors: Mapping[Hashable, Any]
) -> list[Hashable]:
    """Maximise the expected log-likelihood of learnable conditionals, in place.

    In closed form if there is one, by L-BFGS steps otherwise. Conditionals that share parameters
    are updated together, from the sum of their statistics.

    Args:
        pieces: The conditionals by name.
        expected: Their statistics.
        priors: Priors by name; for conditionals that share parameters that of the first one is
            used.

    Returns:
        Names of those that made no step although their gradient is not zero.
    """
    stuck: list[Hashable] = []
    for names in tied(pieces):
        closed = [n for n in names if n in expected.sums]
        if closed:
            conditional, sums = bare(pieces[names[0]]), _added([expected.sums[n] for n in closed])
            if isinstance(conditional, ExponentialFamily):
                check_sums(conditional, sums)
                conditional.maximize(sums, priors.get(names[0]))
            elif isinstance(conditional, CausalIndependence):
                conditional.maximize_effects(*sums)
        terms = [Term.of(pieces[n], expected.rows[n]) for n in names if n in expected.rows]
        prior = priors.get(names[0])
        prior = prior if isinstance(prior, ParameterPrior) else None
        most = _ITERATIONS if prior is None else _WITH_PRIOR
        if any(t.earlier is not None for t in terms):
            most = _OF_A_BATCH
        stuck += [] if not terms or fit_terms(terms, prior, most).moved else names
    return stuck


def accepting(pieces: Pieces, prior: Any) -> dict[Hashable, Any]:
    """Return a prior by name for the conditionals to which it applies."""
    if isinstance(prior, ParameterPrior):
        return {n: prior for n, c in pieces.items() if prior.applies(c)}
    families = {n: c for n, c in pieces.items() if isinstance(c, ExponentialFamily)}
    return {n: prior for n, c in families.items() if c.accepts(prior)}


def log_prior(pieces: Pieces, priors: Mapping[Hashable, Any]) -> float:
    """Return the log prior, which is added to the log-likelihood."""
    total = 0.0
    if not priors:
        return total
    for name, *_ in tied(pieces):
        prior, conditional = priors.get(name), pieces[name]
        if isinstance(prior, ParameterPrior):
            total += float(prior.log_density(bare(conditional)).detach())
        elif prior is not None and isinstance(conditional, ExponentialFamily):
            total += float(conditional.log_prior(prior).detach())
    return total


def doubts(pieces: Pieces, expected: ExpectedStatistics) -> list[AdvisedWarning]:
    """Return concerns about conditionals that were estimated in closed form."""
    messages = []
    for name, conditional in pieces.items():
        if name in expected.sums and isinstance(conditional, ExponentialFamily):
            messages.append(conditional.doubt(expected.sums[name]))
    return [message for message in messages if message is not None]


def _added(parts: Sequence[Statistics]) -> Statistics:
    return tuple(sum(each[1:], start=each[0]) for each in zip(*parts, strict=True))
