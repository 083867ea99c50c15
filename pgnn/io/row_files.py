"""CSV and Parquet files of rows, read and written batch by batch in constant memory."""

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

from pgnn.errors import DataError, EvidenceError, closest, require
from pgnn.evidence.spelled_names import SpelledNames
from pgnn.evidence.wrappers import codes
from pgnn.factors.labels import MISSING
from pgnn.factors.variable import Variable
from pgnn.io.csv_header import Rejoined, column_names, empty_lines, header_of, is_one_column
from pgnn.io.source import ending_of, path_of
from pgnn.limits import check_apart

Item = TypeVar("Item")
BATCH = 4_096
"""About how many rows are answered at a time: more take more memory and no less time."""
_GROUP = 32_768
"""About how many rows a row group of a Parquet file has."""
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
        ignore: Columns that are no variables; they are passed on.

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
    ) -> None:
        arrow()
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
        with _arrow_errors(self.name):
            self._reader = self._parquet(file) if self._is_parquet else self._csv(file)
            names = list(self._schema.names)
        check_columns(self.name, names, self._names, ignore)

    def __iter__(self) -> Iterator[RowBatch]:
        """Read the batches in order, one ahead of that which is looked at."""
        return ahead(self._batches())

    def _batches(self) -> Iterator[RowBatch]:
        start, tables = 0, []
        with _arrow_errors(self.name):
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
            begin = header_of(path_of(file))
        else:
            rejoined = Rejoined(file)
            begin, file = rejoined.begin, BufferedReader(rejoined)
        types = {
            name: label if variable.is_discrete else pa.float64()
            for name in [*map(str, self._names.variables), *column_names(begin)]
            if (variable := self._names.find(name)) is not None
        }
        types |= dict.fromkeys(self._ignore, pa.string())
        return csv.open_csv(
            file,
            read_options=csv.ReadOptions(block_size=_BLOCK, skip_rows=empty_lines(begin)),
            parse_options=csv.ParseOptions(ignore_empty_lines=not is_one_column(begin)),
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
        return RowBatch(start, sum(table.num_rows for table in tables), evidence, copied)

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
            raise EvidenceError(f"{self.name}: row {start + row}: {errors[int(indices[row])]}")
        return coded


class AnswerFile:
    """Columns of numbers that are written batch by batch; the file appears when it is complete.

    Args:
        file: Path, of Parquet if it ends so, else CSV; or a stream, which gets CSV.
    """

    def __init__(self, file: str | os.PathLike[str] | IO[bytes]) -> None:
        arrow()
        self._path = path_of(file) if isinstance(file, str | os.PathLike) else None
        self._draft: Any = file
        if self._path is not None:
            self._draft = self._path.with_name(f"{self._path.name}.{os.getpid()}.part")
        self._grouped = self._path is not None and is_parquet(self._path.name)
        self._writer: Any = None
        self._waiting: list[Any] = []

    def write(self, columns: Mapping[str, Any]) -> None:
        """Write some rows, the same columns in every call."""
        import pyarrow as pa

        batch = pa.RecordBatch.from_arrays([_column(c) for c in columns.values()], list(columns))
        if self._writer is None:
            self._writer = self._opened(batch.schema)
        self._waiting.append(batch)
        if not self._grouped or sum(b.num_rows for b in self._waiting) >= _GROUP:
            self._write_waiting()

    def __enter__(self) -> AnswerFile:
        """Write nothing yet."""
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        """Finish the file, or leave none if something went wrong."""
        if self._writer is None:
            return
        complete = False
        try:
            if kind is None:
                self._write_waiting()
            self._writer.close()
            complete = kind is None
        finally:
            if self._path is not None and complete:
                self._draft.replace(self._path)
            elif self._path is not None:
                self._draft.unlink(missing_ok=True)

    def _write_waiting(self) -> None:
        import pyarrow as pa

        if self._waiting:
            self._writer.write_table(pa.Table.from_batches(self._waiting))
        self._waiting = []

    def _opened(self, schema: Any) -> Any:
        if self._grouped:
            from pyarrow import parquet

            return parquet.ParquetWriter(self._draft, schema)
        from pyarrow import csv

        return csv.CSVWriter(self._draft, schema)


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


def _column(values: Any) -> Any:
    """Numbers as a column of pyarrow, which loads pandas where it is asked to convert them."""
    import pyarrow as pa

    if not isinstance(values, np.ndarray):
        return values
    numbers = np.ascontiguousarray(values, dtype=np.float64)
    return pa.Array.from_buffers(pa.float64(), len(numbers), [None, pa.py_buffer(numbers)])


def is_parquet(path: str) -> bool:
    """Whether the name of a file says that it is one of Parquet."""
    return ending_of(path) in ("parquet", "pq")


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
    check_apart(file, columns)
    check_apart(file, [str(names.of(name)) for name in columns if name not in ignore])
    for name in columns:
        variable = names.find(name)
        if (variable is None or variable.shape) and name not in ignore:
            raise DataError(
                f"{file}: column {name!r} is not a variable of the model{names.advice(name)}; "
                "--ignore it, or leave it out"
            )
    for name in ignore:
        if name not in columns:
            raise DataError(
                f"{file}: there is no column {name!r} to ignore{closest(name, columns)}"
            )


@contextmanager
def returned_memory() -> Iterator[None]:
    """Let pyarrow return what it frees to the system at once; its own allocator keeps it."""
    import pyarrow as pa

    usual = pa.default_memory_pool()
    pa.set_memory_pool(pa.system_memory_pool())
    try:
        yield
    finally:
        pa.set_memory_pool(usual)


def arrow() -> None:
    """Check that pyarrow is installed.

    Raises:
        Unsupported: If it is not, with the extra that brings it.
    """
    require("pyarrow", "arrow", "tables of many rows")


@contextmanager
def _arrow_errors(name: str) -> Iterator[None]:
    """Convert errors of pyarrow about a file to errors of this library."""
    import pyarrow as pa

    try:
        yield
    except (pa.ArrowInvalid, UnicodeError) as error:
        text = " ".join(str(error).split())
        raise DataError(f"{name}: expected a table of values: {text[:300]}") from None
    except OSError as error:
        if error.errno is not None:
            raise
        raise DataError(f"{name}: cannot be read: {error}; is it packed as it ends?") from None


def answer_columns(
    posterior: Any, targets: Sequence[Hashable], variables: Mapping[Hashable, Variable]
) -> dict[str, NDArray[np.float64]]:
    """Return probabilities by ``"target=state"``, or of real targets means by ``"target"``.

    Args:
        posterior: Of all rows.
        targets: Names of variables and of elements; each element of an array has its own columns.
        variables: Those of the model.
    """
    columns = {}
    names = SpelledNames(variables)
    for target in targets:
        variable = names[target]
        answer = posterior[target]
        numbers = (answer.probs if variable.is_discrete else answer.mean).numpy(force=True)
        axes = len(variable.shape)
        for single in variable.elements():
            place = single.name[1:] if axes and isinstance(single.name, tuple) else ()
            of_one = numbers[:, *place]
            if not variable.is_discrete:
                columns[str(single.name)] = of_one
                continue
            for k, state in enumerate(variable.states or ()):
                columns[f"{single.name}={state}"] = of_one[:, k]
    return columns
