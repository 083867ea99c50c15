"""Rows of data as state codes, block by block."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from pgnn.errors import DataError, closest
from pgnn.evidence.columns import Codes, Column, columns_of, read_column
from pgnn.factors.variable import Variable

BLOCK = 65_536
"""Rows that are coded at a time: small enough to stay in cache, large enough to cost nothing."""


class Table:
    """Rows of discrete variables, coded block by block so that no large copy is ever made.

    Cells of frames and sequences are labels, as :class:`~pgnn.factors.variable.Variable` reads
    them; integer arrays and tensors hold state indices. ``None``, ``NaN``, ``pandas.NA`` and the
    index ``-1`` are missing.

    Args:
        variables: Single discrete variables to read, in the order of the coded columns.
        data: pandas DataFrame (or what has ``to_pandas``, such as polars); mapping from names to
            sequences, arrays or tensors of shape ``(N,)``; or integer array or tensor ``(N, V)``
            with one column for each variable of ``known`` in order.
        known: All variables that a column may belong to; ``variables`` if not given. Columns of
            those that are not read are left alone.

    Raises:
        DataError: If a column is missing, unknown or there twice, lengths differ, there are no
            rows, or a label is not a state (naming column, row and the closest labels).

    Example:
        >>> rain = Variable("rain", ["no", "yes"])
        >>> Table([rain], {"rain": ["yes", None, "no"]}).block(0, 3)
        array([[ 1, -1,  0]], dtype=int32)
    """

    def __init__(
        self, variables: Sequence[Variable], data: Any, known: Sequence[Variable] | None = None
    ) -> None:
        self.variables = tuple(variables)
        self._known = tuple(variables if known is None else known)
        for v in self.variables:
            if not v.is_discrete or v.shape:
                kind = f"an array of shape {v.shape}" if v.is_discrete else "real"
                raise DataError(f"variable {v.name!r} is {kind}; only single states can be coded")
        self._matrix: Any = None
        self._columns: list[Column] = []
        if isinstance(data, torch.Tensor | np.ndarray):
            self._matrix = self._check_matrix(data)
            self.num_rows = int(data.shape[0])
        else:
            self.num_rows = self._read_columns(columns_of(data))
        if not self.num_rows:
            raise DataError("data has no rows")

    def block(self, start: int, stop: int) -> Codes:
        """Return rows ``start .. stop - 1`` as ``(V, stop - start)`` int32 codes, -1 if missing.

        Raises:
            DataError: If an index is not a state.
        """
        if self._matrix is not None:
            return self._matrix_block(start, stop)
        out = np.empty((len(self.variables), stop - start), dtype=np.int32)
        for row, column in zip(out, self._columns, strict=True):
            column.read(start, stop, row)
        return out

    def blocks(self, size: int = BLOCK) -> Iterator[tuple[int, Codes]]:
        """Iterate over the rows in order: number of the first row, and its block."""
        for start in range(0, self.num_rows, size):
            yield start, self.block(start, min(start + size, self.num_rows))

    def _read_columns(self, columns: Mapping[Hashable, Any]) -> int:
        names = [v.name for v in self._known]
        for name in columns:
            if name not in names:
                raise DataError(
                    f"column {name!r} is no variable, rename it or leave it out"
                    f"{closest(name, names)}"
                )
        for v in self.variables:
            if v.name not in columns:
                rest = [name for name in columns if name not in names] or columns
                raise DataError(
                    f"data has no column {v.name!r} (a variable that is never seen is latent: "
                    f"that takes EM){closest(v.name, rest)}"
                )
            self._columns.append(read_column(v, columns[v.name]))
        lengths = {c.name: len(c) for c in self._columns}
        if len(set(lengths.values())) > 1:
            raise DataError(f"columns must have the same number of rows, got {lengths}")
        return next(iter(lengths.values()), 0)

    def _check_matrix(self, data: Any) -> Any:
        expected = f"expected integer state indices of shape (N, {len(self._known)})"
        if data.ndim != 2 or data.shape[1] != len(self._known):
            names = [v.name for v in self._known]
            shown = f"{names[:8]}{' and more' if len(names) > 8 else ''}"
            raise DataError(f"{expected}, columns in the order {shown}, got {tuple(data.shape)}")
        kind = data[:0].numpy(force=True) if isinstance(data, torch.Tensor) else data
        if kind.dtype.kind not in "iub":
            raise DataError(
                f"{expected}, got {data.dtype}; labels belong into a data frame or a mapping of "
                "columns, missing indices are -1"
            )
        return data

    def _matrix_block(self, start: int, stop: int) -> Codes:
        rows = self._matrix[start:stop]
        rows = rows.numpy(force=True) if isinstance(rows, torch.Tensor) else rows
        if len(self._known) != len(self.variables):
            index = {v.name: k for k, v in enumerate(self._known)}
            rows = rows[:, [index[v.name] for v in self.variables]]
        card = np.array([v.num_states for v in self.variables])
        bad = (rows.max(axis=0) >= card) | (rows.min(axis=0) < -1)
        if bad.any():
            k = int(bad.argmax())
            column = rows[:, k]
            row = int(((column >= card[k]) | (column < -1)).argmax())
            raise DataError(
                f"column {self.variables[k].name!r}, row {start + row}: state index {column[row]} "
                f"is out of range 0..{card[k] - 1} (-1 means missing)"
            )
        return np.ascontiguousarray(rows.astype(np.int32).T)
