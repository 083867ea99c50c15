"""Texts as sequences of characters."""

from __future__ import annotations

from typing import Any

import numpy as np

from pgnn.factors.variable import Variable

_TEXT_KINDS = "UOT"
"""Kinds of NumPy arrays that may hold text."""


def spelled(variable: Variable, values: Any) -> Any:
    """Return texts as lists of characters, if characters are the states; other values unchanged.

    A list of strings that are all states is one sequence; if a string is longer or empty, each
    string is a sequence. The same applies to arrays and Series of strings.

    Args:
        variable: A variable over time.
        values: Values of the variable, in any form.

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
    """Return the elements of a list, or of a flat array or Series that may hold text."""
    if isinstance(values, list | tuple):
        return [*values]
    if isinstance(values, np.ndarray):
        flat = values.ndim == 1 and values.dtype.kind in _TEXT_KINDS
        return values.tolist() if flat else []
    return values.to_list() if hasattr(values, "to_list") else []
