"""Learning of models with a joint closed form from complete weighted rows."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pgnn.abilities import ClosedFormModel, Inputs
from pgnn.errors import DataError
from pgnn.evidence.row_evidence import RowEvidence
from pgnn.factors.conditionals.conditional import Conditional
from pgnn.inference.learning.e_step import EStep, completed_exactly
from pgnn.inference.learning.expected_statistics import ExpectedStatistics
from pgnn.inference.learning.restored_on_failure import fitting
from pgnn.inference.learning.training_data import (
    check_complete,
    check_possible,
    read_rows,
)

_OWN = "model"
"""Name of the statistics of the model."""


class ClosedFormEStep(EStep[RowEvidence]):
    """The E-step of a model that is learned as a whole.

    Args:
        model: A model with its own sufficient statistics.
    """

    model: ClosedFormModel

    @property
    def pieces(self) -> Mapping[Hashable, Conditional]:
        """None: the model is learned as a whole."""
        return {}

    def read(self, data: Any, weights: Any, inputs: Inputs | None) -> RowEvidence:
        """Read rows, which must be complete unless the model supports missing values.

        Raises:
            DataError: If values are missing.
        """
        observed = read_rows(self.model, data, weights, inputs)
        self._states(observed)
        return observed

    def expect(self, observed: RowEvidence) -> ExpectedStatistics:
        """Return the statistics of the rows."""
        log_z = self.log_partition(observed)
        check_possible(observed, log_z)
        weights = torch.from_numpy(observed.row_weights)
        sums: dict[Hashable, Any] = {_OWN: self.model.statistics(self._states(observed), weights)}
        return ExpectedStatistics(float(observed.weighted_sum(log_z)), float(weights.sum()), sums)

    def improve(
        self, expected: ExpectedStatistics, priors: Mapping[Hashable, Any]
    ) -> list[Hashable]:
        """Set the model to the maximum-likelihood estimate given its statistics."""
        self.model.maximize(expected.sums[_OWN])
        return []

    def log_prior(self, priors: Mapping[Hashable, Any]) -> float:
        """Return the log prior of the model."""
        return float(self.model.log_prior())

    @property
    def learns_other_parameters(self) -> bool:
        """True."""
        return True

    def log_partition(self, observed: RowEvidence) -> Tensor:
        """Return ``(B,)`` log probabilities of the rows."""
        return self.model.log_density(self._states(observed))

    def completed(self, observed: RowEvidence) -> RowEvidence:
        """Return rows with their most probable states, see :class:`EStep`."""
        return completed_exactly(self.model, observed)

    def symmetric(self, observed: RowEvidence) -> bool:
        """Whether some variable was never observed."""
        return bool((observed.codes < 0).all(axis=0).any())

    def initialize(self, observed: RowEvidence, seed: int, at_random: bool) -> None:
        """Initialise by random states of hidden variables, or of missing cells."""
        codes, random = observed.codes.copy(), np.random.default_rng(seed)
        hidden = np.logical_or((codes < 0).all(axis=0), at_random).tolist()
        for e, size in enumerate(self.model.elements.card.tolist()):
            holes = codes[:, e] < 0
            if hidden[e]:
                codes[holes, e] = random.integers(size, size=int(holes.sum()))
        weights = torch.from_numpy(observed.row_weights)
        self.model.maximize(self.model.statistics(torch.from_numpy(codes), weights))

    def _states(self, observed: RowEvidence) -> Tensor:
        """``(B, E)`` states; -1 only if the model supports missing values."""
        if self.model.takes_holes:
            return torch.from_numpy(observed.codes)
        missing = np.flatnonzero((observed.codes < 0).any(axis=1))
        if len(missing):
            raise DataError(
                f"cells are missing in {len(missing)} of {observed.num_rows} rows (first row "
                f"{missing[0]}): {type(self.model).__name__} learns from complete rows",
                "drop or fill those, or learn the tables of model.network() with EM()",
            )
        return torch.from_numpy(observed.codes)


def fit_closed_form(model: Any, learner: Any, data: Any, weights: Any) -> None:
    """Fit a model to complete rows; the record is in ``model.history``.

    Args:
        model: A model with its own sufficient statistics.
        learner: The learner, for the history.
        data: Rows, all at once.
        weights: ``(N,)`` weight of each row, or the name of a column.

    Raises:
        DataError: If values are missing, or there are no rows.
    """
    step = ClosedFormEStep(model)
    with fitting(model, learner) as history:
        observed = step.read(data, weights, None)
        check_complete(model, observed)
        counts = torch.from_numpy(observed.row_weights)
        model.maximize(model.statistics(torch.from_numpy(observed.codes), counts))
        total = float(observed.weighted_sum(step.log_partition(observed)))
        history.update(observed.extent, log_likelihood=total)
