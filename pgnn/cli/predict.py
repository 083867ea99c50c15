"""``pgnn predict``: posteriors of many rows, from file to file in constant memory."""

from __future__ import annotations

import argparse
import gc
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from pgnn.cli.arguments import (
    Commands,
    add_command,
    add_engine,
    add_ignored,
    add_model,
    add_targets,
)
from pgnn.cli.inputs import engine_of, lookup, read_model

EXAMPLES = """\
  pgnn predict alarm.bif rows.csv -t LVFAILURE -t HR --to posteriors.parquet
  pgnn predict alarm.bif rows.parquet --ignore id -t HR --to posteriors.csv"""


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


def _predict(options: argparse.Namespace) -> None:
    from tqdm import tqdm

    from pgnn.io.row_files import AnswerFile, RowFile, answer_columns

    model = read_model(options.file, options.normalise)
    engine = engine_of(options.engine)
    rows = RowFile(
        sys.stdin.buffer if options.rows == "-" else options.rows, model.variables, options.ignore
    )
    targets = [lookup(name, model.variables, "variable") for name in options.target]
    targets = targets or list(model.variables)
    output = sys.stdout.buffer if options.to is None else options.to
    with (
        _collected() as collect,
        AnswerFile(output) as answers,
        tqdm(unit=" rows", disable=None, delay=1) as progress,
    ):
        for batch in rows:
            posterior = _answered(model, targets, batch, engine)
            columns = answer_columns(posterior, targets, model.variables)
            answers.write(batch.copied | columns)
            progress.update(batch.num_rows)
            collect()


@contextmanager
def _collected() -> Iterator[Callable[[], object]]:
    """Give what frees the arrays of past answers, which lie in cycles of few objects."""
    gc.freeze()  # so that each collection looks at what came since alone
    try:
        yield gc.collect
    finally:
        gc.unfreeze()


def _answered(model: Any, targets: list[Any], batch: Any, engine: Any) -> Any:
    from pgnn.errors import ImpossibleEvidence

    try:
        return model.query(targets, batch.evidence, engine=engine)
    except ImpossibleEvidence as error:
        rows = tuple(batch.start + row for row in error.rows)
        which = f"row {rows[0]}" if rows else f"a row from {batch.start} on"
        raise ImpossibleEvidence(
            f"{which} has probability zero, and so have {max(len(rows) - 1, 0)} others of its "
            "batch; leave them out, or mark their wrong cells as missing", rows, error.conflict,
        ) from None  # fmt: skip
