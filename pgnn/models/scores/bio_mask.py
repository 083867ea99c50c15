"""Allowed transitions between chunk labels."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from pgnn.errors import ModelError


def bio_mask(labels: Sequence[str]) -> Tensor:
    """Return the ``(K, K)`` allowed transitions: ``I-x`` only follows ``B-x`` or ``I-x``.

    Args:
        labels: Labels such as ``["O", "B-NP", "I-NP"]``, or ``B`` and ``I`` without a type.

    Raises:
        ModelError: If a label is not a string.

    Example:
        >>> bio_mask(["O", "B", "I"]).int().tolist()
        [[1, 1, 0], [1, 1, 1], [1, 1, 1]]
    """
    for label in labels:
        if not isinstance(label, str):
            raise ModelError(f"chunk labels must be strings such as 'B-NP', got {label!r}")
    allowed = torch.ones(len(labels), len(labels), dtype=torch.bool)
    for j, after in enumerate(labels):
        if after[:1] == "I":
            for i, before in enumerate(labels):
                allowed[i, j] = before[:1] in "BI" and before[1:] == after[1:]
    return allowed
