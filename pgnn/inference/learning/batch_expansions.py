"""Expansions of the log-likelihood of batches, for conditionals without sufficient statistics."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Hashable, Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch.nn.functional import one_hot

from pgnn.errors import NotConverged, Unsupported
from pgnn.factors.conditionals.conditional import Conditional
from pgnn.factors.conditionals.data_start import by_configuration
from pgnn.factors.conditionals.distributional import Distributional
from pgnn.factors.conditionals.exponential_family import Statistics
from pgnn.factors.conditionals.renamed import bare
from pgnn.inference.learning.earlier_batches import EarlierBatches
from pgnn.inference.learning.expected_statistics import (
    ExpectedStatistics,
    Pieces,
    WeightedRows,
    learnable,
    tied,
)
from pgnn.inference.learning.newton import derivatives
from pgnn.inference.learning.optimisation_problem import LearnableParameters
from pgnn.inference.learning.term import Term

_FLAT = 0.01
"""Mean negative log probability in nats, up to which rows say too little about parameters."""
_MOST_WAITING = 100_000
"""Largest number of values in the rows that wait for rows of other classes."""
_MOST = 1000
"""Largest number of parameters whose second derivatives are stored."""


def with_earlier(
    pieces: Pieces, expected: ExpectedStatistics, earlier: Mapping[Hashable, Statistics]
) -> ExpectedStatistics:
    """Return statistics whose rows carry the log-likelihood of earlier batches.

    Args:
        pieces: The conditionals, by name.
        expected: Statistics of a batch.
        earlier: Precision and target of earlier batches, by name.

    Raises:
        Unsupported: If a conditional has too many parameters.
    """
    rows = dict(expected.rows)
    for name, *_ in _groups(pieces, expected):
        size = _size(name, pieces[name])
        nothing = torch.zeros(size, size).double(), torch.zeros(size).double()
        rows[name] = replace(rows[name], earlier=EarlierBatches(*earlier.get(name, nothing)))
    return replace(expected, rows=rows)


def expansions(pieces: Pieces, expected: ExpectedStatistics) -> dict[Hashable, Statistics]:
    """Return precision and target of rows by name, expanded at the current parameters.

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


def waiting_rows(pieces: Pieces, expected: ExpectedStatistics) -> dict[Hashable, WeightedRows]:
    """Return the rows, by name, whose log-likelihood has no useful expansion yet.

    These are rows of a single class, rows that determine a discrete variable almost surely, and
    rows with fewer values than a distribution has parameters: how much they say depends on other
    rows, which later batches may have.

    Args:
        pieces: The conditionals, by name, at parameters learned from the rows.
        expected: Statistics of a batch.
    """
    found: dict[Hashable, WeightedRows] = {}
    for names in _groups(pieces, expected):
        rows = {n: expected.rows[n] for n in names}
        terms = [Term.of(pieces[n], x) for n, x in rows.items()]
        if any(_says_too_little(t) for t in terms) and _has_room(rows):
            found |= rows
    return found


def released_rows(
    pieces: Pieces, waiting: Mapping[Hashable, WeightedRows], batch: ExpectedStatistics
) -> dict[Hashable, WeightedRows]:
    """Return the rows, by name, that wait no longer.

    There is no room for them beside those of a batch, or they cannot be joined with these because
    other variables of the conditional were observed.
    """
    found: dict[Hashable, WeightedRows] = {}
    for names in tied(learnable(pieces)):
        old = {n: waiting[n] for n in names if n in waiting}
        new = {n: batch.rows[n] for n in names if n in batch.rows}
        apart = any(not old[n].observes_as(x) for n, x in new.items() if n in old)
        if apart or not _has_room({**{(0, n): x for n, x in old.items()}, **new}):
            found |= old
    return found


def _has_room(rows: Mapping[Hashable, WeightedRows]) -> bool:
    """Whether rows are few enough to be kept in the history."""
    return sum(x.size for x in rows.values()) <= _MOST_WAITING


def missing_expansions(
    pieces: Pieces, expected: ExpectedStatistics, kept: Collection[Hashable]
) -> list[Hashable]:
    """Return the names of conditionals with rows of which earlier batches left no expansion."""
    return [names[0] for names in _groups(pieces, expected) if names[0] not in kept]


def _says_too_little(term: Term) -> bool:
    return _is_flat(term) or _is_of_one_class(term) or _has_few_values(term)


def _has_few_values(term: Term) -> bool:
    """Whether rows have too few different values for the maximum of a torch distribution.

    With no more values than parameters, a scale may go to zero, and the density to infinity. A
    single parameter has a maximum for one value.
    """
    piece = term.conditional
    x = term.values.get(piece.child.name)
    if not isinstance(piece, Distributional) or x is None or not piece.kind:
        return False
    each = by_configuration([v for v in piece.parents if v.is_discrete], term.values, term.weights)
    x = x.reshape(len(x), -1)
    rows = (each > 0) & ~x.isnan().any(dim=1, keepdim=True)
    free = piece.num_free_parameters // each.shape[1]
    needed = free if free == 1 else free + 1
    numbers = [len(x[mask].unique(dim=0)) for mask in rows.T]  # type: ignore[no-untyped-call]
    return any(0 < n < needed for n in numbers)


def _is_flat(term: Term) -> bool:
    """Whether the rows of a discrete variable have almost the largest log-likelihood, zero."""
    if not term.conditional.child.is_discrete:
        return False
    with torch.no_grad():
        return float(term.value()) > -_FLAT * float(term.weights.sum())


def _is_of_one_class(term: Term) -> bool:
    """Whether a discrete variable has almost always the same state in the rows."""
    child = term.conditional.child
    if not child.is_discrete or child.shape:
        return False
    if child.name in term.values:
        hot = one_hot(term.values[child.name].long(), child.num_states).double()
        counts = term.weights.reshape(len(hot), -1).sum(dim=1).double() @ hot
    else:  # the last axis of the weights
        counts = term.weights.double().reshape(-1, child.num_states).sum(dim=0)
    shares = counts / counts.sum()
    return float(-torch.xlogy(shares, shares).sum()) <= _FLAT


def _warn(name: Hashable) -> None:
    warning = NotConverged(
        f"the rows determine {name!r} almost surely, as those of a single class do, and are too "
        "many to be kept, or observe other variables: their log-likelihood is flat at the "
        "estimates, so that later batches forget them",
        "shuffle the rows, so that all batches are alike, or fit() all of them",
    )
    warnings.warn(warning, stacklevel=2)


def _expansion(terms: Sequence[Term]) -> Statistics:
    theta, gradient, hessian = derivatives(terms)
    # second derivatives of some densities are not known at their limits, as of many degrees of
    # freedom, where the density hardly depends on the parameter
    gradient, hessian = (np.where(np.isfinite(x), x, 0.0) for x in (gradient, hessian))
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
