"""``pgnn fit``: the parameters of a model, learned from a table."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from pgnn.cli.arguments import Commands, add_command, add_ignored, add_model, add_seed
from pgnn.cli.convert import check_target, write_model
from pgnn.cli.inputs import called, check_ignored, read_model

EXAMPLES = """\
  pgnn fit alarm.bif patients.csv --to learned.bif
  pgnn fit alarm.bif patients.csv --learner "EM(restarts=3)" --seed 0 --to learned.safetensors"""


def add(commands: Commands) -> None:
    """Add the command."""
    parser = add_command(
        commands,
        "fit",
        _fit,
        "learn the tables of a network from rows, with holes or not",
        EXAMPLES,
    )
    add_model(parser)
    parser.add_argument("table", metavar="CSV", help="rows, empty cells missing; or .parquet")
    parser.add_argument("--to", metavar="FILE", required=True, help="where to write the model")
    parser.add_argument(
        "--learner",
        metavar="LEARNER",
        help="NAME or NAME(setting=number, ...), such as 'EM(restarts=3)'",
    )
    add_seed(parser)
    add_ignored(parser)


def _fit(options: argparse.Namespace) -> None:
    import pgnn
    from pgnn.inference.learner import Learner

    check_target(options.to)
    model = to_learn(read_model(options.file, options.normalise))
    learner = None if options.learner is None else called(options.learner, Learner, "learner")
    frame = read_frame(model, options.table)
    check_ignored(options.ignore, frame.columns, options.table)
    rows = pgnn.observed(frame, ignore=options.ignore)
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


def read_frame(model: Any, path: str) -> Any:
    """Return a table: cells of variables whose labels are text as they are written."""
    from pgnn.inference.imputation import read_table
    from pgnn.io.row_files import arrow

    if path.endswith((".parquet", ".pq")):
        arrow()
        import pandas as pd

        return pd.read_parquet(path)
    return read_table(model, sys.stdin if path == "-" else path)
