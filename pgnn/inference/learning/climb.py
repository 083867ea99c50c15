"""What is maximised when a model is fitted by ascent: rows, value, penalties, where to stop."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor

from pgnn.evidence.evidence import Evidence
from pgnn.evidence.sequences import Sequences
from pgnn.inference.learning.fit_record import FitRecord
from pgnn.inference.learning.learnable import Learnable

Mean = Callable[[], Tensor]


class Objective(Protocol):
    """A function of a model's parameters that is a mean over rows.

    Attributes:
        figure: What its sum over rows is called in a history; none if the value means nothing.
    """

    figure: str | None

    def __call__(self, rows: Any) -> Mean:
        """Return a function that returns the mean of some rows, ``()``, differentiable."""


@dataclass(frozen=True, eq=False)
class Climb:
    r"""Maximise :math:`f(\theta) - \sum_k (l_{1k} |\theta_k| + \tfrac12 l_{2k} \theta_k^2)`.

    Attributes:
        learnable: The parameters.
        rows: What :math:`f` is the mean of.
        objective: The function.
        l1: Strengths for each parameter.
        l2: Strengths for each parameter.
        tolerance: Largest derivative of the penalised value at a maximum; the method's own if none.
        record: Is told of every iteration.
    """

    learnable: Learnable
    rows: Evidence | Sequences
    objective: Objective
    l1: list[float]
    l2: list[float]
    tolerance: float | None
    record: FitRecord

    def figures(self, value: float, penalty: float, steepness: float) -> dict[str, float]:
        """What an iteration reports: the mean over rows, the penalties, the largest derivative."""
        found = {"gradient_norm": steepness}
        name = self.objective.figure
        return (
            found
            if name is None
            else {"objective": value - penalty, f"mean_{name}": value, **found}
        )
