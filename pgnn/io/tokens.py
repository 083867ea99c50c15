"""Files of words and numbers that are separated by blanks."""

from __future__ import annotations

import itertools
import math
import re

import numpy as np

from pgnn.errors import DataError
from pgnn.io.number_words import NotANumber, read_numbers
from pgnn.io.source import Source


class Tokens:
    """Reads the words of a text in order; computes their positions only for errors.

    Args:
        source: The text.

    Example:
        >>> tokens = Tokens(Source("MARKOV 2 0.5 0.5", "coin.uai"))
        >>> tokens.word("the kind"), tokens.integer("a count"), tokens.numbers(2, "the table")
        ('MARKOV', 2, array([0.5, 0.5]))
    """

    def __init__(self, source: Source) -> None:
        self.source = source
        self.at = 0
        self._words = source.text.split()
        self._comments: dict[int, str] = {}

    @classmethod
    def without_comments(cls, source: Source) -> Tokens:
        """Return the words outside of comments, and remember those.

        A comment is the part of a line after ``#``; errors still have the right position.
        """
        if "#" not in source.text:
            return cls(source)
        text = re.sub("#[^\n]*", lambda m: " " * len(m.group()), source.text)
        tokens = cls(Source(text, source.name))
        words, start = 0, 0
        for match in re.finditer("#[^\n]*", source.text):
            words += len(text[start : match.start()].split())
            start = match.start()
            if text[text.rfind("\n", 0, start) + 1 : start].strip():
                tokens._comments[words - 1] = match.group()[1:].strip()
        return tokens

    def comment_after(self, index: int) -> str:
        """Return the comment on the line that ends with the word of an index, else ``""``."""
        return self._comments.get(index, "")

    @property
    def remaining(self) -> int:
        """Number of words that are left."""
        return len(self._words) - self.at

    def word(self, what: str) -> str:
        """Take one word.

        Raises:
            DataError: At the end of the file.
        """
        return self._take(1, what)[0]

    def integer(self, what: str, low: int = 0, high: float = math.inf) -> int:
        """Take one integer from ``low`` to ``high``.

        Raises:
            DataError: If the next word is something else, or a number out of range.
        """
        return self.integers(1, what, low, high)[0]

    def integers(self, count: int, what: str, low: int = 0, high: float = math.inf) -> list[int]:
        """Take some integers from ``low`` to ``high``.

        Raises:
            DataError: If the next word is something else, or a number out of range.
        """
        start = self.at
        return self._as_integers(self._take(count, what), start, 1, what, low, high)

    def numbers(self, count: int, what: str) -> np.ndarray:
        """Take some finite non-negative numbers as float64.

        Raises:
            DataError: If the next word is something else.
        """
        start = self.at
        return self._as_numbers(self._take(count, what), start, 1, what)

    def indexed_numbers(self, count: int, what: str, high: float) -> tuple[list[int], np.ndarray]:
        """Take some pairs of an index up to ``high`` and a finite non-negative number.

        Raises:
            DataError: If the next word is something else.
        """
        start = self.at
        words = self._take(2 * count, what)
        index = f"the index of {what}"
        indices = self._as_integers(words[::2], start, 2, index, 0, high)
        return indices, self._as_numbers(words[1::2], start + 1, 2, what)

    def _as_integers(
        self, words: list[str], start: int, step: int, what: str, low: int, high: float
    ) -> list[int]:
        """The words of every ``step``-th index from ``start`` as integers."""
        values = []
        for k, word in enumerate(words):
            # Python's int() also takes signs, underscores and digits of other scripts.
            good = word.isascii() and word.isdecimal() and len(word) < 19
            if not good or not low <= int(word) <= high:
                span = f"from {low}" + (f" to {int(high)}" if math.isfinite(high) else " up")
                raise self.error(
                    start + k * step, f"expected {what}, an integer {span}, got {word[:40]!r}"
                )
            values.append(int(word))
        return values

    def _as_numbers(self, words: list[str], start: int, step: int, what: str) -> np.ndarray:
        try:
            return read_numbers(words)
        except NotANumber as error:
            raise self.error(
                start + error.index * step,
                f"expected {what}, a finite number not below 0, got {words[error.index][:40]!r}",
            ) from None

    def end(self, what: str) -> None:
        """Check that nothing follows.

        Raises:
            DataError: If something does.
        """
        if self.remaining:
            word = self._words[self.at]
            raise self.error(self.at, f"expected the end of the file {what}, got {word[:40]!r}")

    def error(self, index: int, message: str) -> DataError:
        """Return an error at the word of an index."""
        words = re.finditer(r"\S+", self.source.text)
        match = next(itertools.islice(words, index, None), None)
        return self.source.error(match.start() if match else len(self.source.text), message)

    def _take(self, count: int, what: str) -> list[str]:
        if count > self.remaining:
            got = f"the end of the file after {self.remaining}" if count > 1 else "the end"
            many = f"{count} x {what}" if count > 1 else what
            raise self.error(len(self._words), f"expected {many}, got {got}")
        words = self._words[self.at : self.at + count]
        self.at += count
        return words
