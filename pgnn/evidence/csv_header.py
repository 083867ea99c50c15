"""The first line of a CSV file or stream, inspected before the rows are read."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from io import RawIOBase
from typing import IO, Any

from pgnn.errors import Advice, DataError
from pgnn.evidence.spelled_names import SpelledNames

HEADER = 2**21
"""Number of bytes of a file that are inspected."""
SEPARATORS = (",", ";", "\t", "|")
"""Separators that a message can suggest."""
_LINE_END = re.compile(rb"\r\n|\r|\n")
_EMPTY = re.compile(rb"\A(?:\xef\xbb\xbf)?[\r\n]+")
"""Empty lines before the first line of text, possibly after the byte order mark of UTF-8."""
_OTHER_KINDS = {
    b"ARROW1": "an Arrow (Feather) file; write it as Parquet",
    b"FEA1": "a Feather file; write it as Parquet",
    b"PAR1": "a Parquet file; its name must end in .parquet",
    b"PK\x03\x04": "an Excel workbook or a ZIP archive; export it as CSV",
    b"\xd0\xcf\x11\xe0": "an Excel workbook; export it as CSV",
    b"\x89HDF": "an HDF5 file; write it as Parquet",
    b"\x1f\x8b": "a gzip file; its name must end in .gz",
    b"\xff\xfe": "text in UTF-16; save it as UTF-8 (iconv -f UTF-16 -t UTF-8)",
    b"\xfe\xff": "text in UTF-16; save it as UTF-8 (iconv -f UTF-16 -t UTF-8)",
}
_CELLS = re.compile(
    r"Row #(?P<row>\d+): Expected (?P<want>\d+) columns, got (?P<got>\d+)"
    r"|Expected (?P<fields>\d+) fields in line (?P<line>\d+), saw (?P<saw>\d+)"
)

_NUMBER = re.compile(
    r"In CSV column #(?P<column>\d+): (?:Row #(?P<row>\d+): )?CSV conversion error to double: "
    r"invalid value '(?P<value>.*)'"
)


@dataclass(frozen=True)
class CsvHeader:
    r"""The beginning of a CSV file, with the names of the columns.

    Args:
        begin: First bytes of the file, decompressed; lines end in LF, CR or both.
        separator: Separator of the cells.

    Example:
        >>> header = CsvHeader(b"\n\nsmoke,lung\nyes,no")
        >>> header.empty_lines, header.columns, header.is_one_column
        (2, ['smoke', 'lung'], False)
        >>> CsvHeader(b"smoke\ryes\r\rno").is_one_column
        True
    """

    begin: bytes
    separator: str = ","

    @cached_property
    def empty_lines(self) -> int:
        """Number of empty lines before that of the column names."""
        found = _EMPTY.match(self.begin)
        return 0 if found is None else len(_LINE_END.findall(found[0]))

    @cached_property
    def columns(self) -> list[str]:
        """Names of the columns; empty if the line is too long."""
        return self._split(self.separator)

    @property
    def is_one_column(self) -> bool:
        """Whether there is a single column, so that an empty line is a row."""
        return len(self.columns) == 1

    def check(self, file: str, names: SpelledNames, ignore: Iterable[str] = ()) -> None:
        """Check that the file is a CSV file with this separator.

        Args:
            file: Name of the file, for messages.
            names: Names of the variables.
            ignore: Names of other columns.

        Raises:
            DataError: If it is a file of another kind, or its columns have another separator.
        """
        for magic, kind in _OTHER_KINDS.items():
            if self.begin.startswith(magic):
                raise DataError(f"{file}: expected a CSV file, got {kind}")
        if not self.begin.strip(b"\xef\xbb\xbf\r\n"):
            raise DataError(f"{file}: expected the names of columns, got an empty file")
        if b"\0" in self.begin:
            raise DataError(f"{file}: expected a CSV file, got binary data")
        known = {*ignore}
        if any(column in names or column in known for column in self.columns):
            return
        for other in SEPARATORS:
            cells = self._split(other)
            if len(cells) > 1 and any(cell in names or cell in known for cell in cells):
                raise DataError(
                    f"{file}: expected columns separated by {self.separator!r}, got {other!r}",
                    Advice(f"pass pandas.read_csv({file!r}, sep={other!r})", "separator", other),
                )

    @cached_property
    def line(self) -> bytes:
        """The first line that is not empty."""
        return _LINE_END.split(_EMPTY.sub(b"", self.begin), maxsplit=1)[0]

    @property
    def first_row(self) -> bytes:
        """The line after that of the column names that is not empty."""
        rest = _LINE_END.split(_EMPTY.sub(b"", self.begin), maxsplit=1)[1:]
        return _LINE_END.split(rest[0].lstrip(b"\r\n"), maxsplit=1)[0] if rest else b""

    def _split(self, separator: str) -> list[str]:
        line = self.line.decode("utf-8-sig", "replace")
        try:
            return next(csv.reader([line], delimiter=separator), [])
        except csv.Error:  # a cell longer than this module takes
            return []


def check_distinct(file: str, columns: Sequence[str]) -> None:
    """Check that no two columns of a file have the same name.

    Raises:
        DataError: If two columns have the same name.
    """
    seen: set[str] = set()
    for name in columns:
        if name in seen:
            raise DataError(f"{file}: two columns have the name {name!r}", "rename or remove one")
        seen.add(name)


def malformed(file: str, error: Exception) -> DataError:
    """Return the error for a CSV file that a parser rejects.

    Args:
        file: Name of the file.
        error: The exception of pandas or pyarrow.

    Example:
        >>> print(malformed("a.csv", ValueError("Row #2: Expected 3 columns, got 2: yes,no")))
        a.csv: line 2: expected 3 cells, one for each column, got 2
    """
    text = " ".join(str(error).split())
    found = _CELLS.search(text)
    if found is not None:
        line, want, got = (found["row"] or found["line"], found["want"] or found["fields"],
                           found["got"] or found["saw"])  # fmt: skip
        return wrong_cells(file, int(line), int(want), int(got))
    found = _NUMBER.search(text)
    if found is not None:
        line = f"line {found['row']}: " if found["row"] else ""
        column = int(found["column"]) + 1
        return DataError(
            f"{file}: {line}expected a number in column {column}, got {found['value']!r}",
            line=int(found["row"]) if found["row"] else None,
        )
    if isinstance(error, UnicodeError) or "UTF8" in text:
        return DataError(
            f"{file}: expected text in UTF-8, got another encoding ({text[:100]})",
            Advice("save it as UTF-8 (iconv -f LATIN1 -t UTF-8, say)", "encoding"),
        )
    return DataError(f"{file}: expected a table of values: {text[:300]}")


def wrong_cells(file: str, line: int, columns: int, cells: int) -> DataError:
    """Return the error for a line of a CSV file with too few or too many cells."""
    return DataError(
        f"{file}: line {line}: expected {columns} cells, one for each column, got {cells}",
        line=line,
    )


class Rejoined(RawIOBase):
    """A stream whose beginning has been read, from this beginning on.

    Args:
        stream: A stream of bytes.
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
