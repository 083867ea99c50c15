"""``pgnn predict``: posteriors of many rows, from file to file in constant memory."""

from __future__ import annotations

import argparse
import gc
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from pgnn.cli.arguments import (
    Commands,
    add_command,
    add_engine,
    add_ignored,
    add_model,
    add_separator,
    add_targets,
    table_target,
)
from pgnn.cli.inputs import check_output, engine_of, read_model, targets_of

EXAMPLES = """\
  pgnn predict alarm.bif rows.csv -t LVFAILURE -t HR --to posteriors.parquet
  pgnn predict alarm.bif rows.parquet --ignore id -t HR --to posteriors.csv
  pgnn predict alarm.bif "rows/*.csv" --dask tcp://head:8786 --to out.parquet"""


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
        "--to",
        type=table_target,
        metavar="FILE",
        help=".csv or .parquet (default: -, CSV to standard output)",
    )
    add_targets(parser, "the variables with missing values")
    add_engine(parser)
    add_ignored(parser)
    add_separator(parser)
    parser.add_argument(
        "--dask",
        metavar="ADDRESS",
        help="let the workers of a Dask scheduler read, answer and write, such as tcp://host:8786",
    )


def _predict(options: argparse.Namespace) -> None:
    if "torch" not in sys.modules:  # whose waiting threads would take the core that reads ahead
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    check_output(
        options.to,
        ("csv", "parquet", "pq"),
        options.rows,
        addresses=options.dask is not None,  # pyarrow alone writes files
    )
    model = read_model(options.file, options.normalise)
    engine = engine_of(options.engine)
    targets = targets_of(model, options)
    if options.dask is None:
        _stream(model, targets, engine, options)
    else:
        _distribute(model, targets, engine, options)


def _distribute(model: Any, targets: list[Any], engine: Any, options: argparse.Namespace) -> None:
    from pgnn.errors import DataError
    from pgnn.io.row_partitions import PartitionAnswer, connected, read_partitions, write_answers

    if options.rows == "-" or options.to is None:
        raise DataError(
            "--dask reads and writes files that all workers reach", "name ROWS and --to"
        )
    with connected(options.dask):
        rows = read_partitions(options.rows, model.variables, options.ignore, options.separator)
        every = targets or list(model.variables)
        answer = PartitionAnswer(model, every, options.ignore, engine, excluded=targets)
        write_answers(rows, answer, options.to)


def _stream(model: Any, targets: list[Any], engine: Any, options: argparse.Namespace) -> None:
    from tqdm import tqdm

    from pgnn.cli.target_scores import TargetScores
    from pgnn.evidence.spelled_names import SpelledNames
    from pgnn.io.answer_file import AnswerFile, arrow, returned_memory
    from pgnn.io.row_files import RowFile, held_out

    arrow()
    is_stream = options.rows == "-" or not Path(options.rows).is_file()
    source = sys.stdin.buffer if options.rows == "-" else options.rows
    output = sys.stdout.buffer if options.to is None else options.to
    reader = partial(RowFile, source, model.variables, options.ignore, options.separator)
    rows, every = reader(), targets or list(model.variables)
    if not targets and not is_stream:  # which can be read twice
        every = _unobserved(model, reader())
    names = SpelledNames(model.variables)
    bar, scores = tqdm(unit=" rows", disable=None, delay=1), TargetScores()
    with _frozen_objects(), returned_memory(), AnswerFile(output) as answers, bar as progress:
        for batch in rows:
            known, own = held_out(batch.evidence, targets)
            columns = _answered(model, every, replace(batch, evidence=known), engine)
            for name, values in own.items():
                scores.add(names[name], _plain(values), columns)
            answers.write(batch.copied | columns)
            progress.update(batch.num_rows)
            _free_answers()
    for line in scores.lines():
        print(f"pgnn: {line}", file=sys.stderr)


@contextmanager
def _frozen_objects() -> Iterator[None]:
    """Exempt the objects that there are from garbage collection, which then takes little time."""
    others = gc.get_freeze_count() > 0  # frozen by a program that calls this one
    gc.freeze()
    try:
        yield
    finally:
        if not others:
            gc.unfreeze()


def _free_answers() -> None:
    """Free the arrays of past answers, which are in small reference cycles."""
    gc.collect()
    gc.freeze()  # so that the next collection traverses only newer objects


def _unobserved(model: Any, rows: Any) -> list[Any]:
    """Variables that are missing in some row; all of them if there are no rows.

    Raises:
        DataError: If there are none.
    """
    from pgnn.errors import DataError

    number, holes = 0, dict.fromkeys(model.variables, False)
    for batch in rows:
        number += batch.num_rows
        for name, variable in model.variables.items():
            if not holes[name]:
                parts = [name] if not variable.shape else [x.name for x in variable.elements()]
                holes[name] = not all(_is_observed(batch.evidence.get(n)) for n in parts)
    found = [name for name, has_holes in holes.items() if has_holes or not number]
    if not found:
        raise DataError(
            f"{rows.name}: no cell is missing, so that there is nothing to predict",
            "name a target by -t: its column is not used as evidence",
        )
    return found


def _is_observed(values: Any) -> bool:
    """Whether no value of a column is missing."""
    if values is None:
        return False
    cells = _plain(values)
    return bool((cells >= 0).all() if cells.dtype.kind == "i" else not np.isnan(cells).any())


def _plain(values: Any) -> Any:
    """State indices or numbers as an array."""
    return getattr(values, "values", values)


def _answered(model: Any, targets: list[Any], batch: Any, engine: Any) -> dict[str, Any]:
    """The columns of numbers about a batch of rows."""
    from pgnn.evidence.wrappers import Codes
    from pgnn.io.answer_file import answer_columns

    known = {
        name: batch.evidence[name]
        for name in targets
        if name in batch.evidence
        and not isinstance(batch.evidence[name], Codes)
        and _is_observed(batch.evidence[name])
    }
    hidden = [name for name in targets if name not in known]
    posterior = _posterior(model, hidden, batch, engine) if hidden else None
    return answer_columns(posterior, targets, model.variables, known)


def _posterior(model: Any, targets: list[Any], batch: Any, engine: Any) -> Any:
    from pgnn.errors import ImpossibleEvidence

    try:
        return model.query(targets, batch.evidence, engine=engine)
    except ImpossibleEvidence as error:
        rows = tuple(batch.start + row for row in error.rows)
        which = f"row {rows[0]}" if rows else f"a row from {batch.start} on"
        others = f", and so have {len(rows) - 1} others of its batch" if len(rows) > 1 else ""
        raise ImpossibleEvidence(
            f"{which} has probability zero{others}",
            rows,
            error.conflict,
            advice="leave such rows out, or mark their wrong cells as missing",
        ) from None
