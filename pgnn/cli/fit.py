"""``pgnn fit``: the parameters of a model, learned from a table."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Hashable, Mapping
from typing import Any

from pgnn.cli.arguments import (
    Commands,
    add_command,
    add_ignored,
    add_model,
    add_seed,
    add_separator,
)
from pgnn.cli.convert import check_target, write_model
from pgnn.cli.inputs import called, check_ignored, read_model
from pgnn.cli.structures import add_structures, has_structure, structured

EXAMPLES = """\
  pgnn fit alarm.bif patients.csv --to learned.bif
  pgnn fit patients.csv --naive-bayes HR --to learned.bif
  pgnn fit patients.csv --edges "HYPOVOLEMIA>LVEDVOLUME>CVP" --to learned.bif
  pgnn fit alarm.bif rows.csv --learner "EM(restarts=3)" --seed 0 --to new.bif"""


def add(commands: Commands) -> None:
    """Add the command."""
    parser = add_command(
        commands,
        "fit",
        _fit,
        "learn the parameters of a network from rows, complete or with missing values",
        EXAMPLES,
    )
    add_model(parser)
    add_structures(parser)
    parser.add_argument("table", metavar="CSV", help="rows, empty cells missing; or .parquet")
    parser.add_argument("--to", metavar="FILE", required=True, help="where to write the model")
    parser.add_argument(
        "--learner",
        metavar="LEARNER",
        help="NAME or NAME(setting=number, ...), such as 'EM(restarts=3)'",
    )
    add_seed(parser)
    add_ignored(parser)
    add_separator(parser)


def _fit(options: argparse.Namespace) -> None:
    from pgnn.inference.learner import Learner

    check_target(options.to)
    learner = None if options.learner is None else called(options.learner, Learner, "learner")
    if has_structure(options):
        frame = read_frame({}, options.table, options)
        model = structured(options, frame)
    else:
        model = to_learn(read_model(options.file, options.normalise))
        frame = read_frame(model.variables, options.table, options)
    rows = frame.drop(columns=options.ignore)
    model.fit(rows, learner=learner, seed=options.seed)
    write_model(model, options.to)
    print(f"{len(frame):,} rows, log-likelihood {float(model.log_prob(rows).sum()):.6f}")


def to_learn(model: Any) -> Any:
    """Return a network that learns all tables, if all are constants; else the model itself."""
    import pgnn
    from pgnn.factors.conditionals.tabular import Tabular

    if not isinstance(model, pgnn.BayesianNetwork) or type(model) is not pgnn.BayesianNetwork:
        return model
    parts = model.conditionals.values()
    if not all(isinstance(c, Tabular) and not c.logits.requires_grad for c in parts):
        return model
    states = {name: v.states or () for name, v in model.variables.items()}
    return pgnn.BayesianNetwork(model.graph, states=states, latents=tuple(model.latents))


def read_frame(variables: Mapping[Hashable, Any], path: str, options: argparse.Namespace) -> Any:
    """Return a table: cells of variables whose labels are text as they are written.

    Args:
        variables: Those of the model, by name.
        path: A CSV or Parquet file; ``-`` is standard input.
        options: Those of the command, with the separator and the columns that are ignored.

    Raises:
        DataError: If it is not a table, or a column that is ignored does not exist.
    """
    from pgnn.evidence.csv_table import csv_table
    from pgnn.io.answer_file import arrow, is_parquet

    if is_parquet(path):
        arrow()
        import pandas as pd

        from pgnn.io.row_files import arrow_errors

        with arrow_errors(path):
            frame = pd.read_parquet(path)
    else:
        source: Any = sys.stdin if path == "-" else path
        frame = csv_table(source, variables, options.separator, options.ignore)
    check_ignored(options.ignore, frame.columns, path)
    return frame
