"""CSV and Parquet files of rows, read batch by batch in constant memory."""

from __future__ import annotations

import os
from collections.abc import Collection, Hashable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from io import BufferedReader
from typing import IO, Any, TypeVar
from weakref import finalize

import numpy as np
from numpy.typing import NDArray

from pgnn.errors import Advice, DataError, EvidenceError, closest
from pgnn.evidence.csv_header import HEADER, CsvHeader, Rejoined, check_distinct, malformed
from pgnn.evidence.spelled_names import SpelledNames
from pgnn.evidence.wrappers import Codes, codes
from pgnn.factors.labels import MISSING
from pgnn.factors.variable import Variable
from pgnn.io.answer_file import arrow, is_parquet
from pgnn.io.source import path_of

Item = TypeVar("Item")
BATCH = 1_024
"""About how many rows are answered at a time: larger batches are faster, but take more memory."""
_UNKNOWN = -2
_BLOCK = 2**17  # bytes of a CSV file that are parsed at a time; pyarrow reads 32 ahead


@dataclass(frozen=True)
class RowBatch:
    """Some rows of a file.

    Attributes:
        start: Number of the first one.
        num_rows: How many they are.
        evidence: By variable its codes or values, with missing ones.
        copied: By name the columns that are no variables, as pyarrow has them.
    """

    start: int
    num_rows: int
    evidence: dict[Hashable, Any]
    copied: dict[str, Any]


class RowFile:
    """Evidence in a CSV or Parquet file, a column for each variable, empty cells not observed.

    Args:
        file: Path, of Parquet if it ends so, else CSV; or a stream of CSV.
        variables: Those of the model.
        ignore: Columns that are not variables; they are copied to the output.
        separator: Separator of the cells of a CSV file.

    Raises:
        DataError: If the file is no table, or a column is neither variable nor ignored.
        EvidenceError: While it is read, if a cell is no state; the message has row and column.
        Unsupported: If pyarrow is not installed.
    """

    def __init__(
        self,
        file: str | os.PathLike[str] | IO[bytes],
        variables: Mapping[Hashable, Variable],
        ignore: Collection[str] = (),
        separator: str = ",",
    ) -> None:
        arrow()
        self._separator = separator
        self.name = "standard input"
        if isinstance(file, str | os.PathLike):
            self.name = path_of(file).name
            stream = path_of(file).open("rb")  # its error is the usual one of the system
            if path_of(file).is_file():
                stream.close()
            else:  # a pipe, which is read once
                file = stream
                finalize(self, stream.close)
        is_path = isinstance(file, str | os.PathLike)
        self._ignore = set(ignore)
        self._names = SpelledNames(variables)
        self._is_parquet = is_path and is_parquet(self.name)
        with arrow_errors(self.name):
            self._reader = self._parquet(file) if self._is_parquet else self._csv(file)
            names = list(self._schema.names)
        check_columns(self.name, names, self._names, ignore)

    def __iter__(self) -> Iterator[RowBatch]:
        """Read the batches in order, one ahead of that which is looked at."""
        return ahead(self._batches())

    def _batches(self) -> Iterator[RowBatch]:
        start, tables = 0, []
        with arrow_errors(self.name):
            for table in self._tables():
                tables.append(table)
                if sum(t.num_rows for t in tables) >= BATCH:
                    batch = self._batch(tables, start)
                    yield batch
                    start, tables = start + batch.num_rows, []
            if tables or not start:  # a table without rows has an answer without rows
                yield self._batch(tables or [self._no_rows()], start)

    def _tables(self) -> Iterator[Any]:
        if self._is_parquet:
            yield from self._reader.iter_batches(BATCH)
        else:
            yield from self._reader

    def _parquet(self, file: Any) -> Any:
        from pyarrow import parquet

        return parquet.ParquetFile(file)

    def _csv(self, file: Any) -> Any:
        import pyarrow as pa
        from pyarrow import csv

        label = pa.dictionary(pa.int32(), pa.string())
        if isinstance(file, str | os.PathLike):
            with pa.input_stream(path_of(file)) as stream:
                begin = stream.read(HEADER)
        else:
            rejoined = Rejoined(file)
            begin, file = rejoined.begin, BufferedReader(rejoined)
        header = CsvHeader(begin, self._separator)
        header.check(self.name, self._names, self._ignore)
        types = {
            name: label if variable.is_discrete else pa.float64()
            for name in [*map(str, self._names.variables), *header.columns]
            if (variable := self._names.find(name)) is not None
        }
        types |= dict.fromkeys(self._ignore, pa.string())
        return csv.open_csv(
            file,
            read_options=csv.ReadOptions(block_size=_BLOCK, skip_rows=header.empty_lines),
            parse_options=csv.ParseOptions(
                delimiter=self._separator, ignore_empty_lines=not header.is_one_column
            ),
            convert_options=csv.ConvertOptions(
                column_types=types, null_values=[""], strings_can_be_null=True
            ),
        )

    @property
    def _schema(self) -> Any:
        return self._reader.schema_arrow if self._is_parquet else self._reader.schema

    def _no_rows(self) -> Any:
        import pyarrow as pa

        return pa.RecordBatch.from_pylist([], schema=self._schema)

    def _batch(self, tables: Sequence[Any], start: int) -> RowBatch:
        import pyarrow as pa

        evidence: dict[Hashable, Any] = {}
        copied = {}
        for k, name in enumerate(tables[0].schema.names):
            columns = [table.column(k) for table in tables]
            variable = self._names.find(name)
            if name in self._ignore or variable is None:
                copied[name] = pa.concat_arrays(columns)
            elif variable.is_discrete:
                evidence[variable.name] = codes(self._coded(variable, columns, start))
            else:
                numbers = [numbers_of(column) for column in columns]
                evidence[variable.name] = np.concatenate(
                    [np.where(present, values, np.nan) for values, present in numbers]
                )
        number = sum(table.num_rows for table in tables)
        if not evidence:  # rows without evidence have answers, too
            variable = next(x for v in self._names.variables.values() for x in v.elements())
            unobserved = codes(np.full(number, MISSING, dtype=np.int32))
            evidence[variable.name] = (
                unobserved if variable.is_discrete else np.full(number, np.nan)
            )
        return RowBatch(start, number, evidence, copied)

    def _coded(self, variable: Variable, columns: Sequence[Any], start: int) -> NDArray[np.int32]:
        """State indices of pieces of a column, -1 where it is empty."""
        parts = []
        for column in columns:
            parts.append(self._piece(variable, column, start))
            start += len(column)
        return np.concatenate(parts)

    def _piece(self, variable: Variable, column: Any, start: int) -> NDArray[np.int32]:
        import pyarrow as pa

        if not pa.types.is_dictionary(column.type):
            column = column.dictionary_encode()
        labels = column.dictionary.to_pylist()
        values, present = numbers_of(column.indices)
        indices = np.where(present, values, len(labels))
        table = np.full(len(labels) + 1, MISSING, dtype=np.int32)
        errors = {}
        for k, label in enumerate(labels):
            try:
                table[k] = variable.index(label)
            except (
                EvidenceError
            ) as error:  # it may belong to other rows, as batches share their labels
                table[k], errors[k] = _UNKNOWN, error
        coded: NDArray[np.int32] = table[indices]
        if errors and (coded == _UNKNOWN).any():
            row = int((coded == _UNKNOWN).argmax())
            known = errors[int(indices[row])]
            raise EvidenceError(f"{self.name}: row {start + row}: {known.reason}", known.advice)
        return coded


