"""The first line of a CSV file or stream, looked at before the rows are read."""

from __future__ import annotations

import csv
import re
from io import RawIOBase
from pathlib import Path
from typing import IO, Any

_MOST = 2**17  # bytes that are looked at


def header_of(path: Path) -> bytes:
    """Return the begin of a file with its first line, unpacked if its name ends in ``.gz``, say.

    Raises:
        OSError: If it cannot be opened, or is not packed as its name says.
    """
    import pyarrow as pa

    with pa.input_stream(path) as stream:
        begin: bytes = stream.read(_MOST)
    return begin


def is_one_column(begin: bytes) -> bool:
    r"""Whether the first line of a file names one column, so that an empty line is a row.

    Args:
        begin: Of the file; lines end in LF, CR or both.

    Example:
        >>> is_one_column(b"smoke\ryes\r\rno"), is_one_column(b"smoke,lung\nyes,no")
        (True, False)
    """
    line = re.split(rb"[\r\n]", begin, maxsplit=1)[0].decode("utf-8-sig", "replace")
    try:
        return bool(line) and len(next(csv.reader([line]))) == 1
    except csv.Error:  # a cell longer than this module takes
        return False


class Rejoined(RawIOBase):
    """A stream whose begin was read, from this begin on.

    Args:
        stream: Of bytes.
    """

    def __init__(self, stream: IO[bytes]) -> None:
        self.begin = stream.readline(_MOST)
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
