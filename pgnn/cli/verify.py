"""``pgnn verify``: engines, and other libraries, against each other."""

from __future__ import annotations

import argparse
import json
from typing import Any

from pgnn.cli.arguments import Commands, add_command, add_json, add_model, add_seed
from pgnn.cli.inputs import read_model

EXAMPLES = """\
  pgnn verify alarm.bif
  pgnn verify alarm.bif --cases 20 --tolerance 1e-9 --json"""


def add(commands: Commands) -> None:
    """Add the command."""
    parser = add_command(
        commands,
        "verify",
        _verify,
        "compare the answers of engines, enumeration, pgmpy and pyAgrum",
        EXAMPLES,
    )
    add_model(parser)
    parser.add_argument(
        "--cases", type=int, default=5, metavar="N", help="sets of sampled evidence (default: 5)"
    )
    parser.add_argument(
        "--tolerance",
        type=float,
        default=1e-6,
        metavar="X",
        help="largest accepted difference of exact posteriors (default: 1e-6)",
    )
    add_seed(parser)
    add_json(parser)


def _verify(options: argparse.Namespace) -> None:
    from pgnn.cli.verification import verify
    from pgnn.errors import DataError, PgnnError

    if options.cases < 1:
        raise DataError(f"--cases must be at least 1, got {options.cases}")
    if not options.tolerance >= 0:
        raise DataError(f"--tolerance must not be negative, got {options.tolerance:g}")
    model = read_model(options.file, options.normalise)
    report = verify(model, options.cases, options.seed or 0)
    if options.json:
        print(json.dumps(report, indent=2))
    else:
        print(_text(report))
    worst = max((r["worst"] for r in report["methods"] if r["worst"] is not None), default=0.0)
    if worst > options.tolerance:
        raise PgnnError(
            f"answers differ by {worst:.3g}, more than the tolerance {options.tolerance:g}"
        )


def _text(report: dict[str, Any]) -> str:
    from pgnn.errors import counted

    lines = [f"{counted(report['cases'], 'set')} of evidence, compared with {report['reference']}"]
    width = max(len(r["name"]) for r in report["methods"])
    for row in report["methods"]:
        detail = row["why"] or f"largest difference {row['worst']:.2g} ({row['variable']})"
        lines.append(f"{row['name']:<{width}}  {detail}")
    return "\n".join(lines)
