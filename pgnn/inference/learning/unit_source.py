"""Source of batches of visible units for learning."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import torch

from pgnn.errors import DataError
from pgnn.factors.randomness import generator
from pgnn.inference.learning.batched_rows import Batches
from pgnn.inference.learning.unit_rows import UnitRows, is_one_set, read_unit_rows


class UnitSource:
    """Batches of rows of visible units, in memory or from an iterable.

    Args:
        model: A model of layers of units.
        data: Rows, or an iterable of batches.
        weights: ``(N,)`` weight of each row.
        seed: Random seed of the order.
        batch_size: Number of rows of a batch, for data in memory.
        validation: Share of the rows held out.
        probabilities: Whether binary units may have values between 0 and 1.
        passes: Number of passes over the data.

    Attributes:
        rows: All training rows, with weights of mean one; None for an iterable.
        held: Held-out rows, if any.
        num_rows: Number of rows of a pass.

    Raises:
        DataError: If the data is invalid.
    """

    def __init__(
        self,
        model: Any,
        data: Any,
        weights: Any,
        seed: int | None,
        *,
        batch_size: int,
        validation: float,
        probabilities: bool,
        passes: int,
    ) -> None:
        self._size = batch_size
        self.rng = generator(seed)
        self.held: UnitRows | None = None
        self.rows: UnitRows | None = None
        self.num_rows = 0
        if is_one_set(data):
            rows = read_unit_rows(model, data, weights, probabilities=probabilities, small=True)
            order = torch.randperm(len(rows), generator=self.rng)
            count = int(len(rows) * validation)
            if count:
                self.held, rows = rows.part(order[:count]), rows.part(order[count:])
            if rows.weights is not None:
                rows = replace(rows, weights=rows.weights / rows.weights.mean())
            self.rows, self.num_rows = rows, len(rows)
            return
        read = partial(read_unit_rows, model, probabilities=probabilities)
        self._batches = Batches(read, data, passes)
        if weights is not None or validation:
            raise DataError("weights and validation need all rows at once, not batches")

    def batches(self) -> Iterator[UnitRows]:
        """Iterate over the batches of one pass."""
        if self.rows is None:
            count = 0
            for batch in self._batches:
                count += len(batch)
                yield batch
            self.num_rows = count
            return
        order = torch.randperm(len(self.rows), generator=self.rng)
        for k in range(0, len(order), self._size):
            yield self.rows.take(order[k : k + self._size])
