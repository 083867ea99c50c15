"""Tables of pairs of labels: scores of transitions, and which there are."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from pgnn.errors import ModelError
from pgnn.factors.conditionals.table_reader import read_numbers


def read_pairs(name: str, table: Any, k: int) -> Tensor:
    """Return ``(K, K)`` numbers, from row to column.

    Raises:
        ModelError: If it has another shape.
    """
    numbers = read_numbers(name, table)
    if numbers.shape != (k, k):
        raise ModelError(
            f"{name} must be ({k}, {k}), from each of {k} labels to each, got {numbers.shape}"
        )
    return torch.from_numpy(numbers)


def read_mask(mask: Any, k: int) -> Tensor:
    """Return ``(K, K)`` which transitions there are: entries that are not zero.

    Raises:
        ModelError: If it has another shape, or an entry is no number.
    """
    numbers = read_pairs("mask", mask, k)
    if bool(numbers.isnan().any()):
        row, column = (int(x) for x in np.argwhere(numbers.isnan().numpy())[0])
        raise ModelError(
            f"mask must say of each transition whether there is one (True) or not (False), got NaN "
            f"in row {row}, column {column}"
        )
    return numbers != 0
