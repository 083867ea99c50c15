"""The first line of a CSV file or stream, looked at before the rows are read."""

from __future__ import annotations

import csv
import re
from io import RawIOBase
from pathlib import Path
from typing import IO, Any

HEADER = 2**21
"""Bytes of a file that are looked at."""
_LINE_END = re.compile(rb"\r\n|\r|\n")
_EMPTY = re.compile(rb"\A(?:\xef\xbb\xbf)?[\r\n]+")
"""Empty lines before the first one with text, perhaps behind a mark of UTF-8."""


def header_of(path: Path) -> bytes:
    """Return the begin of a file with its first line, unpacked if its name ends in ``.gz``, say.

    Raises:
        OSError: If it cannot be opened, or is not packed as its name says.
    """
    import pyarrow as pa

    with pa.input_stream(path) as stream:
        begin: bytes = stream.read(HEADER)
    return begin


def empty_lines(begin: bytes) -> int:
    r"""Return how many empty lines a file has before that of its columns.

    Args:
        begin: Of the file; lines end in LF, CR or both.

    Example:
        >>> empty_lines(b"\r\n\r\nsmoke"), empty_lines(b"\n\nsmoke"), empty_lines(b"smoke\n")
        (2, 2, 0)
    """
    found = _EMPTY.match(begin)
    return 0 if found is None else len(_LINE_END.findall(found[0]))


def column_names(begin: bytes) -> list[str]:
    r"""Return the names in the first line of a file that is not empty; none if it is too long.

    Args:
        begin: Of the file; lines end in LF, CR or both.

    Example:
        >>> column_names(b"\nsmoke,lung\nyes,no")
        ['smoke', 'lung']
    """
    line = _LINE_END.split(_EMPTY.sub(b"", begin), maxsplit=1)[0].decode("utf-8-sig", "replace")
    try:
        return next(csv.reader([line]), [])
    except csv.Error:  # a cell longer than this module takes
        return []


def is_one_column(begin: bytes) -> bool:
    r"""Whether the first line of a file names one column, so that an empty line is a row.

    Args:
        begin: Of the file; lines end in LF, CR or both.

    Example:
        >>> is_one_column(b"smoke\ryes\r\rno"), is_one_column(b"smoke,lung\nyes,no")
        (True, False)
    """
    return len(column_names(begin)) == 1


class Rejoined(RawIOBase):
    """A stream whose begin was read, from this begin on.

    Args:
        stream: Of bytes.
    """

    def __init__(self, stream: IO[bytes]) -> None:
        lines = [stream.readline(HEADER)]
        left = HEADER - len(lines[0])
        while lines[-1] and left > 0 and not lines[-1].strip(b"\xef\xbb\xbf\r\n"):
            lines.append(stream.readline(left))
            left -= len(lines[-1])
        self.begin = b"".join(lines)
        self._unread, self._rest = self.begin, stream

    def readable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Read the next bytes into a buffer, and return how many."""
        part = self._unread[: len(buffer)] or self._rest.read(len(buffer))
        self._unread = self._unread[len(buffer) :]
        buffer[: len(part)] = part
        return len(part)
