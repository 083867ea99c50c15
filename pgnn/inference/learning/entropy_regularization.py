"""Semi-supervised learning by entropy regularisation."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pgnn.errors import DataError
from pgnn.evidence.row_evidence import RowEvidence
from pgnn.inference.exact.junction_tree import JunctionTree
from pgnn.inference.learning.ascent import Ascent
from pgnn.inference.learning.optimisation_problem import Mean, MeanObjective
from pgnn.inference.learning.self_training import target_of
from pgnn.limits import NOT_NEGATIVE, check_real


@dataclass(frozen=True, kw_only=True)
class EntropyRegularization(Ascent):
    r"""Maximises the log-likelihood of labelled rows minus the label entropy of the others.

    .. math:: \frac{1}{N} \Big( \sum_{\text{labelled}} \log p(x_n, y_n)
        - \lambda \sum_{\text{others}} H(y \mid x_n) \Big)

    Decision boundaries are thereby moved to regions of low density. For regressions the first term
    is :math:`\log p(y_n \mid x_n)`.

    Args:
        target: Name of the label; the class of a model that has one, or its only discrete variable,
            if not given.
        strength: :math:`\lambda`.

    The other settings are those of every learner by gradients, see
    :class:`~pgnn.inference.learning.ascent.Ascent`.

    Raises:
        ModelError: If a setting is out of range.

    References:
        Grandvalet and Bengio (2004), Semi-supervised learning by entropy minimization.

    Example:
        >>> EntropyRegularization(strength=0.5).strength
        0.5
    """

    target: Hashable = None
    strength: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_real("strength", self.strength, NOT_NEGATIVE)

    def objective(self, model: Any, rows: RowEvidence, seed: int | None) -> MeanObjective:
        """Return the penalised mean, see :meth:`Ascent.objective`.

        Raises:
            DataError: If no row has a label.
        """
        name = target_of(model, self.target)
        column = int(model.elements.numbers(name))
        if not (rows.codes[:, column] >= 0).any():
            raise DataError(f"no row has the label {name!r}, but some rows need one")
        return _EntropyObjective(model, name, column, self.strength)


class _EntropyObjective:
    figure: str | None = "log_likelihood"

    def __init__(self, model: Any, name: Hashable, column: int, strength: float) -> None:
        self.model, self.column, self.strength = model, column, strength
        self.size = model.variables[name].num_states

    def __call__(self, rows: RowEvidence) -> Mean:
        known = rows.codes[:, self.column] >= 0
        labelled, others = (rows.take(np.flatnonzero(k)) for k in (known, ~known))
        total = float(rows.row_weights.sum())

        def mean() -> Tensor:
            value = torch.zeros((), dtype=torch.float64)
            if labelled.num_rows:
                value = value + (self._log_prob(labelled) * _weights(labelled)).sum()
            if others.num_rows and self.strength:
                logs = torch.stack(
                    [self._log_prob(self._with(others, k)) for k in range(self.size)]
                )
                logs = logs.log_softmax(dim=0)
                value = (
                    value + self.strength * ((logs.exp() * logs).sum(0) * _weights(others)).sum()
                )
            return value / total

        return mean

    def _log_prob(self, rows: RowEvidence) -> Tensor:
        return JunctionTree().log_prob(self.model, rows, inputs=rows.inputs or None).double()

    def _with(self, rows: RowEvidence, state: int) -> RowEvidence:
        codes = rows.codes.copy()
        codes[:, self.column] = state
        return replace(rows, codes=codes)


def _weights(rows: RowEvidence) -> Tensor:
    return torch.tensor(rows.row_weights)
