"""``pgnn plot``: a picture of a network."""

from __future__ import annotations

import argparse
from typing import Any

from pgnn.cli.arguments import Commands, add_command, add_evidence, add_model
from pgnn.cli.inputs import check_output, evidence_of, read_model

EXAMPLES = """\
  pgnn plot asia.bif --to asia.png
  pgnn plot asia.bif -e xray=yes -e smoke=no --to asia.svg"""


def add(commands: Commands) -> None:
    """Add the command."""
    parser = add_command(
        commands, "plot", _plot, "draw a network with its posteriors given evidence", EXAMPLES
    )
    add_model(parser)
    parser.add_argument("--to", metavar="FILE", required=True, help=".png, .svg or .pdf")
    add_evidence(parser)


def _plot(options: argparse.Namespace) -> None:
    import pgnn.plot
    from pgnn.errors import DataError

    check_output(
        options.to, ("png", "svg", "pdf", "jpg", "jpeg", "eps", "ps", "webp", "tif", "tiff")
    )
    if options.to == "-":
        raise DataError("--to -: expected a file, got standard output; name a file such as net.png")
    model = read_model(options.file, options.normalise)
    evidence = evidence_of(model, options)
    posterior = model.query(evidence=evidence)
    draw: Any = vars(pgnn.plot)["network"]
    draw(model, posterior, evidence=evidence).figure.savefig(options.to, bbox_inches="tight")
