"""The command ``pgnn``: queries of models in files without writing Python.

Exit codes: 0 when the question was answered, 1 when it could not be (one line on standard error
says why), 2 when the command has invalid arguments, 130 when it was interrupted.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
import traceback
import warnings
from collections.abc import Sequence
from functools import partial
from typing import Any

from pgnn.cli import (
    compare,
    completion,
    convert,
    demo,
    explore,
    fit,
    impute,
    info,
    plot,
    predict,
    query,
    sample,
    verify,
)
from pgnn.cli.arguments import CommandParser

EXAMPLES = """\
examples:
  pgnn demo
  pgnn info alarm.bif
  pgnn query asia.bif -e smoke=yes -e xray=yes -t lung
  pgnn query grid.uai --evidence-file grid.uai.evid --json
  pgnn predict alarm.bif rows.csv -t HR -t CVP --to posteriors.parquet
  pgnn convert alarm.net alarm.bif
  pgnn explore alarm.bif
  pgnn fit alarm.bif patients.csv --to learned.bif
  pgnn fit patients.csv --naive-bayes HR --to learned.bif
  pgnn impute alarm.bif patients.csv --draws 5 --seed 0 --to completed.csv

pgnn COMMAND --help describes a command.
"""

COMMANDS = (
    query,
    info,
    predict,
    convert,
    sample,
    fit,
    impute,
    compare,
    verify,
    plot,
    explore,
    demo,
    completion,
)
INTERRUPTED = 130
"""Exit code of a command that was interrupted by Ctrl-C: 128 plus the number of the signal."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: Arguments after ``pgnn``; by default, those of the process.

    Returns:
        The exit code: 0 answered, 1 not answered, 130 interrupted.

    Raises:
        SystemExit: With code 2 if the arguments are invalid or missing; with code 0 after
            ``--help``.
    """
    commands = parser()
    options = commands.parse_args(arguments)
    if "run" not in options:  # no command
        commands.print_help(sys.stderr)
        commands.exit(2)
    messages = _Messages()
    logging.getLogger("pgnn").addHandler(messages)
    try:
        with warnings.catch_warnings():
            warnings.showwarning = partial(_show_warning, options)
            options.run(options)
        sys.stdout.flush()
    except BrokenPipeError:  # the reader, such as `head`, has closed the pipe
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except KeyboardInterrupt:
        _complain("interrupted")
        return INTERRUPTED
    except Exception as error:
        if options.debug:
            traceback.print_exc()
        _complain(_describe(error, options))
        return 1
    finally:
        logging.getLogger("pgnn").removeHandler(messages)
    return 0


def parser() -> argparse.ArgumentParser:
    """Return the parser of all commands."""
    result = argparse.ArgumentParser(
        prog="pgnn",
        description="Queries, learning and conversion of graphical models in files.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    result.add_argument("--version", action=_Version, help="print the version and exit")
    commands = result.add_subparsers(
        title="commands", metavar="COMMAND", parser_class=CommandParser
    )
    for command in COMMANDS:
        command.add(commands)
    return result


class _Messages(logging.Handler):
    """Prints log records of the library in the format of other messages."""

    def emit(self, record: logging.LogRecord) -> None:
        _complain(record.getMessage())


def _complain(message: object) -> None:
    print("pgnn:", " ".join(str(message).split()), file=sys.stderr)


def _show_warning(options: argparse.Namespace, message: Warning | str, *_: Any, **__: Any) -> None:
    from pgnn.cli.advice import message_of
    from pgnn.errors import AdvisedWarning

    told = message_of(message, vars(options)) if isinstance(message, AdvisedWarning) else message
    _complain(f"warning: {told}")


class _Version(argparse.Action):
    """Prints the version; loads the library only if it is used."""

    def __init__(self, option_strings: Sequence[str], dest: str, **rest: Any) -> None:
        super().__init__(option_strings, dest, nargs=0, **rest)

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        import pgnn

        print(f"pgnn {pgnn.__version__}")
        parser.exit()


def _describe(error: Exception, options: argparse.Namespace) -> str:
    """The message about an exception, in the words of the command line."""
    from pgnn.cli.advice import message_of
    from pgnn.errors import PgnnError

    if isinstance(error, PgnnError):
        return message_of(error, vars(options)) or type(error).__name__
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    if isinstance(error, UnicodeEncodeError):
        return (
            f"standard output takes {error.encoding}, which has no {error.object[error.start]!a}; "
            "set PYTHONIOENCODING=utf-8"
        )
    if isinstance(error, OSError | UnicodeError | MemoryError):
        return str(error) or type(error).__name__
    return f"{type(error).__name__}: {error} (an error of pgnn itself; --debug shows where)"
