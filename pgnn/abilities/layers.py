"""Abilities of models that consist of layers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from torch import Tensor


class StackedModel(ABC):
    """Layers that may each be learned as a separate model, one after the other, from below."""

    @property
    @abstractmethod
    def num_stages(self) -> int:
        """Number of separate models."""

    @abstractmethod
    def stage(self, k: int) -> Any:
        """Return layers ``k`` and ``k + 1`` as a model with the current parameters."""

    @abstractmethod
    def take_stage(self, k: int, stage: Any) -> None:
        """Copy the parameters of a learned stage; a stage that shares parameters needs no copy."""

    @abstractmethod
    def read_stack(self, data: Any, learner: Any) -> tuple[Tensor, Any]:
        """Read the training data of the first stage.

        Args:
            data: Rows of visible values, in any form of evidence.
            learner: Learner of each stage; None for the default of the stages.

        Returns:
            ``(N, ...)`` rows, and the learner of the stages.

        Raises:
            DataError: If the data is invalid.
            ModelError: If stages cannot be learned by this learner.
        """

    @abstractmethod
    def stage_outputs(self, stage: Any, rows: Tensor) -> Tensor:
        """Return ``(N, ...)`` outputs of a stage for its rows, from which the next stage learns."""
