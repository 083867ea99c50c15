"""``pgnn explore``: interactive queries in a browser."""

from __future__ import annotations

import argparse
import errno
from pathlib import Path

from pgnn.cli.arguments import Commands, add_command, add_evidence, add_model
from pgnn.cli.inputs import evidence_of, read_model


def add(commands: Commands) -> None:
    """Add the command."""
    parser = add_command(
        commands, "explore", _explore, "interactive queries in a browser",
        "  pgnn explore alarm.bif\n  pgnn explore asia.bif -e smoke=yes --port 8000 --no-browser",
    )  # fmt: skip
    add_model(parser)
    add_evidence(parser)
    parser.add_argument("--port", type=int, default=0, metavar="N", help="port (default: any)")
    parser.add_argument("--no-browser", action="store_true", help="print the address only")


def _explore(options: argparse.Namespace) -> None:
    from pgnn.errors import DataError
    from pgnn.explorer.server import explore

    if not 0 <= options.port < 2**16:
        raise DataError(f"--port must be from 0 to 65535, got {options.port}")
    model = read_model(options.file, options.normalise)
    evidence = evidence_of(model, options)
    name = Path(options.file).name.split(".")[0]
    try:
        explore(model, evidence, name=name, port=options.port, browser=not options.no_browser)
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise
        raise DataError(
            f"--port {options.port} is in use", "choose another one, or leave out --port"
        ) from None
