"""Numbers that a caller can make large, checked before any memory is touched."""

from __future__ import annotations

import operator
from typing import Any

from pgnn.errors import EvidenceError, Intractable
from pgnn.inference.explanation import human_bytes

MAX_BYTES = 2**32
"""Memory that an answer may take where the engine has no limit of its own."""


def whole_number(name: str, value: Any, least: int = 0) -> int:
    """Return an argument as an integer.

    Args:
        name: What messages call it.
        value: What came.
        least: The smallest that makes sense.

    Raises:
        EvidenceError: If it is no whole number, or smaller.

    Example:
        >>> whole_number("k", 3, least=1)
        3
    """
    try:
        number = operator.index(value)
    except TypeError:
        raise EvidenceError(f"{name} must be a whole number, got {value!r}") from None
    if number < least:
        bound = f"be at least {least}" if least else "not be negative"
        raise EvidenceError(f"{name} must {bound}, got {number}")
    return number


def check_seed(seed: Any) -> int | None:
    """Return a seed; None stands for draws that differ from call to call.

    Raises:
        EvidenceError: If it is neither None nor a whole number of at least zero.
    """
    return None if seed is None else whole_number("seed", seed)


def check_size(what: str, entries: int, max_bytes: int = MAX_BYTES, advice: str = "") -> None:
    """Check what an array of eight-byte numbers would take.

    Args:
        what: What it would hold, for the message.
        entries: How many numbers.
        max_bytes: What is allowed.
        advice: What to do instead.

    Raises:
        Intractable: If it is more than that.
    """
    if entries * 8 > max_bytes:
        raise Intractable(
            f"{what} would need {human_bytes(entries * 8)}; the budget is {human_bytes(max_bytes)}"
            + (f". {advice}" if advice else "")
        )
