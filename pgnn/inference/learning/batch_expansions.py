"""Expansions of the log-likelihood of batches, for conditionals without sufficient statistics."""

from __future__ import annotations

import warnings
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch

from pgnn.errors import DataError, NotConverged, Unsupported
from pgnn.factors.conditionals.conditional import Conditional
from pgnn.factors.conditionals.distributional import Distributional
from pgnn.factors.conditionals.exponential_family import Statistics
from pgnn.factors.conditionals.renamed import bare
from pgnn.inference.learning.conditional_fit import Term
from pgnn.inference.learning.earlier_batches import EarlierBatches
from pgnn.inference.learning.expected_statistics import (
    ExpectedStatistics,
    Pieces,
    learnable,
    tied,
)
from pgnn.inference.learning.optimisation_problem import LearnableParameters
from pgnn.inference.learning.penalised_fit import derivatives

_FLAT = 0.01
"""Mean negative log probability in nats, up to which rows say too little about parameters."""
_MOST = 1000
"""Largest number of parameters whose second derivatives are stored."""


def with_earlier(
    pieces: Pieces,
    expected: ExpectedStatistics,
    earlier: Mapping[Hashable, Statistics],
    scale: float,
) -> ExpectedStatistics:
    """Return statistics whose rows carry the log-likelihood of earlier batches.

    Args:
        pieces: The conditionals, by name.
        expected: Statistics of a batch.
        earlier: Precision and target of earlier batches, by name.
        scale: Factor of the weights of the batch.

    Raises:
        Unsupported: If a conditional has too many parameters.
        DataError: If a first batch has too few values for a maximum.
    """
    rows = {n: replace(x, weights=x.weights * scale) for n, x in expected.rows.items()}
    for name, *_ in _groups(pieces, expected):
        size = _size(name, pieces[name])
        nothing = torch.zeros(size, size).double(), torch.zeros(size).double()
        rows[name] = replace(rows[name], earlier=EarlierBatches(*earlier.get(name, nothing)))
        _check_enough(Term.of(pieces[name], rows[name]))
    return replace(expected, rows=rows)


def _check_enough(term: Term) -> None:
    """Check that the first values of a distribution differ, so that its likelihood has a maximum.

    Raises:
        DataError: If there are no more different values than parameters.
    """
    piece, first = term.conditional, term.earlier is not None and term.earlier.are_none
    x = term.values.get(piece.child.name)
    if not (first and isinstance(piece, Distributional) and x is not None and piece.kind):
        return
    counted = (term.weights > 0).reshape(len(term.weights), -1).any(dim=1)
    x = x.reshape(len(x), -1)[counted & ~x.reshape(len(x), -1).isnan().any(dim=1)]
    different = x.unique(dim=0)  # type: ignore[no-untyped-call]
    number, needed = len(different), len(piece.unconstrained) + 1
    if 0 < number < needed:
        raise DataError(
            f"the first batch has {number} different values of {piece.child.name!r}, from which "
            f"{piece.kind_name} cannot be approximated for later batches",
            f"begin with at least {needed} different values",
        )


def expansions(pieces: Pieces, expected: ExpectedStatistics) -> dict[Hashable, Statistics]:
    """Return precision and target of a batch by name, expanded at the current parameters.

    Warns:
        NotConverged: If the rows determine a discrete variable almost surely, as those of a single
            class do: their log-likelihood is flat there, and has no useful expansion.
    """
    found: dict[Hashable, Statistics] = {}
    for names in _groups(pieces, expected):
        terms = [Term.of(pieces[n], expected.rows[n]) for n in names]
        flat = [t.conditional.child.name for t in terms if _is_flat(t)]
        if flat:
            _warn(flat[0])
        found[names[0]] = _expansion(terms)
    return found


def missing_expansions(
    pieces: Pieces, expected: ExpectedStatistics, kept: Mapping[Hashable, Statistics]
) -> list[Hashable]:
    """Return the names of conditionals with rows of which earlier batches left no expansion."""
    return [names[0] for names in _groups(pieces, expected) if names[0] not in kept]


def _is_flat(term: Term) -> bool:
    """Whether the rows of a discrete variable have almost the largest log-likelihood, zero."""
    if not term.conditional.child.is_discrete:
        return False
    with torch.no_grad():
        return float(term.value()) > -_FLAT * float(term.weights.sum())


def _warn(name: Hashable) -> None:
    warning = NotConverged(
        f"the rows of this batch determine {name!r} almost surely, as those of a single class do: "
        "its log-likelihood is flat at the estimates, so that later batches forget it",
        "shuffle the rows, so that all batches are alike, or fit() all of them",
    )
    warnings.warn(warning, stacklevel=2)


def _expansion(terms: Sequence[Term]) -> Statistics:
    theta, gradient, hessian = derivatives(terms)
    # where the log-likelihood is not concave, so that a maximum exists
    values, axes = np.linalg.eigh(-0.5 * (hessian + hessian.T))
    precision = (axes * np.abs(values)) @ axes.T
    return torch.from_numpy(precision), torch.from_numpy(gradient + precision @ theta)


def _groups(pieces: Pieces, expected: ExpectedStatistics) -> list[list[Hashable]]:
    """Names with rows, grouped by shared learnable parameters."""
    groups = [[n for n in names if n in expected.rows] for names in tied(learnable(pieces))]
    return [names for names in groups if names]


def _size(name: Hashable, conditional: Conditional) -> int:
    size = sum(LearnableParameters(bare(conditional)).sizes)
    if size > _MOST:
        raise Unsupported(
            f"the {type(bare(conditional)).__name__} of {name!r} has no sufficient statistics, "
            f"and with {size:,} parameters (at most {_MOST:,}) no quadratic approximation of the "
            "log-likelihood of earlier batches, which partial_fit() would forget",
            "fit() all rows, with Gradient(optimizer=..., batch_size=...) if they are many",
        )
    return size
