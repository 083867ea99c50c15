"""Learning of models with a closed-form or iterative solution for complete rows."""

from __future__ import annotations

from typing import Any

import torch

from pgnn.abilities import SolvableModel
from pgnn.errors import DataError
from pgnn.inference.learning.restored_on_failure import fitting
from pgnn.inference.learning.training_data import is_single, read_rows


def has_solution(model: SolvableModel, data: Any) -> bool:
    """Whether the data does not observe hidden variables of the model."""
    if not is_single(data):
        return True
    observed = set(read_rows(model, data).names)
    return not observed - set(model.observable)


def fit_solved(model: Any, learner: Any, data: Any, weights: Any, seed: int | None = None) -> None:
    """Fit a model to complete rows; the record is in ``model.history``.

    Args:
        model: A model with its own solution.
        learner: The learner, for the history.
        data: Rows, all at once.
        weights: ``(N,)`` weight of each row, or the name of a column.
        seed: Random seed.

    Raises:
        DataError: If values are missing, or there are no rows.
    """
    with fitting(model, learner) as history:
        rows = read_rows(model, data, weights)
        values = {}
        for name in model.observable:
            x = rows.reals.get(name)
            if x is None or not (model.takes_holes or rows.fully_observes(name)):
                where = "in all rows" if x is None else "in some rows"
                raise DataError(
                    f"values of {name!r} are missing {where}: maximum likelihood needs complete "
                    "rows",
                    "learn with EM(), if the model can marginalise them, or drop or impute "
                    "those rows",
                )
            values[name] = x
        figures = model.solve(values, torch.from_numpy(rows.row_weights), seed)
        if figures is None:
            with torch.no_grad():
                logs = model.log_prob(rows)
            figures = {"log_likelihood": float(rows.weighted_sum(logs.double()))}
        history.update(rows.extent, **figures)
