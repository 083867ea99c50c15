"""Texts as sequences of characters."""

from __future__ import annotations

from typing import Any

import numpy as np

from pgnn.factors.variable import Variable

_TEXT_KINDS = "UOT"
"""Kinds of NumPy arrays that may hold text."""


def spelled(variable: Variable, values: Any) -> Any:
    """Return texts as lists of characters, if these are the states; anything else as it is.

    A list of strings, each of which is a state, is one sequence; where one of them is longer, or
    empty, all are texts, a sequence each. Arrays and Series of strings are read likewise.

    Args:
        variable: Over time.
        values: Its values, in any form.

    Example:
        >>> letter = Variable("letter", ["a", "b"], ("T",))
        >>> spelled(letter, ["ab", "b", ""]), spelled(letter, "ab"), spelled(letter, ["b", "a"])
        ([['a', 'b'], ['b'], []], ['a', 'b'], ['b', 'a'])
    """
    states = variable.states or ()
    if not states or not all(isinstance(s, str) and len(s) == 1 for s in states):
        return values
    if isinstance(values, str):
        return [*values]
    texts = _strings(values)
    if any(isinstance(x, str) and len(x) != 1 for x in texts):
        return [[*x] if isinstance(x, str) else x for x in texts]
    return values


def _strings(values: Any) -> list[Any]:
    """The elements of a list, or of a flat array or Series that may hold text."""
    if isinstance(values, list | tuple):
        return [*values]
    if isinstance(values, np.ndarray):
        flat = values.ndim == 1 and values.dtype.kind in _TEXT_KINDS
        return values.tolist() if flat else []
    return values.to_list() if hasattr(values, "to_list") else []
