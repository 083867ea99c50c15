"""The labels of sequence data, and the transitions between them."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from itertools import chain
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pgnn.errors import DataError
from pgnn.evidence.framed_values import only_column
from pgnn.evidence.frames import columns_of, is_frame
from pgnn.evidence.states import states_of
from pgnn.evidence.values import RawEvidence
from pgnn.factors.variable import Variable

_SEVERAL = (list, tuple, np.ndarray, Tensor)


def labels_of(name: Hashable, data: Any) -> tuple[Any, ...]:
    """Return the distinct values of a variable over time, sorted.

    Args:
        name: Name of the variable.
        data: Evidence over time, see
            :meth:`~pgnn.evidence.sequence_evidence.SequenceEvidence.read`.

    Raises:
        DataError: If there are none, or values are not labels.

    Example:
        >>> labels_of("tag", {"tag": [["B", "I"], ["O"]]})
        ('B', 'I', 'O')
    """
    raw = RawEvidence.of(data).values
    frames = isinstance(raw, list) and bool(raw) and all(map(is_frame, raw))
    if frames:
        raw = {name: [columns_of(f).get(name) for f in raw]}
    column = columns_of(raw).get(name) if isinstance(raw, Mapping) or is_frame(raw) else raw
    cells = _texts(column) or _flat(column)
    if not cells:
        raise DataError(f"the data has no values of {name!r}", "give its labels, or data with them")
    states = states_of({name: cells})[name].states
    assert states is not None
    return states


def _texts(values: Any) -> list[Any]:
    """Return the distinct cells of lists of lists of strings; an empty list for other data."""
    if type(values) is not list or set(map(type, values)) != {list}:
        return []
    cells = [*chain.from_iterable(values)]
    return [*dict.fromkeys(cells)] if set(map(type, cells)) == {str} else []


def _flat(values: Any) -> list[Any]:
    """Return all cells of nested sequences."""
    if values is None:
        return []
    values = only_column(values)
    values = values.to_pylist() if hasattr(values, "to_pylist") else values  # pyarrow
    if isinstance(values, Tensor):
        values = values.numpy(force=True)
    if isinstance(values, np.ndarray) and values.dtype != object:
        return [x for x in values.ravel().tolist() if not (isinstance(x, int) and x == -1)]
    cells: list[Any] = []
    for value in values:
        if isinstance(value, _SEVERAL) or hasattr(value, "to_list") or is_frame(value):
            cells.extend(_flat(value))
        else:
            cells.append(value.item() if isinstance(value, np.generic) else value)
    return [x for x in cells if not (isinstance(x, int) and not isinstance(x, bool) and x == -1)]


def runs_of(codes: Tensor, size: int, num_labels: int) -> Tensor:
    """Return ``(K, ..., K)`` whether a run of labels occurs in ``(B, T)`` codes (-1: unknown).

    Args:
        codes: Indices of labels.
        size: Length of the runs.
        num_labels: Number of labels ``K``.

    Example:
        >>> runs_of(torch.tensor([[0, 1, 1], [1, -1, 0]]), 2, 2).tolist()
        [[False, True], [False, True]]
    """
    last = codes.shape[1] - size + 1
    places = [codes[:, n : n + max(last, 0)] for n in range(size)]
    known = torch.stack([p >= 0 for p in places]).all(0)
    occurring = torch.zeros((num_labels,) * size, dtype=torch.bool)
    occurring[tuple(p[known] for p in places)] = True
    return occurring


def check_allowed(label: Variable, codes: Tensor, forbidden: Tensor) -> None:
    """Raise an error for forbidden transitions in labels.

    Args:
        label: The label.
        codes: ``(B, T)`` labels, -1 where not observed.
        forbidden: ``(K, K)`` forbidden transitions.

    Raises:
        DataError: If there are any.
    """
    before, after = codes[:, :-1], codes[:, 1:]
    both = (before >= 0) & (after >= 0)
    wrong = both & forbidden.to(codes.device)[before.clamp_min(0), after.clamp_min(0)]
    if bool(wrong.any()):
        row, step = wrong.nonzero()[0].tolist()
        first, second = label.decode([int(before[row, step]), int(after[row, step])])
        raise DataError(
            f"label {second!r} follows {first!r} in row {row}, step {step + 1}, which the mask "
            "forbids"
        )
