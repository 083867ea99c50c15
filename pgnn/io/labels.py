"""Names and labels as JSON, with their types."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from pgnn.errors import DataError, short_repr


def encode(label: object) -> Any:
    """Convert a name, a label or a tuple of them to JSON.

    Args:
        label: Text, an integer, a float, a boolean, ``None``, an interval of pandas, or a tuple of
            these.

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
    if type(label).__module__.split(".")[0] == "pandas" and type(label).__name__ == "Interval":
        ends: Any = label
        return {"interval": [encode(ends.left), encode(ends.right), ends.closed]}
    raise DataError(
        "a checkpoint keeps names and labels that are text, numbers, booleans, None, intervals or "
        f"tuples of these, got {label!r} of type {type(label).__name__}",
        "rename it, for instance to its text",
    )


def decode(value: Any) -> Any:
    """Invert :func:`encode`.

    Raises:
        DataError: If the value is not of the form that :func:`encode` returns.
    """
    if isinstance(value, list):
        return tuple(decode(part) for part in value)
    if isinstance(value, dict):
        if set(value) == {"float"} and value["float"] in ("inf", "-inf", "nan"):
            return float(value["float"])
        if set(value) == {"interval"} and len(value["interval"]) == 3:
            import pandas as pd

            return pd.Interval(*map(decode, value["interval"]))
        raise DataError(f"expected a name or label, got {short_repr(value)}")
    return value
