"""What to do about an error, in options of the command line."""

from __future__ import annotations

import re
import shlex
from collections.abc import Container, Mapping
from typing import Any

from pgnn.cli.method_settings import MethodSettings, as_option
from pgnn.errors import Advice, AdvisedWarning, NotConverged, PgnnError

_CALL = re.compile(r"(?:\b(?:engine|learner)=)?\b([A-Z]\w*)\(((?:\w+=[\w.+*-]+(?:, )?)*)\)")
"""An engine or a learner. Advice of the library names them as calls, such as ``EM(restarts=3)``;
hundreds of sentences do, so that the calls are found in the text instead of being told apart."""
_QUOTED = re.compile(r"'[^']*'|\"[^\"]*\"")
_PYTHON = re.compile(r"\w\(|\w=|\w_\w|[\[{]|\b(?:pgnn|pandas|torch|numpy|model|frame)\.\w")
"""What is left in advice that only Python can follow."""
_PARTS = re.compile(r"(; |\. (?=[A-Z])|, or )")


def message_of(error: PgnnError | AdvisedWarning, options: Mapping[str, Any]) -> str:
    """Return the message of an error, with advice that a shell user can follow.

    Args:
        error: An error of the library, or a warning.
        options: The options of the command, by name.

    Example:
        >>> error = PgnnError("rows sum to 2", Advice("pass normalise=True", "normalise"))
        >>> message_of(error, {"normalise": False})
        'rows sum to 2; --normalise divides each row by its sum'
        >>> message_of(PgnnError("'a' was not observed", "learn with EM()"), {"learner": None})
        "'a' was not observed; learn with --learner EM"
        >>> message_of(PgnnError("the model has no tables", "use model.unroll(3)"), {})
        'the model has no tables'
        >>> message_of(NotConverged("EM: it stopped", "raise restarts", "EM"), {"learner": None})
        "EM: it stopped; raise restarts (--learner 'EM(restarts=10)')"
    """
    method = error.method if isinstance(error, NotConverged) else ""
    return str(PgnnError(_named(error.reason), in_options(error.advice, options, method)))


def in_options(advice: str, options: Mapping[str, Any], method: str = "") -> str:
    """Return advice of the library with options; empty if only Python can follow it.

    Args:
        advice: The advice; alternatives that only Python can follow are left out.
        options: The options of the command, by name.
        method: The engine or learner whose settings it is about.
    """
    if isinstance(advice, Advice):
        if advice.setting == "install":
            return advice
        return _of_setting(advice.setting, advice.values, advice.setting in options)
    if "engine" in options:  # the one argument that advice often names alone
        advice = advice.replace("leave out engine=", "leave out --engine")
    advice = _CALL.sub(lambda call: as_option(call[1], call[2], options) or call[0], advice)
    settings = MethodSettings.of(method, options)
    if settings is not None:
        advice = settings.shown(advice)
    return _understood(advice, () if settings is None else settings.defaults)


def _understood(advice: str, known: Container[str]) -> str:
    """The sentences and alternatives of advice that a shell user can follow.

    Args:
        advice: The advice, with options in place of engines and learners.
        known: Names of settings.
    """
    kept, parts = "", ["", *_PARTS.split(advice)]
    for joint, part in zip(parts[::2], parts[1::2], strict=True):
        words = [w for w in _QUOTED.sub("", part).split() if w.strip("(),") not in known]
        if not _PYTHON.search(" ".join(words)):
            kept += joint + part if kept else part
    return kept


def _named(reason: str) -> str:
    """A reason in which classes such as ``EM()`` are names and no calls, but for quoted text."""
    parts = re.split(f"({_QUOTED.pattern})", reason)
    parts[::2] = [re.sub(r"\b([A-Z]\w+)\(\)", r"\1", part) for part in parts[::2]]
    return "".join(parts)


def _of_setting(setting: str, values: tuple[object, ...], is_option: bool) -> str:
    """Advice about an argument of Python, in words of the command line; empty if it has none."""
    match setting:
        case "unknown":
            return "leave the cell empty if it was not observed"
        case "encoding":
            return "is it another kind of file? Convert text to UTF-8 (iconv -f LATIN1 -t UTF-8)"
        case "steps":
            return "The command line takes models of a fixed size only"
        case "inputs":
            return "The command line takes models without inputs only"
        case "modules":
            return "Only Python can load it, by pgnn.load"
        case "format" if not values:
            return "take one of these, or .safetensors"
        case "checkpoint":
            return f"write {' or '.join(map(str, (*values, 'a .safetensors file')))}"
        case _ if not is_option:
            return ""
        case "ignore":
            names = " ".join(f"--ignore {shlex.quote(str(name))}" for name in values)
            return f"leave columns out by {names or '--ignore NAME'}"
        case "evidence":
            return f"observe it by -e {shlex.quote(f'{values[0]}=VALUE')}"
        case "sample":
            return f"choose one by --evidence-row, from 0 to {values[0]}"
        case "normalise":
            return "--normalise divides each row by its sum"
        case "separator":
            separator = str(values[0]).replace("\t", "\\t")  # a tab cannot be seen in a message
            return f"pass --separator {shlex.quote(separator)}"
        case "format":
            return f"pass --format NAME, one of {values[0]}"
    return ""
