"""``pgnn convert``: a model in another format."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from pgnn.cli.arguments import Commands, add_command, add_model
from pgnn.cli.inputs import read_model

EXAMPLES = """\
  pgnn convert alarm.net alarm.bif
  pgnn convert percentages.net --normalise network.xdsl
  pgnn convert asia.bif - --format uai"""


def add(commands: Commands) -> None:
    """Add the command."""
    parser = add_command(commands, "convert", _convert, "write a model in another format", EXAMPLES)
    add_model(parser)
    parser.add_argument(
        "to",
        metavar="TO",
        help=".bif, .xmlbif, .net, .dsl, .xdsl, .uai, .fg or .safetensors; - is standard output",
    )
    parser.add_argument("--format", metavar="NAME", help="format, if the ending is another")


def _convert(options: argparse.Namespace) -> None:
    write_model(read_model(options.file, options.normalise), options.to, options.format)


def write_model(model: Any, path: str, format: str | None = None) -> None:
    """Write a model: saved as a whole if the path ends in ``.safetensors``, else its tables.

    What the format does not hold is told.
    """
    import pgnn

    if path.endswith(".safetensors"):
        pgnn.save(model, path)
    else:
        pgnn.write(model, sys.stdout if path == "-" else path, format)
