"""The mean lower bound of models with layers of units."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pgnn.errors import Unsupported
from pgnn.evidence.row_evidence import RowEvidence
from pgnn.inference.continuous.bound_objective import BoundObjective
from pgnn.inference.continuous.unit_density import UnitDensity, begin_learning
from pgnn.inference.learning.batched_rows import BatchedRows

if TYPE_CHECKING:
    from pgnn.inference.continuous.lower_bound import LowerBound

Floats = NDArray[np.float64]


class UnitBoundObjective(BoundObjective):
    """The mean bound of rows of visible units, whose hidden layers are drawn."""

    @classmethod
    def of_rows(cls, model: Any, learner: LowerBound, seed: int | None, rows: Any) -> Self:
        """Return the objective; the values of units are checked as rows are read."""
        return cls(model, learner, seed, True)

    @classmethod
    def check(cls, model: Any, rows: Any, learner: LowerBound) -> None:
        """Refuse rows that the recognition network cannot read, see the base class.

        Raises:
            Unsupported: If hidden units are to be supervised.
            DataError: If a visible unit was not observed.
        """
        if not isinstance(rows, BatchedRows):
            UnitDensity(model, rows)
        if learner.supervision:
            raise Unsupported(
                "supervision counts observed states of recognised variables, and the hidden units "
                f"of a {type(model).__name__} are never observed"
            )

    @classmethod
    def break_symmetry(cls, model: Any, rows: Any, generator: torch.Generator) -> None:
        """Initialise layers whose parameters have never been set."""
        begin_learning(model, rows, generator)

    def _total(self, rows: RowEvidence, weights: Floats, checked: bool) -> Tensor:
        values = self._values(UnitDensity(self.model, rows))
        return (values * torch.from_numpy(weights)).sum()
