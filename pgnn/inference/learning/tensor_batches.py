"""Batches of arrays by name, in memory or from any iterable."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from pgnn.abilities import Inputs
from pgnn.errors import DataError
from pgnn.evidence.frames import is_frame

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
        self._read, self._data = read, data
        self._size, self._paired = batch_size, paired
        self._rows: Rows | None = None
        self.num_rows = 0
        if _is_one_set(data):
            self._rows = read(data, inputs)
            self.num_rows = min(len(x) for x in self._rows.values())
            return
        if not isinstance(data, Iterable) or isinstance(data, str | bytes):
            raise DataError(
                "expected arrays, a data frame, a mapping of arrays or an iterable of batches, got "
                f"{data!r}"
            )
        if inputs:
            raise DataError("batches bring their inputs with them: leave inputs= out")
        if passes > 1 and iter(data) is data:
            raise DataError(
                "an iterator can be gone through only once: give epochs=1, or a list or DataLoader "
                "of batches"
            )

    def __iter__(self) -> Iterator[Rows]:
        """Yield the batches of one pass.

        Raises:
            DataError: If there is none, or one is wrong; it is told which.
        """
        if self._rows is not None:
            yield from self._shuffled(self._rows)
            return
        number, count = -1, 0
        for number, batch in enumerate(self._data):
            try:
                rows = self._read(batch)
            except DataError as error:
                raise DataError(f"batch {number}: {error}") from None
            count += min(len(x) for x in rows.values())
            yield rows
        self.num_rows = count
        if number < 0:
            raise DataError("the iterable of batches is empty")

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
