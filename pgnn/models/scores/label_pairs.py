"""Tables of pairs of labels: scores of transitions, and masks of allowed transitions."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pgnn.errors import EvidenceError, ModelError
from pgnn.evidence.framed_values import order_of
from pgnn.evidence.frames import frame_columns, is_frame, matrix_of
from pgnn.factors.cells import is_unlabelled
from pgnn.factors.conditionals.table_reader import read_numbers
from pgnn.factors.variable import Variable


def read_pairs(name: str, table: Any, label: Variable) -> Tensor:
    """Return ``(K, K)`` scores of transitions, from row to column.

    Args:
        name: Name of the table, for error messages.
        table: Scores below infinity; the rows and columns of a data frame are aligned by name.
        label: The variable of the labels.

    Raises:
        ModelError: If the table has another shape, a score is NaN or infinite, or a name is not a
            label.
    """
    scores = _pairs(name, table, label)
    wrong = ~(scores < torch.inf)  # NaN compares as false
    if bool(wrong.any()):
        row, column = wrong.nonzero()[0].tolist()
        raise ModelError(
            f"{name} must be numbers below infinity, got {float(scores[row, column])} in row "
            f"{row}, column {column}",
            "-inf forbids a transition",
        )
    return scores


def read_mask(mask: Any, label: Variable) -> Tensor:
    """Return ``(K, K)`` whether a transition is allowed.

    Raises:
        ModelError: If the mask has another shape, or an entry is not a boolean, zero or one.
    """
    numbers = _pairs("mask", mask, label)
    wrong = (numbers != 0) & (numbers != 1)
    if bool(wrong.any()):
        row, column = wrong.nonzero()[0].tolist()
        got = "NaN" if numbers[row, column].isnan() else f"{float(numbers[row, column]):g}"
        raise ModelError(
            f"mask must be True for each allowed transition and False for each other one, got "
            f"{got} in row {row}, column {column}"
        )
    return numbers != 0


def _pairs(name: str, table: Any, label: Variable) -> Tensor:
    """Return ``(K, K)`` values in the order of the states."""
    k = label.num_states
    try:
        numbers = read_numbers(name, matrix_of(table) if is_frame(table) else table)
    except EvidenceError as error:
        raise ModelError(f"{name}: {error.reason}", error.advice) from None
    if numbers.shape != (k, k):
        raise ModelError(
            f"{name} must have the shape ({k}, {k}), an entry for each pair of labels, "
            f"got {numbers.shape}"
        )
    if hasattr(table, "iloc"):
        if not is_unlabelled(table.index):
            numbers = numbers[_order(name, label, [*table.index])]
        if not is_unlabelled(table.columns):
            columns = [x for x, _ in frame_columns(table)]
            numbers = numbers[:, _order(name, label, columns)]
    return torch.from_numpy(np.ascontiguousarray(numbers))


def _order(name: str, label: Variable, names: Sequence[Hashable]) -> list[int]:
    try:
        order = order_of(label, names)
    except EvidenceError:
        order = None
    if order is None:
        raise ModelError(
            f"{name} has the labels {list(names[:8])!r}, which are not the states of "
            f"{label.name!r}, {[*label.labels.codes][:8]!r}",
            "give .to_numpy() for a table in the order of the states",
        )
    return order
