"""The labels of a variable over time that was not declared."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
from torch import Tensor

from pgnn.errors import DataError
from pgnn.evidence.frames import columns_of, is_frame
from pgnn.evidence.states import states_of
from pgnn.evidence.values import RawEvidence


def labels_of(name: Hashable, data: Any) -> tuple[Any, ...]:
    """Return the distinct values of a variable over time, sorted.

    Args:
        name: Of the variable.
        data: Evidence over time, see
            :meth:`~pgnn.evidence.sequence_evidence.SequenceEvidence.read`.

    Raises:
        DataError: If there is none, or values are no labels.

    Example:
        >>> labels_of("tag", {"tag": [["B", "I"], ["O"]]})
        ('B', 'I', 'O')
    """
    raw = RawEvidence.of(data).values
    frames = isinstance(raw, list) and bool(raw) and all(map(is_frame, raw))
    if frames:
        raw = {name: [columns_of(f).get(name) for f in raw]}
    column = columns_of(raw).get(name) if isinstance(raw, Mapping) or is_frame(raw) else raw
    cells = _flat(column)
    if not cells:
        raise DataError(f"the data has no values of {name!r}; give its labels, or data with them")
    states = states_of({name: cells})[name].states
    assert states is not None
    return states


def _flat(values: Any) -> list[Any]:
    """All cells of nested sequences."""
    if values is None:
        return []
    if isinstance(values, Tensor):
        values = values.numpy(force=True)
    if isinstance(values, np.ndarray) and values.dtype != object:
        return [x for x in values.ravel().tolist() if not (isinstance(x, int) and x == -1)]
    cells: list[Any] = []
    for value in values:
        if isinstance(value, list | tuple | np.ndarray | Tensor) or hasattr(value, "to_list"):
            cells.extend(_flat(value))
        else:
            cells.append(value.item() if isinstance(value, np.generic) else value)
    return [x for x in cells if not (isinstance(x, int) and not isinstance(x, bool) and x == -1)]
