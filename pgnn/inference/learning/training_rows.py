"""Rows that undirected and directed models learn from, complete or not."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pgnn.errors import DataError, EvidenceError
from pgnn.evidence.evidence import over_inputs
from pgnn.inference.engine import FactorModel, Inputs
from pgnn.inference.grouped_graph import Codes
from pgnn.inference.learning.statistics import batches, check_weights, is_single
from pgnn.inference.question import as_evidence, reader_of

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class TrainingRows:
    """What was seen in ``N`` rows, and what each of them counts.

    Attributes:
        codes: ``(N, E)`` int32 states of the elements, -1 where missing.
        weights: ``(N,)`` positive weights.
        reals: ``(N, *event)`` values of real variables.
        inputs: ``(N, ...)`` covariates.
    """

    codes: Codes
    weights: Floats
    reals: Mapping[Hashable, Tensor] = field(default_factory=dict)
    inputs: Mapping[Hashable, Tensor] = field(default_factory=dict)

    @classmethod
    def read(
        cls, model: FactorModel, data: Any, weights: Any = None, inputs: Inputs | None = None
    ) -> TrainingRows:
        """Read data in any form that evidence has, or an array ``(N, *shape)`` of a lone variable.

        Args:
            model: Whose variables the data is about.
            data: Data frame, mapping, or matrix of state indices with a column for each element.
            weights: ``(N,)`` what each row counts, or the name of the column that tells.
            inputs: ``(N, ...)`` covariates by name.

        Raises:
            DataError: If the data has no rows, a state or shape is wrong, or it is no single set.
        """
        if not is_single(data):
            raise DataError(
                "expected a DataFrame, a mapping of columns or an array of state indices, all "
                f"rows at once, got {type(data).__name__}"
            )
        ((_, data, weights),) = batches(_named(model, data), weights, progress=False)
        try:
            seen = reader_of(model).read(as_evidence(model, data))
            seen = over_inputs(seen, inputs)
        except EvidenceError as error:
            raise DataError(str(error)) from None
        if seen.soft is not None:
            raise DataError("data must be states; likelihoods (floats) are not learnt from")
        rows = seen.num_rows
        counts = np.ones(rows) if weights is None else check_weights(weights, rows)
        if not counts.sum() > 0:
            raise DataError("data has no rows" if not rows else "the weights are all zero")
        made = cls(seen.codes, counts, dict(seen.reals), dict(inputs or {}))
        return made if (counts > 0).all() else made.take(np.flatnonzero(counts))

    @property
    def num_rows(self) -> int:
        """Rows ``N``."""
        return len(self.codes)

    @property
    def rowwise(self) -> bool:
        """Whether tables may differ from row to row."""
        return bool(self.reals or self.inputs)

    @property
    def complete(self) -> NDArray[np.bool_]:
        """``(N,)`` whether a row misses nothing."""
        return np.asarray((self.codes >= 0).all(axis=1))

    def shares(self, like: Tensor) -> Tensor:
        """Return ``(N,)`` weights that sum to one."""
        return torch.from_numpy(self.weights / self.weights.sum()).to(like)

    def take(self, rows: Ints) -> TrainingRows:
        """Return some of the rows."""
        index = torch.from_numpy(rows)
        return TrainingRows(
            np.ascontiguousarray(self.codes[rows]),
            self.weights[rows],
            {n: x[index.to(x.device)] for n, x in self.reals.items()},
            {n: x[index.to(x.device)] for n, x in self.inputs.items()},
        )

    def merged(self) -> TrainingRows:
        """Return rows that differ, each with the weights of those like it."""
        if self.rowwise or self.num_rows == 1:
            return self
        codes, place = np.unique(self.codes, axis=0, return_inverse=True)
        weights = np.bincount(place.ravel(), weights=self.weights, minlength=len(codes))
        return replace(self, codes=codes, weights=weights.astype(np.float64))

    def split(self, share: float, seed: int | None) -> tuple[TrainingRows, TrainingRows]:
        """Return the rest of the rows and a share of them, drawn at random.

        Raises:
            DataError: If one of the two is empty.
        """
        held = round(share * self.num_rows)
        if not 0 < held < self.num_rows:
            raise DataError(f"{share:g} of {self.num_rows} rows cannot be set apart for validation")
        order = np.random.default_rng(seed).permutation(self.num_rows)
        return self.take(np.sort(order[held:])), self.take(np.sort(order[:held]))

    def findings(self, model: FactorModel) -> dict[Hashable, Any]:
        """Return the rows as evidence."""
        found = as_evidence(model, torch.from_numpy(self.codes.astype(np.int64)))
        return {**found, **self.reals}


def _named(model: FactorModel, data: Any) -> Any:
    """An array of the states of the only variable, by its name."""
    if not isinstance(data, Tensor | np.ndarray) or len(model.variables) != 1:
        return data
    (variable,) = model.variables.values()
    if not variable.shape or tuple(data.shape[1:]) != variable.shape:
        return data
    return {variable.name: data}
