"""CSV and Parquet files of rows, answered in partitions by the workers of a Dask cluster."""

from __future__ import annotations

import io
from collections.abc import Collection, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from pgnn.errors import DataError, require
from pgnn.evidence.csv_header import HEADER, CsvHeader
from pgnn.evidence.csv_table import csv_table
from pgnn.evidence.partitioned_frame import PartitionedFrame
from pgnn.evidence.spelled_names import SpelledNames
from pgnn.factors.variable import Variable
from pgnn.io.answer_file import answer_columns, arrow, is_parquet
from pgnn.io.file_block import BLOCK, FileBlock, in_lines_of_file
from pgnn.io.row_files import check_columns, is_target
from pgnn.io.source import draft_of


@dataclass(frozen=True)
class PartitionAnswer:
    """The posteriors of a pandas frame of evidence, with the columns that are only copied.

    Args:
        model: The model.
        targets: Targets of the query.
        ignore: Columns that are no variables.
        engine: Engine of the query; chosen by the model if not given.
        excluded: Targets whose own columns are not evidence.

    Example:
        >>> import pandas as pd
        >>> from pgnn.models import BayesianNetwork
        >>> model = BayesianNetwork([], {"coin": [0.25, 0.75]}, states={"coin": ["head", "tail"]})
        >>> PartitionAnswer(model, ["coin"], ["id"])(pd.DataFrame({"id": ["a7"]}))
           id  coin=head  coin=tail
        0  a7       0.25       0.75
    """

    model: Any
    targets: Sequence[Hashable]
    ignore: Collection[str] = ()
    engine: Any = None
    excluded: Collection[Hashable] = ()

    def __call__(self, rows: Any) -> Any:
        """Return a frame with a row for each row."""
        copied = rows[[name for name in rows.columns if name in set(self.ignore)]]
        evidence = SpelledNames(self.model.variables).renamed(rows.drop(columns=copied.columns))
        evidence = evidence.loc[:, [not is_target(n, self.excluded) for n in evidence.columns]]
        with in_lines_of_file(rows):
            posterior = self.model.query(self.targets, evidence, engine=self.engine)
        columns = answer_columns(posterior, self.targets, self.model.variables, {})
        answer = copied.assign(**columns)
        answer.attrs = {}
        return answer


def read_partitions(
    path: str,
    variables: Mapping[Hashable, Variable],
    ignore: Collection[str] = (),
    separator: str = ",",
) -> Any:
    """Return a Dask frame of evidence, a column for each variable, empty cells not observed.

    Args:
        path: Of files that all workers can read, ``rows/*.csv`` say: Parquet if they end so, else
            CSV.
        variables: Those of the model.
        ignore: Columns that are not variables.
        separator: Separator of the cells of CSV files.

    Raises:
        DataError: If a column is neither variable nor ignored, or there is no such file.
        Unsupported: If Dask is not installed.
    """
    names = SpelledNames(variables)
    try:
        if is_parquet(path):
            frame = _dask("dask.dataframe").read_parquet(path)
        else:
            frame = _csv_partitions(path, names, ignore, separator)
    except DataError:
        raise
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: {' '.join(str(error).split())[:300]}") from None
    check_columns(path, [*frame.columns], names, ignore)
    return frame


def _csv_partitions(path: str, names: SpelledNames, ignore: Collection[str], separator: str) -> Any:
    """A Dask frame of CSV files, whose blocks are read and checked as single files are."""
    blocks = FileBlock.of_files(path)
    if not blocks:
        raise DataError(f"{path}: there is no such file")
    table = PartitionTable(names.variables, tuple(ignore), separator)
    table.header_of(blocks[0].file).check(path, names, ignore)
    delayed = import_module("dask").delayed(table)
    none = FileBlock(blocks[0].file, 0, 0)
    return _dask("dask.dataframe").from_delayed(
        [delayed(block) for block in blocks], meta=table(none), verify_meta=False
    )


@dataclass(frozen=True)
class PartitionTable:
    """A block of a CSV file as a data frame.

    Args:
        variables: Those of the model.
        ignore: Columns that are not variables.
        separator: Separator of the cells.
    """

    variables: Mapping[Hashable, Variable]
    ignore: tuple[str, ...]
    separator: str

    def __call__(self, block: FileBlock) -> Any:
        """Return the rows of a block; only the first block of a file has the names of columns.

        Raises:
            DataError: If a line is no row; the message has its number in the file.
        """
        lines = block.read()
        is_first = not block.offset and bool(lines)
        if not is_first:
            lines = self.header_of(block.file).line + b"\n" + lines
        stream = io.BytesIO(lines)
        try:
            frame = csv_table(stream, self.variables, self.separator, self.ignore, block.name)
        except DataError as error:
            if is_first or error.line is None:
                raise
            line = block.lines_before() + error.line - 1  # the first one is that of the names
            reason = error.reason.replace(f"line {error.line}:", f"line {line}:", 1)
            raise DataError(reason, error.advice, line=line) from None
        frame = frame.set_axis([str(column) for column in frame.columns], axis=1)
        frame.attrs[BLOCK] = [block.file, block.offset, block.length]
        return frame

    def header_of(self, file: str) -> CsvHeader:
        """Return the beginning of a file."""
        with FileBlock(file).opened() as stream:
            return CsvHeader(stream.read(HEADER), self.separator)


def write_answers(frame: Any, answer: PartitionAnswer, path: str) -> None:
    """Write the posteriors of each partition, which the workers find; nothing if one fails.

    Args:
        frame: Of evidence.
        answer: The query of each partition.
        path: A new folder of Parquet files if it ends so, else one CSV file.

    Raises:
        DataError: If there is such a folder.
    """
    if "://" not in path and Path(path).is_dir():
        raise DataError(f"{path}: there is such a folder", "name a new one, or remove it")
    answers = PartitionedFrame(frame).mapped(answer)
    with _draft(path) as draft:
        if is_parquet(path):
            answers.to_parquet(draft, write_index=False)
        else:
            answers.to_csv(draft, single_file=True, index=False)


@contextmanager
def connected(address: str) -> Iterator[None]:
    """Let Dask compute on the workers of a scheduler.

    Args:
        address: Such as ``tcp://host:8786``.

    Raises:
        DataError: If no scheduler can be reached.
        Unsupported: If Dask is not installed.
    """
    try:
        client = _dask("distributed").Client(address, set_as_default=True)
    except (OSError, ValueError) as error:
        raise DataError(f"no scheduler of Dask answers at {address!r}: {error}") from None
    with client:
        yield


@contextmanager
def _draft(path: str) -> Iterator[str]:
    """Yield a temporary path, which is renamed to the final one when it is complete."""
    if "://" in path:  # a store where nothing is renamed
        yield path
        return
    import shutil

    final = Path(path)
    draft = draft_of(final)
    if draft == final:
        yield path
        return
    try:
        yield str(draft)
        draft.replace(final)
    finally:
        if draft.is_dir():
            shutil.rmtree(draft, ignore_errors=True)
        draft.unlink(missing_ok=True)


def _dask(module: str) -> Any:
    """A module of Dask, whose functions have no types."""
    require("distributed", "dask", "clusters of workers")
    arrow()
    return import_module(module)
