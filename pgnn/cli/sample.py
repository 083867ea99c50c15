"""``pgnn sample``: samples from a model."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from pgnn.cli.arguments import (
    Commands,
    add_command,
    add_engine,
    add_evidence,
    add_model,
    add_seed,
    table_target,
)
from pgnn.cli.inputs import check_output, engine_of, evidence_of, read_model

EXAMPLES = """\
  pgnn sample asia.bif -n 1000 --seed 0 --to rows.csv
  pgnn sample asia.bif -n 5 -e xray=yes"""


def add(commands: Commands) -> None:
    """Add the command."""
    parser = add_command(
        commands, "sample", _sample, "sample rows, with or without evidence", EXAMPLES
    )
    add_model(parser)
    parser.add_argument("-n", type=int, default=1, metavar="N", help="number of rows (default: 1)")
    parser.add_argument(
        "--to",
        type=table_target,
        metavar="CSV",
        help="where to write (default: -, stdout)",
    )
    add_evidence(parser)
    add_engine(parser)
    add_seed(parser)


def _sample(options: argparse.Namespace) -> None:
    check_output(options.to, ("csv",), packed=True, addresses=True)
    model = read_model(options.file, options.normalise)
    evidence: Any = evidence_of(model, options) or None
    drawn = model.sample(options.n, evidence, engine=engine_of(options.engine), seed=options.seed)
    in_single_cells(drawn).to_csv(options.to or sys.stdout, index=False)


def in_single_cells(drawn: Any) -> Any:
    """Return samples as a data frame in which elements of real arrays have columns, too."""
    import pandas as pd

    frame = drawn.frame()
    columns: dict[Any, Any] = {}
    for k, name in enumerate(frame.columns):
        variable = next((v for v in drawn.variables if v.name == name), None)
        if variable is None or not variable.shape:
            columns[name] = frame.iloc[:, k]
            continue
        numbers = drawn[name].detach().reshape(len(frame), -1).numpy(force=True)
        for j, single in enumerate(variable.elements()):
            columns[single.name] = numbers[:, j]
    table = pd.DataFrame(dict(enumerate(columns.values())))
    return table.set_axis(pd.Index([*columns], tupleize_cols=False), axis=1)
