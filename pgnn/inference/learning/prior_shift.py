"""Adaptation to new class frequencies (label shift)."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from pgnn.abilities import Inputs
from pgnn.errors import ModelError
from pgnn.factors.conditionals.tabular import Tabular
from pgnn.inference.learner import Learner
from pgnn.inference.learning.restored_on_failure import fitting
from pgnn.inference.learning.self_training import predicted, target_of
from pgnn.inference.learning.training_data import read_rows
from pgnn.limits import NOT_NEGATIVE, check_settings


@dataclass(frozen=True)
class PriorShift(Learner):
    r"""Re-estimates :math:`p(y)` from unlabelled rows, with :math:`p(x \mid y)` fixed.

    .. math:: \pi_y \leftarrow \frac{1}{N} \sum_n
        \frac{\pi_y\, p_0(y \mid x_n) / \pi^0_y}{\sum_k \pi_k\, p_0(k \mid x_n) / \pi^0_k}

    This is :class:`EM` for the class prior, from posteriors that are computed once. Labels of rows
    are ignored.

    Args:
        target: Name of the class; that of the model, or its only discrete variable, if not given.
        max_iterations: Largest number of rounds.
        tolerance: Stop when no probability changes by more.

    Raises:
        ModelError: If a setting is out of range.

    References:
        Saerens, Latinne and Decaestecker (2002), Adjusting the outputs of a classifier to new a
        priori probabilities: a simple procedure.

    Example:
        >>> from pgnn import Gaussian, NaiveBayes
        >>> rows = {"class": [0, 0, 1, 1], "x": [-1.0, 1.0, 9.0, 11.0]}
        >>> model = NaiveBayes(2, {"x": Gaussian}).fit(rows, progress=False)
        >>> _ = model.fit({"x": [0.0, 10.0, 9.5, 10.5]}, learner=PriorShift())
        >>> model.query("class")["class"].probs
        tensor([0.2500, 0.7500], dtype=torch.float64)
    """

    target: Hashable = None
    max_iterations: int = 10_000
    tolerance: float = 1e-10

    def __post_init__(self) -> None:
        check_settings(self, max_iterations=1, tolerance=NOT_NEGATIVE)

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
        """Update the table of the class; the record is in ``model.history``.

        Args:
            model: A directed network with a class that has no parents.
            data: Rows of features.
            weights: ``(N,)`` weight of each row.
            inputs: Covariates.
            seed: Not used.
            progress: Not used.

        Raises:
            DataError: If there are no rows.
            ModelError: If the class has parents, or no table.
        """
        name = target_of(model, self.target)
        table = model.conditionals[name]
        if not isinstance(table, Tabular) or table.parents:
            raise ModelError(
                f"{name!r} has parents, or no table: PriorShift() needs a class without parents"
            )
        with fitting(model, self) as history, torch.no_grad():
            observed = read_rows(model, data, weights, inputs)
            codes = observed.codes.copy()
            codes[:, model.elements.numbers(name)] = -1
            posterior = predicted(model, replace(observed, codes=codes), name)
            counts = observed.row_weights / observed.row_weights.sum()
            old = table.probs.detach().double().numpy(force=True)
            likely = posterior / np.where(old > 0, old, 1.0) * (old > 0)
            new, moved, rounds = old.copy(), np.inf, 0
            while rounds < self.max_iterations and moved > self.tolerance:
                share = likely * new
                share /= share.sum(axis=1, keepdims=True)
                after = counts @ share
                moved, new, rounds = float(np.abs(after - new).max()), after, rounds + 1
            with np.errstate(divide="ignore"):
                table.logits.copy_(torch.from_numpy(np.log(new)))
            history.update(
                observed.extent,
                before=old.tolist(),
                after=new.tolist(),
                gain=float(observed.row_weights @ np.log((likely * new).sum(axis=1))),
                iterations=rounds,
                converged=moved <= self.tolerance,
            )
