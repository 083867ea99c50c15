"""Vectorised parsing of the numbers in a file."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np


class NotANumber(ValueError):
    """Says which word is none of the numbers that were expected.

    Args:
        index: Of the word, from 0.
    """

    def __init__(self, index: int) -> None:
        super().__init__(index)
        self.index = index


def read_numbers(words: Sequence[str], most: float = math.inf) -> np.ndarray:
    """Return words as finite float64 numbers from 0 to ``most``.

    Args:
        words: Decimal numbers.
        most: The largest; infinity itself is never read.

    Raises:
        NotANumber: With the first word that is none; only then are they looked at one by one.

    Example:
        >>> read_numbers(["0.25", "1e-3"])
        array([0.25 , 0.001])
    """
    try:
        values = np.array(list(map(float, words)), dtype=np.float64)
        good = (values >= 0) & (values <= most) & (values < math.inf)
        # Python reads digits with underscores as numbers, files of networks do not.
        if good.all() and "_" not in "".join(words):
            return values
    except ValueError:
        pass
    raise NotANumber(next(k for k, word in enumerate(words) if not _is_number(word, most)))


def _is_number(word: str, most: float) -> bool:
    try:
        return "_" not in word and 0 <= float(word) <= most and float(word) < math.inf
    except ValueError:
        return False
