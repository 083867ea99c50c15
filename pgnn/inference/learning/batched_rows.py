"""Rows in batches from any iterable, such as a ``DataLoader``."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Generic, TypeVar

from pgnn.errors import DataError
from pgnn.evidence.row_evidence import RowEvidence

Batch = TypeVar("Batch")


class Batches(Generic[Batch]):
    """Batches of an iterable, each of which is read on demand.

    Args:
        read: Function that reads a batch.
        data: The iterable, which is iterated again in each pass.
        passes: Number of passes.
        limit: The learner's setting for that, for the message.

    Raises:
        DataError: If the data is invalid, or an iterator that would be needed twice.
    """

    def __init__(
        self, read: Callable[[Any], Batch], data: Any, passes: int, limit: str = "epochs"
    ) -> None:
        if isinstance(data, str | bytes) or not isinstance(data, Iterable):
            raise DataError(
                "expected an array, a data frame, a mapping of columns or an iterable of such "
                f"batches, got {type(data).__name__}"
            )
        self.begins_anew = not isinstance(data, Iterator)
        if passes > 1 and not self.begins_anew:
            raise DataError(
                "an iterator can be iterated only once",
                f"set {limit}=1, or pass a list or DataLoader of batches",
            )
        self._read, self._data = read, data

    def __iter__(self) -> Iterator[Batch]:
        """Yield the batches of one pass.

        Raises:
            DataError: If there are no batches, or one is invalid; the message names it.
        """
        number = -1
        for number, batch in enumerate(self._data):
            try:
                rows = self._read(batch)
            except DataError as error:
                raise DataError(f"batch {number}: {error.reason}", error.advice) from None
            yield rows
        if number < 0:
            raise DataError("the iterable of batches is empty")


class BatchedRows(Batches[RowEvidence]):
    """Evidence in batches.

    Args:
        read: Function that reads a batch.
        data: The iterable.
        passes: Number of passes.

    Attributes:
        num_rows: Number of rows of the last pass.
        weight: Total weight of these rows.
    """

    def __init__(self, read: Callable[[Any], RowEvidence], data: Any, passes: int) -> None:
        super().__init__(read, data, passes, "max_iterations")
        self.num_rows, self.weight = 0, 0.0

    def __iter__(self) -> Iterator[RowEvidence]:
        """Yield the batches of one pass; see :class:`Batches`."""
        rows, weight = 0, 0.0
        for batch in super().__iter__():
            rows, weight = rows + batch.num_rows, weight + float(batch.row_weights.sum())
            yield batch
        self.num_rows, self.weight = rows, weight

    @property
    def extent(self) -> dict[str, Any]:
        """See :attr:`Evidence.extent`."""
        return {"rows": self.num_rows, "weight": self.weight}


def weight_of(rows: Any) -> float:
    """Return the total weight of rows or sequences."""
    return float(rows.row_weights.sum())
