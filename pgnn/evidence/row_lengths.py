"""Lengths of sequences in any container."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import Tensor

from pgnn.errors import EvidenceError, short_repr
from pgnn.factors.cells import dense, is_masked


def lengths_array(argument: str, lengths: Any) -> np.ndarray:
    """Return lengths, or a mask of steps, as an array; whole numbers among floats are integers.

    Args:
        argument: Name of the argument for messages, ``'T'`` or ``lengths=``.
        lengths: A number, or numbers or truth values in any container.

    Raises:
        EvidenceError: If rows have different lengths, or cells are masked.

    Example:
        >>> lengths_array("lengths=", [2.0, 3.0])
        array([2, 3])
    """
    if is_masked(lengths):
        raise EvidenceError(
            f"{argument} has masked cells, and lengths are never missing",
            "fill them, or leave the sequences out",
        )
    try:
        if isinstance(lengths, Tensor):
            lengths = dense(lengths.detach()).cpu()
        array = np.asarray(lengths)
    except ValueError:
        raise EvidenceError(
            f"{argument} must be a whole number for each row, got {short_repr(lengths)}"
        ) from None
    if array.dtype.kind == "f" and array.size and (array == np.floor(array)).all():
        return array.astype(np.int64)
    return array
