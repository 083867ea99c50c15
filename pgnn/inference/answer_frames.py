"""Data frames of answers: labels of states, and nested indices of rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from pgnn.errors import EvidenceError
from pgnn.factors.variable import Variable


def label_frame(variables: Sequence[Variable], codes: Tensor, index: Any = None) -> Any:
    """Return a data frame of labels.

    Args:
        variables: Discrete variables; each element of an array has a column.
        codes: ``(n, E)`` state indices; -1 gives a missing cell.
        index: Index of the frame; ``0 .. n-1`` if ``None``.

    Returns:
        A frame of categorical columns whose categories are the states in order. No cell is touched
        in Python.
    """
    import pandas as pd

    table = codes.detach().cpu().numpy()
    columns: dict[int, Any] = {}
    names: list[Any] = []
    for v in variables:
        dtype = pd.CategoricalDtype(plain_index(v.states or ()))
        for single in v.elements():
            k = len(names)
            columns[k] = pd.Categorical.from_codes(table[:, k], dtype=dtype)
            names.append(single.name)
    frame = pd.DataFrame(columns, index=pd.RangeIndex(len(table)) if index is None else index)
    frame.columns = plain_index(names)
    return frame


def num_steps_of(variables: Sequence[Variable]) -> int:
    """Return the length of the first axis of arrays.

    A single variable has one value for all steps, such as the component of a sequence.

    Raises:
        EvidenceError: If none is an array, or lengths differ.
    """
    sizes = {v.name: v.shape[0] if v.shape else None for v in variables}
    known = {*sizes.values()} - {None}
    if len(known) != 1:
        raise EvidenceError(
            f"steps=True needs variables that share a first axis, such as time; theirs are {sizes}"
        )
    return int(known.pop() or 0)


def at_a_step(variables: Sequence[Variable]) -> list[Variable]:
    """Return arrays without their first axis."""
    return [Variable(v.name, v.states, v.shape[1:]) for v in variables]


def by_step(values: Tensor, variable: Variable, size: int, axis: int) -> Tensor:
    """Return values with an axis of steps, along which those of a single variable are repeated.

    Args:
        values: Values of a variable, an array or not.
        variable: The variable.
        size: Number of steps.
        axis: Place of the axis.
    """
    if variable.shape:
        return values
    values = values.unsqueeze(axis)
    return values.expand(*values.shape[:axis], size, *values.shape[axis + 1 :])


def step_index(size: int, rows: int | None, index: Any) -> Any:
    """Return the index ``step``, or ``(row, step)`` if there is an index of rows."""
    import pandas as pd

    step = pd.RangeIndex(size, name="step")
    return step if rows is None else nested_index(row_index(index, rows), step)


def state_index(variables: Sequence[Variable]) -> Any:
    """Return the pandas index ``(variable, state)`` of the states of discrete variables."""
    import pandas as pd

    pairs = [(v.name, state) for v in variables for state in v.states or ()]
    parts = [plain_index([p[k] for p in pairs]) for k in (0, 1)]
    return pd.MultiIndex.from_arrays(parts, names=["variable", "state"])


def within(frame: Any, size: int, lengths: Sequence[int] | None) -> Any:
    """Return a frame with a row for each step of each sequence, without those after its end.

    Args:
        frame: With ``size`` rows for each sequence.
        size: Number of steps of the longest sequence.
        lengths: Steps of each sequence; all have ``size`` if None.
    """
    import numpy as np

    if lengths is None or min(lengths, default=size) == size:
        return frame
    return frame[(np.arange(size) < np.asarray(lengths)[:, None]).ravel()]


def plain_index(values: Sequence[Any], name: str | None = None) -> Any:
    """Return a pandas index of values; tuples do not become levels."""
    import pandas as pd

    return pd.Index(list(values), name=name, tupleize_cols=False)


def row_index(index: Any, size: int) -> Any:
    """Return a data frame's index, or numbered rows where there is none."""
    import pandas as pd

    return pd.RangeIndex(size, name="row") if index is None else index


def nested_index(outer: Any, inner: Any) -> Any:
    """Return the pandas index ``(outer, inner)``, inner changing faster; levels keep names."""
    import numpy as np
    import pandas as pd

    slow = outer.take(np.repeat(np.arange(len(outer)), len(inner)))
    fast = inner.take(np.tile(np.arange(len(inner)), len(outer)))
    levels = [part.get_level_values(k) for part in (slow, fast) for k in range(part.nlevels)]
    names = ["row" if name is None else name for name in (*outer.names, *inner.names)]
    return pd.MultiIndex.from_arrays(levels, names=names)
