"""What every learner does."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from pgnn.abilities import Inputs


class Learner(ABC):
    """Frozen settings of a way to fit a model."""

    @abstractmethod
    def fit(
        self,
        model: Any,
        data: Any,
        *,
        weights: Any = None,
        inputs: Inputs | None = None,
        seed: int | None = None,
        progress: bool = True,
    ) -> None:
        """Answer :meth:`Model.fit`: change the parameters only if all went well."""
