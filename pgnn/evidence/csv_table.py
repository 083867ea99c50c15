"""CSV files as data frames of pandas."""

from __future__ import annotations

import csv
import io
import os
import warnings
from collections.abc import Collection, Hashable, Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

from pgnn.evidence.csv_header import HEADER, CsvHeader, check_distinct, malformed, wrong_cells
from pgnn.evidence.spelled_names import SpelledNames
from pgnn.factors.variable import Variable


def csv_table(
    file: str | os.PathLike[str] | io.IOBase,
    variables: Mapping[Hashable, Variable],
    separator: str = ",",
    ignore: Collection[str] = (),
    name: str = "",
) -> Any:
    """Return a CSV file as a data frame: empty cells are missing, text labels stay text.

    Args:
        file: Path, also of a compressed file, or an open stream.
        variables: Variables of a model, by name; other columns are read as pandas does.
        separator: Separator of the cells.
        ignore: Names of columns that are not variables, for messages.
        name: What messages call the file; that of the path by default.

    Raises:
        DataError: If the file is not a table in CSV format, a line has more or fewer cells than
            there are columns, or two columns have the same name.
    """
    import pandas as pd

    name = name or ("a stream" if isinstance(file, io.IOBase) else Path(file).name)
    content = _read_once(file)
    header = CsvHeader(_begin(file, content), separator)
    names = SpelledNames(variables)
    header.check(name, names, ignore)
    columns = header.columns
    check_distinct(name, [str(names.of(column)) for column in columns])
    text = {n: str for n in columns if n in names and _is_read_as_text(names[n])}
    rules: dict[str, Any] = {
        "sep": separator, "keep_default_na": False, "na_values": [""], "dtype": text,
        "header": header.empty_lines if header.is_one_column else 0,
        "skip_blank_lines": not header.is_one_column, "index_col": False,
    }  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("error", pd.errors.ParserWarning)
        try:
            with _counted(file, content, header) as cells:
                frame = pd.read_csv(cells, **rules)
        except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeError) as error:
            raise malformed(name, error) from None
        except pd.errors.ParserWarning as warning:  # the first row is longer
            _check_cells(name, _source(file, content), header)
            raise malformed(name, warning) from None
    if len(columns) == frame.shape[1]:  # pandas names blank ones "Unnamed: 0"
        frame = frame.set_axis(pd.Index(columns, dtype=object), axis=1)
    if len(columns) > 1 and frame.iloc[:, -1].isna().any() and not cells.fit(len(frame)):
        _check_cells(name, _source(file, content), header)
    return names.renamed(frame)


def _begin(file: Any, content: str | bytes | None) -> bytes:
    """The first bytes of a file as pandas decompresses it, or of what was read of a stream."""
    if isinstance(content, str):
        return content[:HEADER].encode("utf-8", "replace")
    if content is not None:
        return content[:HEADER]
    with _opened(file, "rb") as handles:
        begin: bytes = handles.handle.read(HEADER)
    return begin


def _opened(file: Any, mode: str) -> Any:
    """A file or address, opened by pandas."""
    return import_module("pandas.io.common").get_handle(
        file, mode, encoding="utf-8-sig", compression="infer", is_text="b" not in mode
    )


def _source(path: Any, content: str | bytes | None) -> Any:
    """The path of a file, or what was read of a stream as a new stream."""
    if content is None:
        return path
    return io.StringIO(content) if isinstance(content, str) else io.BytesIO(content)


@contextmanager
def _counted(file: Any, content: str | bytes | None, header: CsvHeader) -> Iterator[CountedCells]:
    """What pandas reads a file from, which counts the cells."""
    source = _source(file, content)
    if isinstance(source, io.BytesIO):
        source = io.TextIOWrapper(source, "utf-8-sig", newline="")
    if isinstance(source, io.TextIOBase):
        yield CountedCells(source, header)
        return
    with _opened(source, "r") as handles:
        yield CountedCells(handles.handle, header)


class CountedCells:
    """A stream of CSV whose separators are counted as it is read.

    pandas fills a line that is too short with empty cells. Where the last column has some, the
    count tells whether any line was short, so that the file is not read again.

    Args:
        stream: The text.
        header: Its beginning.
    """

    def __init__(self, stream: Any, header: CsvHeader) -> None:
        self._stream, self._header = stream, header
        self._separators, self._has_quotes = 0, False

    def read(self, size: int = -1) -> str:
        """Read some characters."""
        text: str = self._stream.read(size)
        self._separators += text.count(self._header.separator)
        self._has_quotes = self._has_quotes or '"' in text
        return text

    def __iter__(self) -> Iterator[str]:
        """Go through lines; pandas takes for a file what has this."""
        return iter(self._stream)

    def fit(self, rows: int) -> bool:
        """Whether every line has a cell for each column; False also where quotes hide it.

        pandas takes longer lines, which would make up for short ones, if the first row is such.
        """
        within = len(self._header.columns) - 1
        if self._header.first_row.count(self._header.separator.encode()) > within:
            return False
        return not self._has_quotes and self._separators == (rows + 1) * within


def _check_cells(name: str, source: Any, header: CsvHeader) -> None:
    """Check that all lines have as many cells as there are columns; pandas extends short ones.

    Raises:
        DataError: If a line has fewer or more cells.
    """
    if isinstance(source, io.BytesIO):
        source = io.TextIOWrapper(source, "utf-8-sig", newline="")
    if isinstance(source, io.TextIOBase):
        return _check_lines(name, source, header)
    with _opened(source, "r") as handles:
        return _check_lines(name, handles.handle, header)


def _check_lines(name: str, lines: Any, header: CsvHeader) -> None:
    reader, count = csv.reader(lines, delimiter=header.separator), len(header.columns)
    try:
        for cells in reader:
            while len(cells) > count and not cells[-1]:  # separators at the end of the line
                cells.pop()
            if cells and len(cells) != count:
                raise wrong_cells(name, reader.line_num, count, len(cells))
    except csv.Error:  # a cell longer than this module takes
        return


def _is_read_as_text(variable: Variable) -> bool:
    """Whether all labels are text, or some are integers that floating point numbers round."""
    if not variable.is_discrete:
        return False
    return variable.labels.are_large or all(isinstance(s, str) for s in variable.states or ())


def _read_once(file: Any) -> str | bytes | None:
    """The contents of a stream, or of a path that can be read once such as a pipe; else None."""
    if isinstance(file, io.IOBase):
        content: str | bytes = file.read()
        return content
    path = Path(file)
    return path.read_bytes() if path.exists() and not path.is_file() else None
