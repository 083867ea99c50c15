"""Names and labels as JSON, with their types."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from pgnn.errors import DataError


def encode(label: object) -> Any:
    """Turn a name, a label or a tuple of them into what JSON can hold.

    Args:
        label: Text, an integer, a float, a boolean, ``None``, or a tuple of these.

    Raises:
        DataError: If it is of another type.

    Example:
        >>> encode(("pixel", 3, True)), encode(float("inf"))
        (['pixel', 3, True], {'float': 'inf'})
    """
    if isinstance(label, np.generic):
        label = label.item()
    if isinstance(label, float) and not math.isfinite(label):
        return {"float": repr(float(label))}
    if isinstance(label, tuple):
        return [encode(part) for part in label]
    if label is None or type(label) in (bool, int, float, str):
        return label
    raise DataError(
        f"a checkpoint keeps names and labels that are text, numbers, booleans, None or tuples of "
        f"these, got {label!r} of type {type(label).__name__}; rename it, for instance to its text"
    )


def decode(value: Any) -> Any:
    """Turn what :func:`encode` returned back.

    Raises:
        DataError: If it is nothing that :func:`encode` returns.
    """
    if isinstance(value, list):
        return tuple(decode(part) for part in value)
    if isinstance(value, dict):
        if set(value) != {"float"} or value["float"] not in ("inf", "-inf", "nan"):
            raise DataError(f"expected a name or label, got {value!r}")
        return float(value["float"])
    return value
