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
        "differences between two models: edges, marginals, log-likelihood of rows",
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
    print(_table(found, (options.first, options.second)))


def differences(first: Any, second: Any) -> dict[str, Any]:
    """Return the differences between two models.

    Marginals without evidence are compared of the variables that both have with the same states:
    probabilities of discrete variables, means of real ones.
    """
    facts = [facts_of(first), facts_of(second)]
    found: dict[str, Any] = {key: [f[key] for f in facts] for key in facts[0]}
    edges = [{(str(a), str(b)) for a, b in model.graph.edges} for model in (first, second)]
    both = [n for n, v in first.variables.items() if v == second.variables.get(n)]
    found["variables_in_both"] = len(both)
    for key, missing in (
        ("edges_only_in_first", edges[0] - edges[1]),
        ("edges_only_in_second", edges[1] - edges[0]),
    ):
        found[key] = [f"{a} - {b}" for a, b in sorted(missing)]
    discrete = [name for name in both if first.variables[name].is_discrete]
    reals = [name for name in both if not first.variables[name].is_discrete]
    if both:
        answers = [model.query(both) for model in (first, second)]
        for kind, names, field in (("marginals", discrete, "probs"), ("means", reals, "mean")):
            pairs = {n: [getattr(answer[n], field) for answer in answers] for n in names}
            gaps = {n: float((x - y).abs().max()) for n, (x, y) in pairs.items()}
            if gaps:
                worst = max(gaps, key=lambda n: gaps[n])
                found[f"largest_difference_of_{kind}"] = gaps[worst]
                found[f"most_different_{kind[:-1]}"] = str(worst)
    return found


def _table(found: dict[str, Any], files: tuple[str, str]) -> str:
    """The differences in lines, with a column of numbers for each model."""
    name_width = max(map(len, found))
    pairs = {name: [*map(_text, v)] for name, v in found.items() if _is_pair(v)}
    width = max(len(text) for texts in [files, *pairs.values()] for text in texts)
    lines = [("", "  ".join(f"{file:>{width}}" for file in files))]
    for name, value in found.items():
        texts = pairs.get(name)
        shown = "  ".join(f"{t:>{width}}" for t in texts) if texts else _text(value)
        lines.append((name.replace("_", " "), shown))
    return "\n".join(f"{name:<{name_width}}  {text}" for name, text in lines)


def _is_pair(value: Any) -> bool:
    """Whether a value has a number of each model."""
    return isinstance(value, list) and len(value) == 2 and not isinstance(value[0], str)


def _text(value: Any) -> str:
    if isinstance(value, list):
        shown = ", ".join(map(_text, value[:8])) + (", ..." if len(value) > 8 else "")
        return shown or "none"
    return f"{value:,.6g}" if isinstance(value, float) else f"{value}"
