"""``pgnn compare``: two models side by side."""

from __future__ import annotations

import argparse
import json
from typing import Any

from pgnn.cli.arguments import (
    Commands,
    add_command,
    add_ignored,
    add_json,
    add_model,
    add_separator,
)
from pgnn.cli.fit import read_frame
from pgnn.cli.info import facts_of
from pgnn.cli.inputs import read_model

EXAMPLES = """\
  pgnn compare learned.bif alarm.bif
  pgnn compare learned.bif alarm.bif --data patients.csv --json"""


def add(commands: Commands) -> None:
    """Add the command."""
    parser = add_command(
        commands,
        "compare",
        _compare,
        "differences between two models: edges, posteriors, log-likelihood of rows",
        EXAMPLES,
    )
    add_model(parser, "first")
    add_model(parser, "second")
    parser.add_argument("--data", metavar="CSV", help="rows whose log-likelihood is compared")
    add_ignored(parser)
    add_separator(parser)
    add_json(parser)


def _compare(options: argparse.Namespace) -> None:
    models = [read_model(path) for path in (options.first, options.second)]
    found = differences(*models)
    if options.data is not None:
        import pgnn

        frame = read_frame(models[0].variables, options.data, options)
        rows = pgnn.observed(frame, ignore=options.ignore)
        sums = [float(model.log_prob(rows).sum()) for model in models]
        found["log_likelihood"] = sums
    if options.json:
        print(json.dumps(found, indent=2))
        return
    for name, value in found.items():
        print(f"{name.replace('_', ' '):<22}  {_text(value)}")


def differences(first: Any, second: Any) -> dict[str, Any]:
    """Return the differences between two models.

    Posteriors without evidence are compared of the variables that both have with the same states.
    """
    facts = [facts_of(first), facts_of(second)]
    found: dict[str, Any] = {key: [f[key] for f in facts] for key in facts[0]}
    edges = [{(str(a), str(b)) for a, b in model.graph.edges} for model in (first, second)]
    both = [n for n, v in first.variables.items() if v == second.variables.get(n)]
    found["variables_in_both"] = len(both)
    for key, names in (
        ("edges_of_first_alone", edges[0] - edges[1]),
        ("edges_of_second_alone", edges[1] - edges[0]),
    ):
        found[key] = [f"{a} - {b}" for a, b in sorted(names)]
    if both:
        answers = [model.query(both) for model in (first, second)]
        gaps = {n: float((answers[0][n].probs - answers[1][n].probs).abs().max()) for n in both}
        worst = max(gaps, key=lambda n: gaps[n])
        found["largest_difference_of_posteriors"] = gaps[worst]
        found["of_variable"] = str(worst)
    return found


def _text(value: Any) -> str:
    if isinstance(value, list):
        shown = ", ".join(map(_text, value[:8])) + (", ..." if len(value) > 8 else "")
        return shown or "none"
    return f"{value:,.6g}" if isinstance(value, float) else f"{value}"
