"""``pgnn demo``: a tour of the network that the package carries."""

from __future__ import annotations

import argparse

from pgnn.cli.arguments import Commands, add_command
from pgnn.cli.convert import check_target, write_model
from pgnn.cli.inputs import read_model

EXAMPLES = """\
  pgnn demo
  pgnn demo --to asia.bif"""


def add(commands: Commands) -> None:
    """Add the command."""
    parser = add_command(
        commands, "demo", _demo, "a tour of the Asia network that pgnn carries", EXAMPLES
    )
    parser.add_argument(
        "--to", metavar="FILE", help="write the network, as other commands and pages read it"
    )


def _demo(options: argparse.Namespace) -> None:
    from importlib import resources

    if options.to:
        check_target(options.to)
    with resources.as_file(resources.files("pgnn") / "networks" / "asia.bif") as path:
        model = read_model(str(path))
    evidence = {"smoke": "yes", "xray": "yes"}
    print("The Asia network (Lauritzen and Spiegelhalter, 1988): what does a smoker have whose")
    print("X-ray shows something?\n")
    print(">>> model.query(evidence={'smoke': 'yes', 'xray': 'yes'})")
    print(model.query(evidence=evidence))
    print("\n>>> model.most_probable({'smoke': 'yes', 'xray': 'yes'})")
    print(model.most_probable(evidence))
    print("\n>>> model.explain(evidence={'smoke': 'yes', 'xray': 'yes'})")
    print(model.explain(evidence=evidence))
    if options.to:
        write_model(model, options.to)
