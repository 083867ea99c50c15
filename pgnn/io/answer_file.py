"""CSV and Parquet files of posteriors, written batch by batch in constant memory."""

from __future__ import annotations

import os
from collections.abc import Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from pgnn.errors import require
from pgnn.evidence.spelled_names import SpelledNames
from pgnn.factors.variable import Variable
from pgnn.io.source import draft_of, ending_of, path_of

_GROUP = 8_192
"""About how many rows a row group of a Parquet file has."""


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
            self._draft = draft_of(self._path)
        self._grouped = self._path is not None and is_parquet(self._path.name)
        self._writer: Any = None
        self._names: list[str] = []
        self._waiting: list[Any] = []

    def write(self, columns: Mapping[str, Any]) -> None:
        """Write some rows, with the same columns in every call.

        Raises:
            ValueError: If the columns differ from those of the first call.
        """
        import pyarrow as pa

        batch = pa.RecordBatch.from_arrays([_column(c) for c in columns.values()], list(columns))
        if self._writer is None:
            self._writer, self._names = self._opened(batch.schema), list(columns)
        if list(columns) != self._names:  # pyarrow does not compare them
            raise ValueError(f"columns must be {self._names!r} in this order, got {[*columns]!r}")
        self._waiting.append(batch)
        if not self._grouped or sum(b.num_rows for b in self._waiting) >= _GROUP:
            self._write_waiting()

    def __enter__(self) -> AnswerFile:
        """Write nothing yet."""
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        """Complete the file, or remove it after an error."""
        if self._writer is None:
            return
        complete = False
        try:
            if kind is None:
                self._write_waiting()
            self._writer.close()
            complete = kind is None
        finally:
            if self._path is not None and self._draft != self._path:
                if complete:
                    self._draft.replace(self._path)
                self._draft.unlink(missing_ok=True)

    def _write_waiting(self) -> None:
        import pyarrow as pa

        if self._waiting:
            self._writer.write_table(pa.Table.from_batches(self._waiting))
        self._waiting = []

    def _opened(self, schema: Any) -> Any:
        try:
            if self._grouped:
                from pyarrow import parquet

                return parquet.ParquetWriter(self._draft, schema)
            from pyarrow import csv

            return csv.CSVWriter(self._draft, schema)
        except OSError as error:  # pyarrow names the draft, and in a sentence
            if error.errno is None or self._path is None:
                raise
            raise OSError(error.errno, os.strerror(error.errno), str(self._path)) from None


def answer_columns(
    posterior: Any,
    targets: Sequence[Hashable],
    variables: Mapping[Hashable, Variable],
    observed: Mapping[Hashable, NDArray[np.float64]],
) -> dict[str, NDArray[np.float64]]:
    """Return probabilities by ``"target=state"``, or of real targets means by ``"target"``.

    Args:
        posterior: Of all rows; not needed if all targets are observed.
        targets: Names of variables and of elements; each element of an array has its own columns.
        variables: Those of the model.
        observed: ``(N,)`` values of real targets that are observed in every row.
    """
    columns: dict[str, NDArray[np.float64]] = {}
    names = SpelledNames(variables)
    for target in targets:
        if target in observed:
            columns[str(target)] = observed[target]
            continue
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


def is_parquet(path: str) -> bool:
    """Whether the name of a file says that it is one of Parquet."""
    return ending_of(path) in ("parquet", "pq")


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


def _column(values: Any) -> Any:
    """Numbers as a column of pyarrow, which loads pandas where it is asked to convert them."""
    import pyarrow as pa

    if not isinstance(values, np.ndarray):
        return values
    numbers = np.ascontiguousarray(values, dtype=np.float64)
    return pa.Array.from_buffers(pa.float64(), len(numbers), [None, pa.py_buffer(numbers)])
