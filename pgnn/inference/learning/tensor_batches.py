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
    """Minibatches of training rows, shuffled by torch's global generator.

    Rows in memory have a new order in each pass; the last incomplete batch is dropped.

    Args:
        read: Function that reads data and inputs into arrays by name.
        data: All rows at once, or an iterable of batches, each of which ``read`` accepts.
        inputs: Covariates of the rows, if not an iterable.
        batch_size: Rows per batch, if not an iterable.
        passes: Number of passes.
        paired: Whether the rows of the arrays correspond; if not, each array has its own order.

    Attributes:
        rows: All rows; None for an iterable.
        num_rows: Number of rows of the last pass.

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
            raise DataError("batches contain their inputs", "leave inputs= out")

    def __iter__(self) -> Iterator[Rows]:
        """Yield the batches of one pass.

        Raises:
            DataError: If there are no batches, or one is invalid; the message names it.
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
            yield {
                n: x.index_select(0, orders[n][k : k + size].to(x.device)) for n, x in rows.items()
            }


def _is_one_set(data: Any) -> bool:
    """Whether data is a single set of rows: an array, a mapping, a frame, or a tuple of arrays."""
    if isinstance(data, tuple):
        return bool(data) and all(hasattr(x, "shape") for x in data)
    return hasattr(data, "shape") or isinstance(data, Mapping) or is_frame(data)
