"""A whole data set as state codes."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pgnn.evidence.columns import Codes
from pgnn.evidence.table import Table
from pgnn.factors.variable import Variable


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
