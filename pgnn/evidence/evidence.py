"""What evidence is, whether it has an axis of time or not: rows, each of which counts something."""

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
    """``B`` rows of evidence.

    Attributes:
        batched: Whether they came as rows. If not, ``B`` is 1 and answers have no axis for it.
        index: Labels of the rows.
        weights: ``(B,)`` weight of each row, where rows are learned from; ones if ``None``.
        inputs: Covariates by name, rows first, where rows are learned from.
    """

    __slots__ = ()

    batched: bool
    index: Any
    weights: Floats | None
    inputs: Mapping[Hashable, Tensor]

    @property
    @abstractmethod
    def num_rows(self) -> int:
        """Number of rows ``B``; 1 if nothing was batched."""

    @property
    @abstractmethod
    def is_empty(self) -> bool:
        """Whether there is nothing to learn from."""

    @property
    @abstractmethod
    def requires_grad(self) -> bool:
        """Whether a value, or a likelihood, requires a gradient."""

    @abstractmethod
    def take(self, rows: Ints) -> Self:
        """Return some of the rows, by their numbers."""

    @property
    def row_weights(self) -> Floats:
        """``(B,)`` weight of each row."""
        return np.ones(self.num_rows) if self.weights is None else self.weights

    @property
    def extent(self) -> dict[str, Any]:
        """How many rows there are, and what they count together, as a history tells it."""
        return {"rows": self.num_rows, "weight": float(self.row_weights.sum())}

    def shares(self, like: Tensor) -> Tensor:
        """Return ``(B,)`` weights that sum to one."""
        weights = self.row_weights
        return torch.from_numpy(weights / weights.sum()).to(like)

    def weighted_sum(self, values: Tensor) -> Tensor:
        """Return the weighted sum of ``(B,)`` values; those that count nothing may be infinite."""
        weights = torch.from_numpy(self.row_weights).to(values)
        return (weights * values.masked_fill(weights == 0, 0.0)).sum()

    def split(self, share: float, seed: int | None) -> tuple[Self, Self]:
        """Return the rest of the rows and a share of them, drawn at random.

        Raises:
            DataError: If one of the two is empty.
        """
        rows = self.num_rows
        held = round(share * rows)
        if not 0 < held < rows:
            raise DataError(f"{share:g} of {rows} rows cannot be set apart for validation")
        order = np.random.default_rng(seed).permutation(rows)
        return self.take(np.sort(order[held:])), self.take(np.sort(order[:held]))
