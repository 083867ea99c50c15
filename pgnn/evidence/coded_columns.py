"""Columns of states that are coded block by block to avoid a large copy."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pgnn.errors import DataError, EvidenceError
from pgnn.factors.labels import MISSING, Column
from pgnn.factors.variable import Variable

BLOCK = 65_536
"""Rows that are coded at a time: small enough to stay in cache, large enough to cost nothing."""


class CodedColumns:
    """Columns of single discrete variables, whose codes are computed when read.

    Attributes:
        variables: The variables, in the order of the columns.
        num_rows: Number of rows ``N``.
    """

    def __init__(
        self, variables: Sequence[Variable], columns: Sequence[Column], block: int
    ) -> None:
        self.variables = tuple(variables)
        self._columns, self._block = columns, block
        self.num_rows = len(columns[0].raw)

    def block(self, start: int, stop: int) -> NDArray[np.int32]:
        """Return rows ``start .. stop - 1`` as ``(V, stop - start)`` codes, -1 if missing."""
        out = np.empty((len(self.variables), stop - start), dtype=np.int32)
        for row, column in zip(out, self._columns, strict=True):
            column.take(slice(start, stop), row)
        return out

    def blocks(self, size: int | None = None) -> Iterator[tuple[int, NDArray[np.int32]]]:
        """Iterate over the rows in order, yielding the index of the first row and its block."""
        size = self._block if size is None else size
        for start in range(0, self.num_rows, size):
            yield start, self.block(start, min(start + size, self.num_rows))


class MatrixColumns(CodedColumns):
    """Columns of a matrix of state indices, checked as they are read."""

    def __init__(
        self,
        variables: Sequence[Variable],
        matrix: NDArray[np.integer[Any]],
        names: Sequence[Hashable],
        block: int,
    ) -> None:
        declared = [v.name for v in variables]
        self.variables, self._matrix, self._block = tuple(variables), matrix, block
        self._which = None if declared == list(names) else [names.index(n) for n in declared]
        self._card = np.array([v.num_states for v in variables], dtype=np.int64)
        self.num_rows = len(matrix)

    def block(self, start: int, stop: int) -> NDArray[np.int32]:
        """Return rows ``start .. stop - 1`` as ``(V, stop - start)`` codes, -1 if missing."""
        rows = self._matrix[start:stop]
        rows = rows if self._which is None else rows[:, self._which]
        try:
            codes = check_matrix(rows, self._card, lambda k: self.variables[k].name, start)
        except EvidenceError as error:
            raise DataError(error.reason, error.advice) from None
        return np.ascontiguousarray(codes.T)


def check_matrix(
    matrix: NDArray[np.integer[Any]],
    card: NDArray[np.int64],
    name: Callable[[int], Hashable],
    start: int,
) -> NDArray[np.int32]:
    """Return checked rows of indices as codes.

    Args:
        matrix: ``(N, E)`` indices, -1 where missing.
        card: ``(E,)`` state counts.
        name: Function from a column's index to its name.
        start: Index of the first row.

    Raises:
        EvidenceError: If an index is out of range.
    """
    if len(matrix):
        bad = (matrix.max(axis=0) >= card) | (matrix.min(axis=0) < MISSING)
        if bad.any():
            k = int(bad.argmax())
            column = matrix[:, k]
            row = int(((column >= card[k]) | (column < MISSING)).argmax())
            raise EvidenceError(
                f"column {name(k)!r}, row {start + row}: no state {column[row]}; state index "
                f"{column[row]} of {name(k)!r} is out of range 0..{card[k] - 1} (-1 means missing)"
            )
    return matrix.astype(np.int32)
