"""The base class of evidence with or without an axis of time: weighted rows."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Hashable, Mapping
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pgnn.errors import DataError

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


class Evidence(ABC):
    """Evidence in ``B`` rows.

    Attributes:
        batched: Whether the evidence was given in rows. If not, ``B`` is 1 and answers have no
            batch axis.
        index: Labels of the rows.
        weights: ``(B,)`` weight of each row in learning; ones if ``None``.
        inputs: Covariates by name, rows first, in learning.
    """

    __slots__ = ()

    batched: bool
    index: Any
    weights: Floats | None
    inputs: Mapping[Hashable, Tensor]

    @property
    @abstractmethod
    def num_rows(self) -> int:
        """Number of rows ``B``; 1 if not batched."""

    @property
    @abstractmethod
    def is_empty(self) -> bool:
        """Whether there are no rows or steps to learn from."""

    @property
    @abstractmethod
    def requires_grad(self) -> bool:
        """Whether a value, or a likelihood, requires a gradient."""

    @abstractmethod
    def take(self, rows: Ints) -> Self:
        """Return the rows with the given indices."""

    @property
    def row_weights(self) -> Floats:
        """``(B,)`` weight of each row."""
        return np.ones(self.num_rows) if self.weights is None else self.weights

    @property
    def extent(self) -> dict[str, Any]:
        """Description of the number of rows and their total weight, for a history."""
        return {"rows": self.num_rows, "weight": float(self.row_weights.sum())}

    def shares(self, like: Tensor) -> Tensor:
        """Return ``(B,)`` weights normalised to sum to one."""
        weights = self.row_weights
        return torch.from_numpy(weights / weights.sum()).to(like)

    def weighted_sum(self, values: Tensor) -> Tensor:
        """Return the weighted sum of ``(B,)`` values; values of zero weight may be infinite."""
        weights = torch.from_numpy(self.row_weights).to(values)
        return (weights * values.masked_fill(weights == 0, 0.0)).sum()

    def split(self, share: float, seed: int | None) -> tuple[Self, Self]:
        """Split off a random share of the rows; returns the remaining rows first.

        Raises:
            DataError: If either set would be empty.
        """
        rows = self.num_rows
        held = round(share * rows)
        if not 0 < held < rows:
            raise DataError(f"{share:g} of {rows} rows cannot be set apart for validation")
        order = np.random.default_rng(seed).permutation(rows)
        return self.take(np.sort(order[held:])), self.take(np.sort(order[:held]))
