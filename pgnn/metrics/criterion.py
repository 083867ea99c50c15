"""The base class of criteria for model selection."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import torch

from pgnn.abilities import Inputs
from pgnn.models.model import Model


class Criterion(ABC):
    """A criterion for the comparison of candidate models."""

    @abstractmethod
    def figure(self, model: Model, data: Any, inputs: Inputs | None, **fit: Any) -> float:
        """Fit the model in place and return the value of the criterion; smaller is better.

        Args:
            model: Candidate.
            data: See ``model.fit``.
            inputs: Covariates.
            **fit: Further arguments of ``model.fit``.
        """


def log_likelihood(model: Model, data: Any, inputs: Inputs | None) -> float:
    """Sum over rows."""
    with torch.no_grad():
        return float(model.log_prob(data, inputs=inputs).double().sum())
