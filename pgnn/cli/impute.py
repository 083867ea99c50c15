"""``pgnn impute``: tables with imputed missing values."""

from __future__ import annotations

import argparse
import sys

from pgnn.cli.arguments import (
    Commands,
    add_command,
    add_engine,
    add_ignored,
    add_model,
    add_seed,
    add_separator,
    table_target,
)
from pgnn.cli.fit import read_frame
from pgnn.cli.inputs import check_output, engine_of, read_model

EXAMPLES = """\
  pgnn impute alarm.bif patients.csv --to completed.csv
  pgnn impute alarm.bif patients.csv --draws 5 --seed 0 --to completed.csv"""


def add(commands: Commands) -> None:
    """Add the command."""
    impute = add_command(
        commands, "impute", _impute, "impute the missing values of a table", EXAMPLES
    )
    add_model(impute)
    impute.add_argument("table", metavar="CSV", help="rows with empty cells; - is standard input")
    impute.add_argument(
        "--to",
        type=table_target,
        metavar="CSV",
        help="where to write (default: -, stdout)",
    )
    impute.add_argument(
        "--draws",
        type=int,
        metavar="N",
        help="sample this many completed tables, numbered in a column draw",
    )
    add_seed(impute)
    add_engine(impute)
    add_ignored(impute)
    add_separator(impute)


def _impute(options: argparse.Namespace) -> None:
    check_output(options.to, ("csv",), options.table, packed=True, addresses=True)
    model = read_model(options.file, options.normalise)
    table = read_frame(model.variables, options.table, options)
    model.impute(
        table,
        draws=options.draws,
        to=sys.stdout if options.to is None else options.to,
        ignore=options.ignore,
        engine=engine_of(options.engine),
        seed=options.seed,
    )
