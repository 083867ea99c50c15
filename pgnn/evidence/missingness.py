"""Columns that indicate missing cells, for data not missing at random."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from typing import Any

import numpy as np

from pgnn.errors import DataError
from pgnn.evidence.frames import columns_of
from pgnn.factors.cells import cells_of, is_missing


def missing_indicators(
    data: Any, names: Iterable[Hashable] | None = None, suffix: str = " missing"
) -> dict[Hashable, Any]:
    r"""Return the columns of data with additional columns that indicate missing cells.

    EM assumes that cells are missing at random: missingness may depend on observed values only.
    Otherwise, the pattern :math:`r` is modelled as well, :math:`p(x, r) = p(x) \prod_i p(r_i \mid
    \mathrm{pa}(r_i))`: the new columns are variables like any other, with the states ``False`` and
    ``True``, whose parents are the causes of missingness, such as the variable itself or a class.

    Args:
        data: DataFrame, or mapping of names to columns.
        names: Names of the columns; by default those with missing cells.
        suffix: Suffix appended to the name of a column.

    Raises:
        DataError: If a column is unknown, or a new name already exists.

    References:
        Little and Rubin (2002), Statistical Analysis with Missing Data, second edition, chapter 15.

    Example:
        >>> columns = missing_indicators({"income": [3.0, None, 5.0], "age": [30, 40, 50]})
        >>> columns["income missing"]
        [False, True, False]
        >>> "age missing" in columns
        False
    """
    columns = dict(columns_of(data))
    wanted = [*columns] if names is None else list(names)
    unknown = [n for n in wanted if n not in columns]
    if unknown:
        raise DataError(f"data has no column {unknown[0]!r}")
    extended: dict[Hashable, Any] = dict(columns)
    for name in wanted:
        gone = _missing(columns[name])
        if names is None and not gone.any():
            continue
        indicator = f"{name}{suffix}"
        if indicator in columns:
            raise DataError(f"there is a column {indicator!r} already", "give another suffix=")
        extended[indicator] = gone.tolist()
    return extended


def _missing(column: Any) -> np.ndarray:
    """Return a ``(N,)`` mask of unobserved rows, in which all elements are missing."""
    cells = cells_of(column, {})
    values = cells.values
    gone = np.zeros(values.shape, dtype=np.bool_) if cells.missing is None else cells.missing
    if values.dtype.kind == "f":
        gone = gone | np.isnan(values)
    elif values.dtype == object:
        gone = gone | np.array([is_missing(x) for x in values.ravel()]).reshape(values.shape)
    elif cells.categories is not None:  # their numbers
        gone = gone | (values < 0)
    return np.asarray(gone.reshape(len(values), -1).all(axis=1))
