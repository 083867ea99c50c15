"""Words of the command line that several commands share."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NoReturn, TypeAlias

if TYPE_CHECKING:
    Commands: TypeAlias = argparse._SubParsersAction["CommandParser"]
else:
    Commands = Any

ENGINE = "NAME or NAME(setting=number, ...) of an engine, such as 'Gibbs(samples=5000)'"


class CommandParser(argparse.ArgumentParser):
    """Parser of a command, some of whose options may stand in place of its first argument.

    Attributes:
        alternatives: These options; the first argument is then the empty text.
        advice: What follows the message about an argument that is missing.
    """

    alternatives: tuple[str, ...] = ()
    advice: str = ""

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse arguments."""
        words = [*args] if args is not None else None
        chosen = next((w for w in words or () if self._is_alternative(w)), None)
        if words is None or chosen is None:
            return super().parse_known_args(words, namespace)
        result, rest = super().parse_known_args(["", *words], namespace)
        if any(not word.startswith("-") for word in rest):
            option = chosen.split("=")[0]
            self.error(f"{option} stands in place of the file of a model; leave one of them out")
        return result, rest

    def _is_alternative(self, word: str) -> bool:
        """Whether a word is one of these options, perhaps shortened as argparse allows."""
        name = word.split("=")[0]
        meant = [o for o in self._option_string_actions if o.startswith(name)] if name else []
        is_short = len(meant) == 1 and len(name) > 2 and name.startswith("--")
        return name in self.alternatives or (is_short and meant[0] in self.alternatives)

    def error(self, message: str) -> NoReturn:
        """Exit with the usage and a message."""
        super().error(message + (self.advice if "required" in message else ""))


def add_command(
    commands: Commands,
    name: str,
    run: Callable[[argparse.Namespace], None],
    help: str,
    examples: str = "",
) -> CommandParser:
    """Add a command.

    Args:
        commands: Those of the parser.
        name: Its first word.
        run: Called with its options; its exceptions are printed in one line.
        help: What it does, in a line.
        examples: Complete commands, one a line.
    """
    parser = commands.add_parser(
        name,
        help=help,
        description=help[:1].upper() + help[1:] + ".",
        epilog=f"examples:\n{examples}" if examples else None,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--debug", action="store_true", help="show where an error comes from")
    parser.set_defaults(run=run)
    return parser


def add_model(parser: argparse.ArgumentParser, name: str = "file") -> None:
    """Add the file of a model, and how it is read."""
    parser.add_argument(
        name,
        metavar=name.upper(),
        help="a network or field in any format, or a saved model; - is standard input",
    )
    if name == "file":
        parser.add_argument(
            "--normalise",
            action="store_true",
            help="divide the rows of tables by their sums (percentages, counts)",
        )


def add_evidence(parser: argparse.ArgumentParser) -> None:
    """Add the evidence."""
    parser.add_argument(
        "-e",
        "--evidence",
        action="append",
        default=[],
        type=_finding,
        metavar="NAME=STATE",
        help="a variable observed in a state, or NAME=STATE:WEIGHT,STATE:WEIGHT,... for soft "
        "evidence, the likelihood of each state; may be repeated",
    )
    parser.add_argument("--evidence-file", metavar="EVID", help="evidence in UAI format")
    parser.add_argument(
        "--evidence-row", dest="sample", type=int, metavar="N",
        help="row of the evidence file, counted from 0",
    )  # fmt: skip
    parser.add_argument("--sample", type=int, help=argparse.SUPPRESS)  # its name until 0.1


def add_targets(parser: argparse.ArgumentParser, default: str = "all unobserved variables") -> None:
    """Add the targets of the query, and say which they are if none are given."""
    parser.add_argument(
        "-t",
        "--target",
        action="append",
        default=[],
        metavar="NAME",
        help="a target of the query, or an element of an array such as \"('y', 0, 3)\"; may be "
        f"repeated (default: {default})",
    )


def add_engine(parser: argparse.ArgumentParser) -> None:
    """Add the engine."""
    parser.add_argument("--engine", metavar="ENGINE", help=ENGINE)


def add_json(parser: argparse.ArgumentParser) -> None:
    """Add the option for output as JSON."""
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def add_seed(parser: argparse.ArgumentParser) -> None:
    """Add the seed of random numbers."""
    parser.add_argument("--seed", type=int, metavar="N", help="random seed")


def add_ignored(parser: argparse.ArgumentParser) -> None:
    """Add columns of a table that are not variables."""
    parser.add_argument(
        "--ignore",
        action="append",
        default=[],
        metavar="COLUMN",
        help="ignore a column that is not a variable; may be repeated",
    )


def add_separator(parser: argparse.ArgumentParser) -> None:
    """Add the separator of the cells of CSV files."""
    parser.add_argument(
        "--separator",
        type=_character,
        default=",",
        metavar="CHARACTER",
        help="separator of CSV columns, such as ';' or tab (default: a comma)",
    )


def _character(text: str) -> str:
    text = {"tab": "\t", "\\t": "\t"}.get(text, text)
    if len(text) != 1 or not text.isascii() or text in '"\r\n':
        raise argparse.ArgumentTypeError(f"expected one character or tab, got {text!r}")
    return text


def _finding(text: str) -> str:
    if "=" not in text.strip("="):
        raise argparse.ArgumentTypeError(f"expected NAME=STATE, got {text!r}")
    return text


def table_target(text: str) -> str | None:
    """Return the path of a table to write; None for ``-``, which is standard output."""
    return None if text == "-" else text
