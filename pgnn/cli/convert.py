"""``pgnn convert``: a model in another format."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from pgnn.cli.arguments import Commands, add_command, add_model
from pgnn.cli.inputs import check_output, read_model

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
    parser.add_argument("--format", metavar="NAME", help="file format (default: by the extension)")


def _convert(options: argparse.Namespace) -> None:
    check_target(options.to, options.format)
    write_model(read_model(options.file, options.normalise), options.to, options.format)


def check_target(path: str, format: str | None = None) -> None:
    """Check that a model can be written to a path, before it is made.

    Raises:
        DataError: If the format is unknown, or the folder does not exist.
    """
    from pgnn.errors import DataError
    from pgnn.io.model_files import format_of

    check_output(path)
    if path == "-" and format is None:
        raise DataError(
            "- is standard output, which has no ending that names a format",
            "name a file, or use pgnn convert FILE - --format NAME",
        )
    if not path.endswith(".safetensors"):
        format_of(sys.stdout if path == "-" else path, format)


def write_model(model: Any, path: str, format: str | None = None) -> None:
    """Write a model: saved as a whole if the path ends in ``.safetensors``, else its tables.

    Information that the format cannot represent is logged.
    """
    import pgnn

    if path.endswith(".safetensors"):
        pgnn.save(model, path)
    else:
        pgnn.write(model, sys.stdout if path == "-" else path, format)
