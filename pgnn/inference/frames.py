"""Data frames of answers: state labels from indices, and indices of rows within rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from pgnn.factors.variable import Variable


def label_frame(variables: Sequence[Variable], codes: Tensor, index: Any = None) -> Any:
    """Return a data frame of labels.

    Args:
        variables: Discrete variables.
        codes: ``(n, V)`` state indices; -1 gives a missing cell.
        index: Index of the frame; ``0 .. n-1`` if ``None``.

    Returns:
        A frame of categorical columns whose categories are the states in order. No cell is touched
        in Python.
    """
    import pandas as pd

    table = codes.detach().cpu().numpy()
    columns = {}
    for k, v in enumerate(variables):
        dtype = pd.CategoricalDtype(plain_index(v.states or ()))
        columns[k] = pd.Categorical.from_codes(table[:, k], dtype=dtype)
    frame = pd.DataFrame(columns, index=pd.RangeIndex(len(table)) if index is None else index)
    frame.columns = plain_index([v.name for v in variables])
    return frame


def plain_index(values: Sequence[Any], name: str | None = None) -> Any:
    """Return a pandas index that holds each value as it is; a tuple makes no levels."""
    import pandas as pd

    return pd.Index(list(values), name=name, tupleize_cols=False)


def nested_index(outer: Any, size: int, inner: Any) -> Any:
    """Return the index ``(outer, inner)``, inner running faster.

    Args:
        outer: A data frame's index; ``None`` numbers ``size`` rows.
        size: Length of ``outer``.
        inner: A named pandas index.
    """
    import numpy as np
    import pandas as pd

    if outer is None:
        outer = pd.RangeIndex(size, name="row")
    slow = outer.take(np.repeat(np.arange(size), len(inner)))
    fast = inner.take(np.tile(np.arange(len(inner)), size))
    levels = [slow.get_level_values(k) for k in range(slow.nlevels)]
    names = ["row" if name is None else name for name in slow.names]
    return pd.MultiIndex.from_arrays([*levels, fast], names=[*names, inner.name])
