"""Abilities of models that are made of layers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from torch import Tensor


class StackedModel(ABC):
    """Layers of which each may be learnt as a model of its own, one after the other, from below."""

    @property
    @abstractmethod
    def num_stages(self) -> int:
        """How many models of their own there are."""

    @abstractmethod
    def stage(self, k: int) -> Any:
        """Return layers ``k`` and ``k + 1`` as a model, with the present numbers."""

    @abstractmethod
    def take_stage(self, k: int, stage: Any) -> None:
        """Take the numbers of a stage that was learnt; one that shares its numbers has none."""

    @abstractmethod
    def read_stack(self, data: Any, learner: Any) -> tuple[Tensor, Any]:
        """Read what the first stage learns from.

        Args:
            data: Rows of what the model sees, in any form that evidence has.
            learner: Of each stage; None for what the stages choose.

        Returns:
            ``(N, ...)`` rows, and the learner of the stages.

        Raises:
            DataError: If the data is wrong.
            ModelError: If stages cannot be learnt that way.
        """

    @abstractmethod
    def passed_on(self, stage: Any, rows: Tensor) -> Tensor:
        """Return ``(N, ...)`` what a stage makes of its rows, from which the next one learns."""