def ahead(items: Iterator[Item]) -> Iterator[Item]:
    """Go through items, each made by a thread while the one before is looked at."""
    with ThreadPoolExecutor(1) as thread:
        future = thread.submit(next, items, None)
        while (item := future.result()) is not None:
            future = thread.submit(next, items, None)
            yield item


def numbers_of(column: Any) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """Return the numbers of a column of pyarrow, and which of them are there; pandas is not loaded.

    Args:
        column: Whole numbers or reals.
    """
    validity, data = column.buffers()
    count, first = len(column), column.offset
    values = np.frombuffer(data, np.dtype(str(column.type)))[first : first + count]
    if validity is None:
        return values, np.ones(count, dtype=np.bool_)
    bits = np.unpackbits(np.frombuffer(validity, np.uint8), count=first + count, bitorder="little")
    return values, bits[first:].view(np.bool_)


def check_columns(
    file: str,
    columns: Sequence[str],
    names: SpelledNames,
    ignore: Collection[str],
) -> None:
    """Check the names of the columns of a file.

    Raises:
        DataError: If one is neither variable, element of an array nor ignored, or two are the same.
    """
    check_distinct(file, columns)
    check_distinct(file, [str(names.of(name)) for name in columns if name not in ignore])
    for name in columns:
        variable = names.find(name)
        if (variable is None or variable.shape) and name not in ignore:
            raise DataError(
                f"{file}: column {name!r} is not a variable of the model{names.advice(name)}",
                Advice("ignore it, or leave it out", "ignore", (name,)),
            )
    for name in ignore:
        if name not in columns:
            raise DataError(
                f"{file}: there is no column {name!r} to ignore{closest(name, columns)}"
            )


@contextmanager
def arrow_errors(name: str) -> Iterator[None]:
    """Convert errors of pyarrow about a file to errors of this library."""
    import pyarrow as pa

    try:
        yield
    except (pa.ArrowInvalid, UnicodeError) as error:
        raise malformed(name, error) from None
    except OSError as error:
        if error.errno is not None:
            raise
        raise DataError(f"{name}: cannot be read: {error}", "is it packed as it ends?") from None


def held_out(
    evidence: Mapping[Hashable, Any], targets: Collection[Hashable]
) -> tuple[dict[Hashable, Any], dict[Hashable, Any]]:
    """Return the evidence with the columns of targets marked as missing, and these columns.

    Args:
        evidence: Columns by name of a variable or of an element of an array, as
            :class:`RowFile` reads them.
        targets: Names of variables and elements; the elements of an array belong to it.

    Example:
        >>> kept, out = held_out({"a": np.array([0.5]), ("y", 0): np.array([2.0])}, ["y"])
        >>> kept, out
        ({'a': array([0.5]), ('y', 0): array([nan])}, {('y', 0): array([2.])})
    """
    out = {name: column for name, column in evidence.items() if is_target(name, targets)}
    return {name: missing_like(x) if name in out else x for name, x in evidence.items()}, out


def is_target(name: Hashable, targets: Collection[Hashable]) -> bool:
    """Whether a variable, or the array of an element, is a target."""
    return name in targets or (isinstance(name, tuple) and name[0] in targets)


def missing_like(column: Any) -> Any:
    """Return a column in which every cell is missing."""
    if isinstance(column, Codes):
        return codes(np.full_like(column.values, MISSING))
    return np.full_like(column, np.nan)
