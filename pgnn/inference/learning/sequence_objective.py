"""The mean log-likelihood of sequences as a function of a model's parameters."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from pgnn.errors import Unsupported
from pgnn.evidence.sequences import Sequences
from pgnn.inference.engine import Engine
from pgnn.inference.learning.climb import Mean


class SequenceObjective:
    r"""Mean of :math:`\log p(x_n)` over sequences, the states summed out.

    Args:
        model: A model over time.
        engine: What sums; the model's own if not given.
    """

    figure: str | None = "log_likelihood"

    def __init__(self, model: Any, engine: Engine | None) -> None:
        self.model, self.engine = model, engine

    def __call__(self, rows: Sequences) -> Mean:
        """Return a function that returns the mean of some sequences, ``()``."""
        inputs = rows.inputs or None

        def mean() -> Tensor:
            found = self.model.log_prob(rows, inputs=inputs, engine=self.engine)
            if torch.is_grad_enabled() and not found.requires_grad:
                raise Unsupported(
                    f"the log evidence of {type(self.engine).__name__} has no derivatives; leave "
                    "engine= out"
                )
            total: Tensor = (found * rows.shares(found)).sum()
            return total

        return mean
