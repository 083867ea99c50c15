"""Model selection by held-out log-likelihood."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pgnn.abilities import Inputs, UnrollableModel
from pgnn.errors import DataError
from pgnn.evidence.frames import columns_of, is_frame
from pgnn.evidence.row_evidence import RowEvidence
from pgnn.evidence.sequence_evidence import SequenceEvidence
from pgnn.evidence.wrappers import Codes, Observed
from pgnn.inference.learning.training_data import read_rows
from pgnn.limits import Interval, check_settings
from pgnn.metrics.criterion import Criterion, log_likelihood
from pgnn.metrics.model_choice import num_observations
from pgnn.models.model import Model

Rows = NDArray[np.int64]


@dataclass(frozen=True)
class HeldOut(Criterion):
    r"""Negative held-out log-likelihood per row or observed step.

    Rows or sequences are held out at random. For a single sequence, the last steps are held out and
    predicted from the earlier ones, :math:`\log p(x_{1:T}) - \log p(x_{1:S})`. The model is fitted
    to the remaining data.

    Args:
        share: Share of the sequences or rows, or of the steps of a single sequence, to hold out.
        seed: Seed of the random choice.

    Raises:
        ModelError: If the share is not between 0 and 1.

    Example:
        >>> import pgnn
        >>> rng = np.random.default_rng(0)
        >>> x = rng.normal(size=(400, 1)) @ rng.normal(size=(1, 5)) + rng.normal(size=(400, 5))
        >>> models = {k: pgnn.FactorAnalysis(k) for k in (1, 3)}
        >>> pgnn.metrics.choose(models, x, criterion=HeldOut()).name
        1
    """

    share: float = 0.25
    seed: int = 0

    def __post_init__(self) -> None:
        check_settings(self, share=Interval(0.0, 1.0, open_low=True, open_high=True))

    def figure(self, model: Model, data: Any, inputs: Inputs | None, **fit: Any) -> float:
        """See the base class.

        Raises:
            DataError: If there are too few rows or steps to hold some out.
        """
        if not isinstance(model, UnrollableModel):
            return self._of_rows(model, data, inputs, fit)
        observed = SequenceEvidence.of(model, data)
        sequential: Any = model
        covariates = sequential.covariates(inputs, observed)
        if observed.num_rows > 1:
            return self._of_sequences(model, observed, covariates, fit)
        first = observed.take(torch.tensor([0]), self._left(int(observed.lengths[0])))
        first_covariates = {n: x[:, : first.steps] for n, x in covariates.items()} or None
        model.fit(first, inputs=first_covariates, **fit)
        before = log_likelihood(model, first, first_covariates)
        later = num_observations(model, observed) - num_observations(model, first)
        return (before - log_likelihood(model, observed, inputs)) / max(later, 1)

    def _of_sequences(
        self, model: Model, observed: SequenceEvidence, inputs: Inputs, fit: Mapping[str, Any]
    ) -> float:
        kept, apart = map(torch.from_numpy, self._split(observed.num_rows))
        train, test = (observed.take(rows, observed.steps) for rows in (kept, apart))
        model.fit(train, inputs={n: x[kept] for n, x in inputs.items()} or None, **fit)
        total = log_likelihood(model, test, {n: x[apart] for n, x in inputs.items()} or None)
        return -total / max(num_observations(model, test), 1)

    def _of_rows(
        self, model: Model, data: Any, inputs: Inputs | None, fit: Mapping[str, Any]
    ) -> float:
        weights = fit.get("weights")
        named = weights is None or isinstance(weights, str)
        kept, apart = (
            {
                "data": _taken(data, rows),
                "weights": weights if named else _cells(weights, rows),
                "inputs": {n: _cells(x, rows) for n, x in (inputs or {}).items()} or None,
            }
            for rows in self._split(_num_rows(data))
        )
        model.fit(**{**fit, **kept})
        test = read_rows(model, **apart)
        with torch.no_grad():
            logs = model.log_prob(test, inputs=apart["inputs"]).double()
        return -float(test.weighted_sum(logs)) / float(test.row_weights.sum())

    def _split(self, count: int) -> tuple[Rows, Rows]:
        """Return the indices of the training rows, and of the held-out rows."""
        order, left = np.random.default_rng(self.seed).permutation(count), self._left(count)
        return np.sort(order[:left]), np.sort(order[left:])

    def _left(self, count: int) -> int:
        """Return the number of training rows."""
        left = count - max(1, round(self.share * count))
        if left < 1:
            raise DataError(f"{count} rows or steps are too few to hold some out")
        return left


def _is_table(data: Any) -> bool:
    return isinstance(data, Mapping) or is_frame(data) or _are_rows(data)


def _are_rows(data: Any) -> bool:
    return isinstance(data, list) and bool(data) and isinstance(data[0], Mapping)


def _num_rows(data: Any) -> int:
    """Return the number of rows."""
    if isinstance(data, RowEvidence):
        return data.num_rows
    if isinstance(data, Observed | Codes):
        return _num_rows(data.values)
    first = next(iter(columns_of(data).values()), ()) if _is_table(data) else data
    try:
        return int(first.shape[0] if hasattr(first, "shape") else len(first))
    except (TypeError, IndexError):
        raise DataError(
            "data must be a data frame, a mapping of columns or a matrix to hold out rows, got "
            f"{type(data).__name__}"
        ) from None


def _taken(data: Any, rows: Rows) -> Any:
    """Return some of the rows of data in any form."""
    if isinstance(data, RowEvidence):
        return data.take(rows)
    if isinstance(data, Observed | Codes):
        return replace(data, values=_taken(data.values, rows))
    if _is_table(data):
        return {n: _cells(x, rows) for n, x in columns_of(data).items()}
    return _cells(data, rows)


def _cells(column: Any, rows: Rows) -> Any:
    """Return some of the cells of a column."""
    if isinstance(column, Tensor):
        return column[torch.from_numpy(rows)]
    if hasattr(column, "iloc"):
        return column.iloc[rows]
    return column[rows] if hasattr(column, "dtype") else [column[k] for k in rows.tolist()]
