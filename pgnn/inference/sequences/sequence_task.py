"""A model over time and the sequences that it is fitted to."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pgnn.factors.exponential_family import ExponentialFamily
from pgnn.factors.tabular import Tabular
from pgnn.inference.engine import Inputs
from pgnn.inference.sequences.chain_statistics import learnable, log_prior
from pgnn.inference.sequences.emission_fields import log_field, observed
from pgnn.inference.sequences.sequences import Sequences

State = dict[str, Tensor]


@dataclass(frozen=True, eq=False)
class SequenceTask:
    """A hidden Markov model, sequences, and what each counts."""

    model: Any
    seen: Sequences
    inputs: Inputs | None
    weights: Tensor
    priors: Mapping[Hashable, Any]

    def symmetric(self) -> bool:
        """Whether nothing that was seen tells one state from another."""
        given = self.model.covariates(self.inputs, self.seen)
        with torch.no_grad():
            field = log_field(self.model, self.seen, given)
        spread = field.amax(-1) - field.amin(-1)
        return bool((spread.nan_to_num(nan=0.0) <= 1e-12).all())

    def start(self, seed: int, disturb: bool) -> None:
        """Begin with clusters; on restarts with chances of their own."""
        chance = torch.Generator().manual_seed(seed)
        for place, conditional in learnable(self.model).items():
            own = int(torch.randint(2**31, (), generator=chance))
            if place in self.model.emissions:
                if not isinstance(conditional, ExponentialFamily):
                    continue
                if place in self.seen.codes or place in self.seen.reals:
                    conditional.initialize(observed(conditional, self.seen)[1], own)
            elif disturb and isinstance(conditional, Tabular):
                with torch.no_grad():
                    noise = torch.rand(conditional.logits.shape, generator=chance).double()
                    conditional.logits.add_(noise)

    def value(self) -> float:
        """Log-likelihood and log prior at the present parameters."""
        with torch.no_grad():
            log_z = self.model.chain(self.seen, self.inputs).log_partition()
        return float(log_z.double() @ self.weights) + log_prior(self.model, self.priors)

    def saved(self) -> State:
        """The present parameters."""
        return {n: x.clone() for n, x in self.model.state_dict().items()}

    def part(self, rows: Tensor) -> tuple[Sequences, Inputs | None, Tensor]:
        """Some of the sequences."""
        given = self.model.covariates(self.inputs, self.seen)
        steps = int(self.seen.lengths[rows].max())
        inputs = {n: x[rows, :steps] for n, x in given.items()} or None
        return self.seen.rows(rows, steps), inputs, self.weights[rows]
