"""``pgnn predict``: posteriors of many rows, from file to file in constant memory."""

from __future__ import annotations

import argparse
import gc
import sys
from typing import Any

from pgnn.cli.arguments import (
    Commands,
    add_command,
    add_engine,
    add_ignored,
    add_model,
    add_targets,
)
from pgnn.cli.inputs import check_output, engine_of, read_model, targets_of

EXAMPLES = """\
  pgnn predict alarm.bif rows.csv -t LVFAILURE -t HR --to posteriors.parquet
  pgnn predict alarm.bif rows.parquet --ignore id -t HR --to posteriors.csv
  pgnn predict alarm.bif "rows/*.csv" -t HR --dask tcp://head:8786 --to posteriors.parquet"""


def add(commands: Commands) -> None:
    """Add the command."""
    parser = add_command(
        commands, "predict", _predict, "posteriors of the rows of a table, in constant memory",
        EXAMPLES,
    )  # fmt: skip
    add_model(parser)
    parser.add_argument(
        "rows", metavar="ROWS", help=".csv or .parquet, empty cells not observed; - is a CSV stream"
    )
    parser.add_argument(
        "--to", metavar="FILE", help=".csv or .parquet (default: CSV to standard output)"
    )
    add_targets(parser)
    add_engine(parser)
    add_ignored(parser)
    parser.add_argument(
        "--dask",
        metavar="ADDRESS",
        help="let the workers of a Dask scheduler read, answer and write, such as tcp://host:8786",
    )


def _predict(options: argparse.Namespace) -> None:
    check_output(
        options.to,
        ("csv", "parquet", "pq"),
        options.rows,
        addresses=options.dask is not None,  # pyarrow alone writes files
    )
    model = read_model(options.file, options.normalise)
    engine = engine_of(options.engine)
    targets = targets_of(model, options) or list(model.variables)
    if options.dask is None:
        _stream(model, targets, engine, options)
    else:
        _distribute(model, targets, engine, options)


def _distribute(model: Any, targets: list[Any], engine: Any, options: argparse.Namespace) -> None:
    from pgnn.errors import DataError
    from pgnn.io.row_partitions import PartitionAnswer, connected, read_partitions, write_answers

    if options.rows == "-" or options.to is None:
        raise DataError("--dask reads and writes files that all workers reach: name ROWS and --to")
    with connected(options.dask):
        rows = read_partitions(options.rows, model.variables, options.ignore)
        answer = PartitionAnswer(model, targets, options.ignore, engine)
        write_answers(rows, answer, options.to)


def _stream(model: Any, targets: list[Any], engine: Any, options: argparse.Namespace) -> None:
    from tqdm import tqdm

    from pgnn.io.row_files import AnswerFile, RowFile, arrow, returned_memory

    arrow()
    source = sys.stdin.buffer if options.rows == "-" else options.rows
    output = sys.stdout.buffer if options.to is None else options.to
    bar = tqdm(unit=" rows", disable=None, delay=1)
    with returned_memory(), AnswerFile(output) as answers, bar as progress:
        for batch in RowFile(source, model.variables, options.ignore):
            answers.write(batch.copied | _answered(model, targets, batch, engine))
            progress.update(batch.num_rows)
            _free_answers()
    gc.unfreeze()


def _free_answers() -> None:
    """Free the arrays of past answers, which are in small reference cycles."""
    gc.collect()
    gc.freeze()  # so that the next collection traverses only newer objects


def _answered(model: Any, targets: list[Any], batch: Any, engine: Any) -> dict[str, Any]:
    """The columns of numbers about a batch of rows."""
    from pgnn.errors import ImpossibleEvidence
    from pgnn.io.row_files import answer_columns

    try:
        posterior = model.query(targets, batch.evidence, engine=engine)
    except ImpossibleEvidence as error:
        rows = tuple(batch.start + row for row in error.rows)
        which = f"row {rows[0]}" if rows else f"a row from {batch.start} on"
        others = f", and so have {len(rows) - 1} others of its batch" if len(rows) > 1 else ""
        raise ImpossibleEvidence(
            f"{which} has probability zero{others}; leave such rows out, or mark their wrong cells "
            "as missing", rows, error.conflict,
        ) from None  # fmt: skip
    return answer_columns(posterior, targets, model.variables)
