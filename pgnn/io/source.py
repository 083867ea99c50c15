"""The text of one file, and where in it something went wrong."""

from __future__ import annotations

import bisect
import gzip
import os
import re
import zlib
from pathlib import Path
from typing import IO, Any, TypeAlias, Union

from pgnn.errors import DataError

PathOrFile: TypeAlias = Union[str, "os.PathLike[str]", IO[Any]]

_GZIP_MAGIC = b"\x1f\x8b"


class Source:
    r"""Text with a name, that turns an offset into a line and a column.

    Args:
        text: The decoded text.
        name: What to call it in messages, usually the file's name.

    Example:
        >>> str(Source("one\ntwo", "numbers.txt").error(5, "expected a digit"))
        'numbers.txt:2:2: expected a digit'
    """

    def __init__(self, text: str, name: str = "<text>") -> None:
        self.text = text
        self.name = name
        self._line_starts: list[int] = []

    @classmethod
    def read(cls, file: PathOrFile | Source, encoding: str = "utf-8") -> Source:
        """Read a file, a gzip file, or an open text or binary stream to its end.

        A source that was read already is returned as it is.

        Raises:
            DataError: If the file is not text of this encoding, or its gzip stream is broken.
            OSError: If it cannot be opened.
        """
        if isinstance(file, Source):
            return file
        if isinstance(file, str | os.PathLike):
            path = Path(file)
            return cls(_decode(path.read_bytes(), path.name, encoding), path.name)
        name = getattr(file, "name", "<stream>")
        name = Path(name).name if isinstance(name, str) else "<stream>"
        data = file.read()
        return cls(data if isinstance(data, str) else _decode(data, name, encoding), name)

    def position(self, offset: int) -> tuple[int, int]:
        """Return line and column, both from 1, of an offset."""
        if not self._line_starts:
            self._line_starts = [0, *(m.end() for m in re.finditer("\n", self.text))]
        line = bisect.bisect_right(self._line_starts, offset)
        return line, offset - self._line_starts[line - 1] + 1

    def error(self, offset: int, message: str) -> DataError:
        """Return (not raise) the error that says what is wrong at an offset."""
        line, column = self.position(min(offset, len(self.text)))
        return DataError(f"{self.name}:{line}:{column}: {message}", line=line, column=column)


def write_text(text: str, file: PathOrFile) -> None:
    """Write text as UTF-8 to a path (gzip if it ends in ``.gz``) or to an open stream.

    Raises:
        DataError: If the text holds characters that UTF-8 cannot.
        OSError: If the file cannot be written.
    """
    try:
        data = text.encode()
    except UnicodeEncodeError as error:
        bad = text[error.start : error.end]
        raise DataError(f"cannot write {bad!r} as UTF-8; rename the variable or state") from error
    if isinstance(file, str | os.PathLike):
        path = Path(file)
        path.write_bytes(gzip.compress(data, mtime=0) if path.suffix == ".gz" else data)
    elif hasattr(file, "encoding"):
        file.write(text)
    else:
        file.write(data)


def _decode(data: bytes, name: str, encoding: str) -> str:
    if data[:2] == _GZIP_MAGIC:
        try:
            data = gzip.decompress(data)
        except (OSError, EOFError, zlib.error) as error:
            raise DataError(f"{name}: the gzip stream is broken or cut off ({error})") from error
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        column = error.start - data.rfind(b"\n", 0, error.start)
        raise DataError(
            f"{name}:{line}:{column}: expected {encoding} text, got byte "
            f"0x{data[error.start]:02x}; pass encoding= (for instance 'latin-1')",
            line=line,
            column=column,
        ) from error
    return text.removeprefix("\ufeff")
