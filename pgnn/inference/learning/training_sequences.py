"""Sequences that models over time learn from, and their likelihood as an objective."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pgnn.errors import DataError, EvidenceError, Unsupported
from pgnn.evidence.sequences import AXIS, Sequences
from pgnn.inference.engine import Engine, Inputs
from pgnn.inference.learning.climb import Mean
from pgnn.inference.learning.statistics import check_weights

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class TrainingSequences:
    """What was seen in ``N`` sequences, and what each of them counts.

    Attributes:
        seen: The sequences.
        weights: ``(N,)``.
        inputs: ``(N, T, ...)`` covariates.
    """

    seen: Sequences
    weights: Floats
    inputs: Mapping[Hashable, Tensor] = field(default_factory=dict)

    @classmethod
    def read(
        cls, model: Any, data: Any, weights: Any = None, inputs: Inputs | None = None
    ) -> TrainingSequences:
        """Read sequences in any form that evidence over time has.

        Raises:
            DataError: If there is nothing to learn from, or something is wrong with it.
        """
        try:
            seen = Sequences.of(model, data)
            given = model.covariates(inputs, seen)
        except EvidenceError as error:
            raise DataError(str(error)) from None
        if not seen.num_rows or not seen.steps:
            raise DataError("there are no steps to learn from")
        counts = np.ones(seen.num_rows)
        if weights is not None:
            counts = check_weights(weights, seen.num_rows)
        if not counts.sum() > 0:
            raise DataError("the weights are all zero")
        return cls(seen, counts, given)

    @property
    def num_rows(self) -> int:
        """Sequences ``N``."""
        return self.seen.num_rows

    def shares(self, like: Tensor) -> Tensor:
        """Return ``(N,)`` weights that sum to one."""
        return torch.from_numpy(self.weights / self.weights.sum()).to(like)

    def take(self, rows: Ints) -> TrainingSequences:
        """Return some of the sequences, cut after the longest of them."""
        index = torch.from_numpy(rows)
        steps = max(1, int(self.seen.lengths[index].max()))
        inputs = {n: x[index.to(x.device), :steps] for n, x in self.inputs.items()}
        return TrainingSequences(self.seen.rows(index, steps), self.weights[rows], inputs)

    def split(self, share: float, seed: int | None) -> tuple[TrainingSequences, TrainingSequences]:
        """Return the rest of the sequences and a share of them, drawn at random.

        Raises:
            DataError: If one of the two is empty.
        """
        held = round(share * self.num_rows)
        if not 0 < held < self.num_rows:
            raise DataError(
                f"{share:g} of {self.num_rows} sequences cannot be set apart for validation"
            )
        order = np.random.default_rng(seed).permutation(self.num_rows)
        return self.take(np.sort(order[held:])), self.take(np.sort(order[:held]))

    def findings(self) -> dict[Hashable, Any]:
        """Return the sequences as evidence."""
        seen = self.seen
        return {**seen.codes, **seen.reals, **seen.soft, AXIS: seen.lengths}


class SequenceObjective:
    r"""Mean of :math:`\log p(x_n)` over sequences, the states summed out.

    Args:
        model: A model over time.
        engine: What sums; the model's own if not given.
    """

    figure: str | None = "log_likelihood"

    def __init__(self, model: Any, engine: Engine | None) -> None:
        self.model, self.engine = model, engine

    def __call__(self, rows: Any) -> Mean:
        """Return a function that returns the mean of some sequences, ``()``."""
        findings, inputs = rows.findings(), dict(rows.inputs) or None

        def mean() -> Tensor:
            found = self.model.log_prob(findings, inputs=inputs, engine=self.engine)
            if torch.is_grad_enabled() and not found.requires_grad:
                raise Unsupported(
                    f"the log evidence of {type(self.engine).__name__} has no derivatives; leave "
                    "engine= out"
                )
            total: Tensor = (found * rows.shares(found)).sum()
            return total

        return mean
