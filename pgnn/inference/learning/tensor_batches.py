"""Batches of arrays by name, in memory or from any iterable."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from pgnn.abilities import Inputs
from pgnn.errors import DataError
from pgnn.evidence.frames import is_frame
from pgnn.inference.learning.batched_rows import Batches

Rows = Mapping[Hashable, Tensor]


class TensorBatches:
    """Rows to learn from, batch after batch, by torch's present random state.

    Rows in memory come in a new order each pass; the last ones that fill no batch are left out of
    it, as the order puts others there next time.

    Args:
        read: Reads data, and inputs beside it, into arrays by name.
        data: Rows in one piece, or an iterable of batches, each of which ``read`` takes.
        inputs: Covariates of rows in one piece.
        batch_size: Rows of a batch, where they came in one piece.
        passes: How often the data will be gone through.
        paired: Whether arrays have rows that belong together; if not each has an order of its own.

    Attributes:
        rows: All of them, if they came in one piece; None of an iterable.
        num_rows: Rows of the last pass.

    Raises:
        DataError: If data is none, or an iterator that would have to be gone through twice.
    """

    def __init__(
        self,
        read: Callable[..., Rows],
        data: Any,
        inputs: Inputs | None,
        batch_size: int,
        passes: int,
        paired: bool = True,
    ) -> None:
        self._size, self._paired = batch_size, paired
        self.rows: Rows | None = None
        self.num_rows = 0
        if _is_one_set(data):
            self.rows = read(data, inputs)
            self.num_rows = min(len(x) for x in self.rows.values())
            return
        self._batches = Batches(read, data, passes)
        if inputs:
            raise DataError("batches bring their inputs with them: leave inputs= out")

    def __iter__(self) -> Iterator[Rows]:
        """Yield the batches of one pass.

        Raises:
            DataError: If there is none, or one is wrong; it is told which.
        """
        if self.rows is not None:
            yield from self._shuffled(self.rows)
            return
        count = 0
        for rows in self._batches:
            count += min(len(x) for x in rows.values())
            yield rows
        self.num_rows = count

    def _shuffled(self, rows: Rows) -> Iterator[Rows]:
        orders: dict[Hashable, Tensor] = {}
        for name, x in rows.items():
            first = next(iter(orders.values()), None)
            shared = self._paired and first is not None
            orders[name] = first if shared and first is not None else torch.randperm(len(x))
        size = min(self._size, self.num_rows)
        for k in range(0, self.num_rows - size + 1, size):
            yield {n: x[orders[n][k : k + size].to(x.device)] for n, x in rows.items()}


def _is_one_set(data: Any) -> bool:
    """Whether data is rows in one piece: an array, a mapping, a frame, or a tuple of arrays."""
    if isinstance(data, tuple):
        return bool(data) and all(hasattr(x, "shape") for x in data)
    return hasattr(data, "shape") or isinstance(data, Mapping) or is_frame(data)
