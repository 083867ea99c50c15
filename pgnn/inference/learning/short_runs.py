"""Starts of mixtures whose components are of different kinds: the best of short runs."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import torch
from torch import Tensor

from pgnn.errors import PgnnError
from pgnn.inference.learning.expected_statistics import ExpectedStatistics

_STEPS = 10
"""Number of EM steps from each start that is compared."""
_ORDERS = 6
"""Largest number of orders of the clusters that are compared."""
_ROWS = 2000
"""Largest number of rows on which starts are compared."""


class Learnable(Protocol):
    """The part of an E-step that short runs need."""

    model: Any

    def expect(self, observed: Any) -> ExpectedStatistics:
        """Return expected statistics."""

    def improve(self, expected: ExpectedStatistics, priors: Any) -> Any:
        """Run an M-step."""


def start_by_short_runs(
    e_step: Learnable,
    observed: Any,
    shares: Tensor,
    counted: Callable[[Any, Tensor], ExpectedStatistics],
    generator: torch.Generator,
) -> None:
    """Set the parameters to the best of several starts after a few steps of EM each.

    The starts are orders of the clusters, since it matters which component has which, and one in
    which every component has about the same share of all rows.

    Args:
        e_step: The E-step of a mixture.
        observed: The training data.
        shares: ``(B, K)`` share of each row in each cluster.
        counted: Function that returns the statistics of rows with shares ``(B, K)``.
        generator: Random generator.

    References:
        Biernacki, Celeux and Govaert (2003), Choosing starting values for the EM algorithm.
    """
    if observed.num_rows > _ROWS:
        few = torch.randperm(observed.num_rows, generator=generator)[:_ROWS]
        observed, shares = observed.take(few.numpy()), shares[few]
    before = _copied(e_step.model)
    best, value = before, -math.inf
    for share in _candidates(shares, generator):
        e_step.model.load_state_dict(before)
        try:
            found = _run(e_step, observed, counted(observed, share))
        except (PgnnError, ValueError):  # invalid parameters of a distribution
            continue
        if found > value:
            best, value = _copied(e_step.model), found
    e_step.model.load_state_dict(best)


def _candidates(shares: Tensor, generator: torch.Generator) -> Iterator[Tensor]:
    """Yield the starts as shares ``(B, K)``."""
    rows, size = shares.shape
    if math.factorial(size) <= _ORDERS:
        for order in itertools.permutations(range(size)):
            yield shares[:, list(order)]
    else:
        for _ in range(_ORDERS):
            yield shares[:, torch.randperm(size, generator=generator)]
    even = torch.empty(rows, size, dtype=shares.dtype).uniform_(0.9, 1.1, generator=generator)
    yield even / even.sum(dim=1, keepdim=True) * shares.sum(dim=1, keepdim=True)


def _run(e_step: Learnable, observed: Any, expected: ExpectedStatistics) -> float:
    """Return the log-likelihood after a few steps."""
    value = -math.inf
    for _ in range(_STEPS):
        e_step.improve(expected, {})
        expected = e_step.expect(observed)
        value = expected.log_likelihood
    return value


def _copied(model: Any) -> dict[str, Tensor]:
    return {n: x.clone() for n, x in model.state_dict().items()}
