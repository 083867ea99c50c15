"""``pgnn plot``: a picture of a network."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from pgnn.cli.arguments import Commands, add_command, add_evidence, add_model
from pgnn.cli.inputs import check_output, evidence_of, read_model

EXAMPLES = """\
  pgnn plot asia.bif --to asia.png
  pgnn plot asia.bif -e xray=yes -e smoke=no --to asia.svg
  pgnn plot asia.bif --around lung --to lung.svg"""


def add(commands: Commands) -> None:
    """Add the command."""
    parser = add_command(
        commands, "plot", _plot, "draw a network with its posteriors given evidence", EXAMPLES
    )
    add_model(parser)
    parser.add_argument("--to", metavar="FILE", required=True, help=".png, .svg or .pdf")
    add_evidence(parser)
    parser.add_argument(
        "--around",
        metavar="NAME",
        action="append",
        help="draw only what is near a variable; may be repeated",
    )
    parser.add_argument(
        "--radius", metavar="K", type=int, default=1, help="within K edges of these (default: 1)"
    )


def _plot(options: argparse.Namespace) -> None:
    from pgnn.errors import DataError
    from pgnn.plot import network

    check_output(
        options.to, ("png", "svg", "pdf", "jpg", "jpeg", "eps", "ps", "webp", "tif", "tiff")
    )
    if options.to == "-":
        raise DataError(
            "--to -: expected a file, got standard output", "name a file such as net.png"
        )
    model = read_model(options.file, options.normalise)
    evidence = evidence_of(model, options)
    posterior = model.query(evidence=evidence)
    around = {"around": options.around, "radius": options.radius}
    figure = network(model, posterior, evidence=evidence, **around).figure
    _save(figure, options.to, _title(options, evidence))


def _save(figure: Any, path: str, title: str) -> None:
    """Write a figure; the text of an SVG can be searched and read aloud."""
    import matplotlib

    titled = path.lower().endswith((".svg", ".pdf", ".png"))
    metadata: Any = {"Title": title} if titled else None
    with matplotlib.rc_context({"svg.fonttype": "none"}):
        figure.savefig(path, bbox_inches="tight", metadata=metadata)


def _title(options: argparse.Namespace, evidence: Any) -> str:
    """Return the name of the model with its evidence."""
    given = ", ".join(f"{name}={state}" for name, state in dict(evidence or {}).items())
    return Path(options.file).name + (f" given {given}" if given else "")
