"""Queries of the steps after the evidence."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from pgnn.abilities import Inputs
from pgnn.evidence.sequence_evidence import SequenceEvidence
from pgnn.factors.labels import MISSING
from pgnn.inference.base_question import Names


@dataclass(frozen=True, eq=False, slots=True)
class StepsAhead:
    """A query of the steps after the evidence; each row continues from its own end.

    Attributes:
        model: The model.
        targets: Names of variables; None for the default of the engine.
        observed: The evidence.
        steps: Number of steps after it.
        inputs: Covariates of all steps, by name.
    """

    model: Any
    targets: Names | None
    observed: SequenceEvidence
    steps: int
    inputs: Inputs | None = None

    @property
    def extended(self) -> SequenceEvidence:
        """The evidence with the steps after it, which are unobserved."""

        def padded(values: Mapping[Any, Tensor], fill: float) -> dict[Any, Tensor]:
            longer = {}
            for name, x in values.items():
                shape = (x.shape[0], self.steps, *x.shape[2:])
                longer[name] = torch.cat([x, x.new_full(shape, fill)], dim=1)
            return longer

        return replace(
            self.observed,
            lengths=self.observed.lengths + self.steps,
            steps=self.observed.steps + self.steps,
            codes=padded(self.observed.codes, MISSING),
            reals=padded(self.observed.reals, torch.nan),
            soft=padded(self.observed.soft, 1.0),
        )

    @property
    def after(self) -> SequenceEvidence:
        """Unobserved rows of the steps after the evidence."""
        observed, steps = self.observed, self.steps
        lengths = torch.full_like(observed.lengths, steps)
        return SequenceEvidence(lengths, steps, batched=observed.batched, index=observed.index)

    @property
    def places(self) -> Tensor:
        """``(B, h)`` indices of the steps among those of :attr:`extended`."""
        return self.observed.lengths[:, None] + torch.arange(self.steps)
