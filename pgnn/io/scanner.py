"""A scanner of text by patterns, whose errors give the position."""

from __future__ import annotations

import re

from pgnn.errors import DataError
from pgnn.io.source import Source

STRING = r'"(?:[^"\\]|\\.)*+"'
SPACE = re.compile(r"\s*+")
_TOKEN = re.compile(rf'{STRING}|[^\s{{}}();,|=\[\]"]++|.', re.DOTALL)


def until(marks: str) -> str:
    """Return a pattern for text up to one of some marks, ignoring marks in double quotes."""
    plain = f'[^{marks}"]*+'
    return f"{plain}(?:{STRING}{plain})*+"


class Scanner:
    """A position in a text.

    Args:
        source: Where the text is from, for messages.
        text: The text, of the same length as that of the source: comments may be blank.
    """

    def __init__(self, source: Source, text: str) -> None:
        self.source = source
        self.text = text
        self.at = 0
        self.start = 0
        """Offset of what was expected last."""

    def at_end(self) -> bool:
        """Return whether only blanks follow."""
        self.at = self.skip_space(self.at)
        return self.at == len(self.text)

    def accept(self, mark: str) -> bool:
        """Skip blanks and a mark, and return whether it was there."""
        self.at = self.skip_space(self.at)
        matches = self.text.startswith(mark, self.at)
        self.at += len(mark) if matches else 0
        return matches

    def expect(self, pattern: str | re.Pattern[str], what: str) -> str:
        """Skip blanks and return what matches a pattern.

        Raises:
            DataError: Quoting the text, if it does not match.
        """
        self.start = self.skip_space(self.at)
        match = re.compile(pattern).match(self.text, self.start)
        if match is None:
            raise self.unexpected(self.start, what)
        self.at = match.end()
        return match.group()

    def skip_space(self, offset: int) -> int:
        """Return the offset of the next character that is not blank."""
        match = SPACE.match(self.text, offset)
        return match.end() if match else offset

    def unexpected(self, offset: int, what: str) -> DataError:
        """Return an error that quotes the text at an offset and states what was expected."""
        offset = self.skip_space(offset)
        token = _TOKEN.match(self.text, offset)
        got = repr(token.group()[:40]) if token else "the end of the file"
        hint = " (its closing quote is missing)" if token and token.group() == '"' else ""
        return self.source.error(offset, f"expected {what}, got {got}{hint}")


def without_comments(source: Source, comment: str, opening: str = "") -> str:
    """Return a text with blanks for comments, so that every offset keeps its line and column.

    Args:
        source: The text; what looks like a comment in double quotes is none.
        comment: Pattern of a complete comment.
        opening: Pattern of the beginning of one that may have no end.

    Raises:
        DataError: If a comment has no end.
    """
    # an unclosed quote extends to the end, so that its contents are scanned once
    parts = [STRING, '".*', comment, *([opening] if opening else [])]

    def blank(match: re.Match[str]) -> str:
        text = match.group()
        if text.startswith('"'):
            return text
        if opening and re.fullmatch(opening, text):
            raise source.error(match.start(), "this comment has no end; expected '*/'")
        return re.sub(r"[^\n]", " ", text)

    return re.sub("|".join(parts), blank, source.text, flags=re.DOTALL)


def c_comments_blank(source: Source) -> str:
    """Return a text with blanks for ``// ...`` and ``/* ... */``.

    Raises:
        DataError: If a comment has no end.
    """
    if "//" not in source.text and "/*" not in source.text:
        return source.text
    return without_comments(source, r"//[^\n]*+|/\*.*?\*/", r"/\*")


def unquote(name: str) -> str:
    r"""Return a name without its double quotes and the backslashes in ``\"`` and ``\\``."""
    if len(name) < 2 or not name.startswith('"'):
        return name
    return re.sub(r'\\(["\\])', r"\1", name[1:-1])


def quote(name: str) -> str:
    """Return a name in double quotes, such that :func:`unquote` gives it back."""
    escaped = name.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
