"""By what candidates are compared."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import torch

from pgnn.abilities import Inputs
from pgnn.models.model import Model


class Criterion(ABC):
    """How candidates are compared."""

    @abstractmethod
    def figure(self, model: Model, data: Any, inputs: Inputs | None, **fit: Any) -> float:
        """Fit the model in place and return a figure, of which the smallest is the best.

        Args:
            model: Candidate.
            data: As for ``model.fit``.
            inputs: Covariates.
            **fit: Further arguments of ``model.fit``.
        """


def log_likelihood(model: Model, data: Any, inputs: Inputs | None) -> float:
    """Return the sum over rows."""
    with torch.no_grad():
        return float(model.log_prob(data, inputs=inputs).double().sum())
