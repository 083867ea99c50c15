"""``pgnn demo``: a tour of the network that the package carries."""

from __future__ import annotations

import argparse
import sys

from pgnn.cli.arguments import Commands, add_command
from pgnn.cli.convert import check_target, write_model
from pgnn.cli.inputs import read_model

EXAMPLES = """\
  pgnn demo
  pgnn demo --to asia.bif"""


def add(commands: Commands) -> None:
    """Add the command."""
    parser = add_command(
        commands, "demo", _demo, "a tour of the Asia network, which is included in pgnn", EXAMPLES
    )
    parser.add_argument(
        "--to", metavar="FILE", help="only write the network, which examples of other commands read"
    )


def _demo(options: argparse.Namespace) -> None:
    from importlib import resources

    if options.to:
        check_target(options.to)
    with resources.as_file(resources.files("pgnn") / "networks" / "asia.bif") as path:
        model = read_model(str(path))
    if options.to:
        write_model(model, options.to)
        print(f"pgnn: wrote {options.to}", file=sys.stderr)
        return
    evidence = {"smoke": "yes", "xray": "yes"}
    print("The Asia network (Lauritzen and Spiegelhalter, 1988): what is the probability")
    print("of each disease of a smoker with an abnormal X-ray?\n")
    print(">>> model.query(evidence={'smoke': 'yes', 'xray': 'yes'})")
    print(model.query(evidence=evidence))
    print("\n>>> model.most_probable({'smoke': 'yes', 'xray': 'yes'})")
    print(model.most_probable(evidence))
    print("\n>>> model.explain(evidence={'smoke': 'yes', 'xray': 'yes'})")
    print(model.explain(evidence=evidence))
