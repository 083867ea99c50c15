"""Data sets as state codes: frames, mappings of columns, matrices of indices."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pgnn.data_columns import Codes, Column, read_column
from pgnn.errors import DataError, closest
from pgnn.factors.variable import Variable

BLOCK = 65_536
"""Rows that are coded at a time: small enough to stay in cache, large enough to cost nothing."""
MAX_LABELS = 1000
"""Most labels that :func:`states_of` makes of a column that is not categorical."""
MAX_REALS = 20
"""Most fractional numbers that :func:`states_of` takes for labels."""


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


class EncodedTable:
    """State codes of a whole data set.

    Attributes:
        variables: The variables, in the order of the columns.
        codes: ``(N, V)`` int32, columns contiguous; -1 where a cell is missing.
    """

    def __init__(self, variables: tuple[Variable, ...], codes: Codes) -> None:
        self.variables = variables
        self.codes = codes

    @property
    def missing(self) -> NDArray[np.bool_]:
        """``(N, V)`` whether a cell is missing."""
        return np.asarray(self.codes < 0)

    @property
    def num_missing(self) -> dict[Hashable, int]:
        """Number of missing cells of each variable that has some."""
        counts = [int((column < 0).sum()) for column in self.codes.T]
        return {v.name: n for v, n in zip(self.variables, counts, strict=True) if n}

    def __repr__(self) -> str:
        rows, columns = self.codes.shape
        return f"EncodedTable({rows} rows, {columns} columns, missing={self.num_missing})"


def encode_table(variables: Sequence[Variable], data: Any) -> EncodedTable:
    """Turn a data set into state codes.

    Args:
        variables: Single discrete variables, in the order of the coded columns.
        data: As for :class:`Table`.

    Raises:
        DataError: As for :class:`Table`.

    Cost:
        A few milliseconds for a million cells of a categorical column; other columns are
        factorised by pandas, and each distinct label is looked up once.

    Example:
        >>> rain, wet = Variable("rain", ["no", "yes"]), Variable("wet", 2)
        >>> encode_table([rain, wet], {"rain": ["yes", "no"], "wet": [0, 1]}).codes.tolist()
        [[1, 0], [0, 1]]
    """
    table = Table(variables, data)
    columns = np.empty((len(table.variables), table.num_rows), dtype=np.int32)
    for start, block in table.blocks():
        columns[:, start : start + block.shape[1]] = block
    return EncodedTable(table.variables, columns.T)


def columns_of(data: Any) -> Mapping[Hashable, Any]:
    """Return the columns of a data frame or of a mapping, by name.

    Raises:
        DataError: If it is neither, or a frame has a column twice.
    """
    if not hasattr(data, "iloc") and hasattr(data, "to_pandas"):
        data = data.to_pandas()
    if isinstance(data, Mapping):
        return data
    if not (hasattr(data, "iloc") and hasattr(data, "columns")):
        raise DataError(
            "expected a DataFrame, a mapping from names to columns, or an integer array or tensor "
            f"of shape (N, V), got {type(data).__name__}"
        )
    names = list(data.columns)
    if len(set(names)) < len(names):
        twice = next(name for k, name in enumerate(names) if name in names[:k])
        raise DataError(f"data has two columns {twice!r}; keep one")
    return {name: data.iloc[:, k] for k, name in enumerate(names)}


def states_of(data: Any, ignore: Collection[Hashable] = ()) -> dict[Hashable, Variable]:
    """Derive variables from the columns of a data set.

    A categorical column has its categories as states, in their order; another one its distinct
    values, sorted, without missing ones. Integer arrays and tensors of a mapping are indices: they
    have as many states as the largest of them tells.

    Args:
        data: DataFrame (pandas, polars) or mapping from names to sequences of labels.
        ignore: Columns that are no variables.

    Returns:
        Variables by name, in the order of the columns.

    Raises:
        DataError: If a column has no value, numbers that look real, very many labels, or labels
            that cannot be sorted; the message says what to do.

    Example:
        >>> states_of({"rain": ["yes", "no", None], "day": [3, 1, 2]})["rain"]
        Variable('rain', ['no', 'yes'])
    """
    columns = columns_of(data)
    return {
        name: Variable(name, _labels(name, column))
        for name, column in columns.items()
        if name not in ignore
    }


def _labels(name: Hashable, column: Any) -> list[Any]:
    import pandas as pd

    column = column.numpy(force=True) if isinstance(column, torch.Tensor) else column
    if isinstance(column, np.ndarray) and column.dtype.kind in "iu":
        column = range(int(column.max(initial=-1)) + 1)  # indices, not labels
    series = column if isinstance(column, pd.Series) else pd.Series(column)
    if isinstance(series.dtype, pd.CategoricalDtype):
        labels: list[Any] = series.cat.categories.tolist()
    else:
        labels = series.dropna().unique().tolist()
    if not labels:
        raise DataError(f"column {name!r} has no value to make states of; declare its states")
    if isinstance(series.dtype, pd.CategoricalDtype):
        return labels
    reals = [x for x in labels if isinstance(x, float) and not x.is_integer()]
    if len(reals) > MAX_REALS:
        raise DataError(
            f"column {name!r} has {len(labels)} different real numbers; cut it into states with "
            f"pandas.cut or pandas.qcut, or declare Variable({name!r}) as real"
        )
    if len(labels) > MAX_LABELS:
        raise DataError(
            f"column {name!r} has {len(labels)} different values in {len(series)} rows, which "
            "look like identifiers; leave it out, or make it categorical if they are states"
        )
    if not reals:
        labels = [int(x) if isinstance(x, float) else x for x in labels]
    try:
        return sorted(labels)
    except TypeError:
        kinds = sorted({type(x).__name__ for x in labels})
        raise DataError(
            f"labels of column {name!r} cannot be sorted, they mix {' and '.join(kinds)}; make "
            "it categorical with its states in order"
        ) from None
