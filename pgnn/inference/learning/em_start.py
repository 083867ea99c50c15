"""One start of expectation maximisation: parameters of its own, and how far they have come."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping
from typing import Any, Protocol

import numpy as np
import torch

from pgnn.errors import DataError
from pgnn.evidence.sequences import Sequences
from pgnn.factors.conditionals.conditional import Conditional
from pgnn.factors.conditionals.exponential_family import ExponentialFamily
from pgnn.factors.conditionals.tabular import Tabular
from pgnn.inference.learning.e_step import EStep
from pgnn.inference.learning.expected_statistics import (
    ExpectedStatistics,
    improve,
    log_prior,
)

_FALL = 1e-8
"""Relative fall of the value that rounding explains."""


class Pace(Protocol):
    """How a start steps."""

    @property
    def batch_size(self) -> int | None:
        """Sequences for each step of streaming EM."""

    @property
    def decay(self) -> float:
        """Power by which streaming EM forgets."""

    @property
    def tolerance(self) -> float:
        """Relative gain at which to stop."""


class EMStart:
    """A model of its own that climbs by passes over the sequences.

    Args:
        e_step: Expectations under the model, whose parameters are changed.
        seen: The sequences.
        priors: What is believed of the conditionals beforehand, by place.
        pace: How to step.
        seed: Of the start and of the order of batches.

    Attributes:
        trace: ``log_likelihood`` and ``objective`` of each pass.
        done: Whether nothing is to be gained by further passes.
        converged: Whether that is because the value came to rest.
        fell: From where to where the value fell, if it did.
    """

    def __init__(
        self,
        e_step: EStep,
        seen: Sequences,
        priors: Mapping[Hashable, Any],
        pace: Pace,
        seed: int,
    ) -> None:
        self.e_step, self.seen, self.priors = e_step, seen, priors
        self.pace, self._seed = pace, seed
        self.trace: dict[str, list[float]] = {"log_likelihood": [], "objective": []}
        self.done = self.converged = False
        self.fell: tuple[float, float] | None = None
        self._value, self._steps = -math.inf, 0
        self._sums: ExpectedStatistics | None = None
        self._rng = np.random.default_rng(seed)

    @property
    def streams(self) -> bool:
        """Whether it learns batch by batch."""
        return self.pace.batch_size is not None

    def begin(self, disturb: bool) -> None:
        """Begin with clusters of what was seen; with chances of its own on restarts."""
        chance = torch.Generator().manual_seed(self._seed)
        for place, conditional in self.e_step.places.items():
            own = int(torch.randint(2**31, (), generator=chance))
            self._begin_at(place, conditional, own, chance if disturb else None)

    def value(self) -> float:
        """Log-likelihood and log prior at the present parameters."""
        with torch.no_grad():
            log_z = self.e_step.log_partition(self.seen)
        return float(self.seen.weighted_sum(log_z.double())) + self._log_prior()

    def advance(self, found: ExpectedStatistics | None = None) -> None:
        """One pass: an E-step, whether that was a gain, and an M-step.

        Args:
            found: What the E-step finds, where that is known already.

        Raises:
            DataError: If a sequence is impossible, or the value is no number.
        """
        if self.streams:
            self._stream()
            return
        found = self.e_step.expect(self.seen) if found is None else found
        value = found.log_likelihood + self._log_prior()
        before, scale = self._note(found.log_likelihood, value), max(abs(value), 1.0)
        if value < before - _FALL * scale:
            self.done, self.fell = True, (before, value)
        elif value - before <= self.pace.tolerance * scale:
            self.done = self.converged = True
        else:
            improve(self.e_step.places, found, self.priors)

    def _stream(self) -> None:
        """One pass of streaming EM over batches in random order."""
        seen, size = self.seen, self.pace.batch_size or 1
        order = torch.from_numpy(self._rng.permutation(seen.num_rows))
        everything = float(seen.row_weights.sum())
        for rows in order.split(size):  # type: ignore[no-untyped-call]
            part = seen.take(rows)
            if not int(part.lengths.sum()) or not float(part.row_weights.sum()):
                continue
            found = self.e_step.expect(part)
            share = (self._steps + 2.0) ** -self.pace.decay if self._sums else 1.0
            self._sums = (self._sums or found).mixed(found, share, everything / found.weight)
            self._steps += 1
            improve(self.e_step.places, self._sums, self.priors)
        value = self.value()
        before = self._note(value - self._log_prior(), value)
        near = abs(value - before) <= self.pace.tolerance * max(abs(value), 1.0)
        self.done = self.converged = near

    def _begin_at(
        self,
        place: Hashable,
        conditional: Conditional,
        seed: int,
        chance: torch.Generator | None,
    ) -> None:
        values = self.e_step.start_values(place, self.seen)
        if values is not None:
            if isinstance(conditional, ExponentialFamily):
                conditional.initialize(values, seed)
        elif chance is not None and isinstance(conditional, Tabular):
            with torch.no_grad():
                noise = torch.rand(conditional.logits.shape, generator=chance).double()
                conditional.logits.add_(noise)

    def _note(self, log_likelihood: float, value: float) -> float:
        """Record a value; return the one before."""
        if not math.isfinite(value):
            raise DataError(f"the log-likelihood became {value}; use a prior or other starts")
        self.trace["log_likelihood"].append(log_likelihood)
        self.trace["objective"].append(value)
        before, self._value = self._value, value
        return before

    def _log_prior(self) -> float:
        return log_prior(self.e_step.places, self.priors)
