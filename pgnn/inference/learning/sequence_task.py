"""Sequences that a model over time is fitted to by expected counts."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from pgnn.errors import DataError
from pgnn.evidence.sequences import Sequences
from pgnn.inference.engine import Inputs
from pgnn.inference.learning.statistics import check_weights


@dataclass(frozen=True, eq=False)
class SequenceTask:
    """Sequences, what each counts, and what is believed of the parameters beforehand.

    Attributes:
        seen: The sequences.
        weights: ``(B,)`` what each counts.
        inputs: Covariates ``(B, T, ...)``.
        priors: By place.
    """

    seen: Sequences
    weights: Tensor
    inputs: Mapping[Hashable, Tensor] = field(default_factory=dict)
    priors: Mapping[Hashable, Any] = field(default_factory=dict)

    @classmethod
    def read(
        cls,
        model: Any,
        data: Any,
        weights: Any,
        inputs: Inputs | None,
        priors: Mapping[Hashable, Any],
    ) -> SequenceTask:
        """Read sequences in any form that evidence over time has.

        Raises:
            DataError: If there are no steps, or the weights are wrong or all zero.
        """
        seen = Sequences.of(model, data)
        if not int(seen.lengths.sum()):
            raise DataError("there are no steps to learn from")
        counted = torch.ones(seen.num_rows, dtype=torch.float64)
        if weights is not None:
            counted = torch.from_numpy(check_weights(weights, seen.num_rows))
        if not float(counted.sum()) > 0:
            raise DataError("the weights are all zero")
        return cls(seen, counted, model.covariates(inputs, seen), priors)

    def part(self, rows: Tensor) -> SequenceTask:
        """Return some of the sequences."""
        steps = int(self.seen.lengths[rows].max())
        inputs = {n: x[rows, :steps] for n, x in self.inputs.items()}
        return SequenceTask(self.seen.rows(rows, steps), self.weights[rows], inputs, self.priors)

    def check_possible(self, log_z: Tensor) -> None:
        """Check that every sequence that counts has some probability.

        Raises:
            DataError: If one has none.
        """
        lost = (log_z.isneginf() & (self.weights.to(log_z.device) > 0)).nonzero()[:, 0].tolist()
        if lost:
            raise DataError(
                f"{len(lost)} of {len(log_z)} sequences have probability zero under the present "
                f"parameters (first: {lost[0]}); start elsewhere, or use a prior"
            )

    def total(self, log_z: Tensor) -> Tensor:
        """Return the weighted sum of log probabilities, without what counts nothing."""
        weights = self.weights.to(log_z)
        return (weights * log_z.masked_fill(weights == 0, 0.0)).sum()
