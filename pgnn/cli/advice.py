"""What to do about an error, in options of the command line."""

from __future__ import annotations

import re
import shlex
from collections.abc import Container

from pgnn.errors import Advice, AdvisedWarning, PgnnError

_CALL = re.compile(r"(?:\b(?:engine|learner)=)?\b([A-Z]\w*)\(((?:\w+=\w+(?:, )?)*)\)")
"""An engine or a learner. Advice of the library names them as calls, such as ``EM(restarts=3)``;
hundreds of sentences do, so that the calls are found in the text instead of being told apart."""
_PYTHON = ("(", "=", "_", "[", "pgnn.")
"""What is left in advice that only Python can follow."""


def message_of(error: PgnnError | AdvisedWarning, options: Container[str]) -> str:
    """Return the message of an error, with advice that a shell user can follow.

    Args:
        error: An error of the library, or a warning.
        options: Names of the options of the command.

    Example:
        >>> error = PgnnError("rows sum to 2", Advice("pass normalise=True", "normalise"))
        >>> message_of(error, {"normalise"})
        'rows sum to 2; --normalise divides each row by its sum'
        >>> message_of(PgnnError("'a' was not observed", "learn with EM()"), {"learner"})
        "'a' was not observed; learn with --learner EM"
        >>> message_of(PgnnError("the model has no tables", "use model.unroll(3)"), {"engine"})
        'the model has no tables'
    """
    return str(PgnnError(error.reason, in_options(error.advice, options)))


def in_options(advice: str, options: Container[str]) -> str:
    """Return advice of the library with options; empty if only Python can follow it."""
    if isinstance(advice, Advice):
        if advice.setting == "install":
            return advice
        return _of_setting(advice.setting, advice.values, advice.setting in options)
    if "engine" in options:  # the one argument that advice often names alone
        advice = advice.replace("leave out engine=", "leave out --engine")
    calls = {call[0]: _option(call, options) for call in _CALL.finditer(advice)}
    rest, result = advice, advice
    for call, option in calls.items():
        rest, result = rest.replace(call, ""), result.replace(call, option)
    return result if all(calls.values()) and not any(m in rest for m in _PYTHON) else ""


def _option(call: re.Match[str], options: Container[str]) -> str:
    """The option of a command that names an engine or a learner; empty if it has none."""
    import pgnn
    from pgnn.inference.engine import Engine
    from pgnn.inference.learner import Learner

    kind = getattr(pgnn, call[1], None)
    for option, base in (("engine", Engine), ("learner", Learner)):
        if option in options and isinstance(kind, type) and issubclass(kind, base):
            return f"--{option} " + shlex.quote(call[1] + (f"({call[2]})" if call[2] else ""))
    return ""


def _of_setting(setting: str, values: tuple[object, ...], is_option: bool) -> str:
    """Advice about an argument of Python, in words of the command line; empty if it has none."""
    match setting:
        case "unknown":
            return "leave the cell empty if it was not observed"
        case "encoding":
            return "is it another kind of file? Convert text to UTF-8 (iconv -f LATIN1 -t UTF-8)"
        case "steps":
            return "The command line takes models of a fixed size only"
        case "format" if not values:
            return "take one of these, or .safetensors"
        case _ if not is_option:
            return ""
        case "ignore":
            names = " ".join(f"--ignore {shlex.quote(str(name))}" for name in values)
            return f"leave columns out by {names or '--ignore NAME'}"
        case "normalise":
            return "--normalise divides each row by its sum"
        case "separator":
            separator = str(values[0]).replace("\t", "\\t")  # a tab cannot be seen in a message
            return f"pass --separator {shlex.quote(separator)}"
        case "format":
            return f"pass --format NAME, one of {values[0]}"
    return ""
