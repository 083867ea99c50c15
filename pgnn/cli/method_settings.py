"""Engines and learners, and their settings, as options of a command."""

from __future__ import annotations

import ast
import dataclasses
import re
import shlex
from collections.abc import Mapping
from typing import Any, Self

_SETTING = re.compile(
    r"\b(\w+)=([\w.]*)"
    r"|\b((?:raise|increase|lower|(?:draw |take |use )?more) )(\w+)\b(?!=\w)=?"
)
"""A setting in advice, as in "raise max_iterations" or "use tree_reweighted=True"."""


def option_of(name: str, options: Mapping[str, Any]) -> str:
    """Return the option of a command that names an engine or a learner; empty if it has none."""
    import pgnn
    from pgnn.inference.engine import Engine
    from pgnn.inference.learner import Learner

    kind = getattr(pgnn, name) if name in pgnn.__all__ else None
    for option, base in (("engine", Engine), ("learner", Learner)):
        if option in options and isinstance(kind, type) and issubclass(kind, base):
            return option
    return ""


def as_option(name: str, settings: str, options: Mapping[str, Any]) -> str:
    """Return the option that names an engine or a learner, with settings; empty if it has none.

    Example:
        >>> as_option("EM", "restarts=3", {"learner": None})
        "--learner 'EM(restarts=3)'"
    """
    option = option_of(name, options)
    call = f"{name}({settings})" if settings else name
    return f"--{option} {shlex.quote(call)}" if option else ""


@dataclasses.dataclass(frozen=True)
class MethodSettings:
    """The settings of an engine or a learner that a command takes as an option.

    Args:
        method: Name of its class.
        options: Options of the command.
        defaults: Default values by name.
        given: Settings that the command gave, by name.
    """

    method: str
    options: Mapping[str, Any]
    defaults: Mapping[str, Any]
    given: Mapping[str, str]

    @classmethod
    def of(cls, method: str, options: Mapping[str, Any]) -> Self | None:
        """Return the settings of a class; None if the command does not take it."""
        import pgnn

        option = option_of(method, options)
        if not option:
            return None
        defaults = {f.name: f.default for f in dataclasses.fields(getattr(pgnn, method))}
        return cls(method, options, defaults, _given(str(options[option] or ""), method))

    def shown(self, advice: str) -> str:
        """Return advice that shows how the first setting that it names is given.

        Example:
            >>> settings = MethodSettings.of("Gibbs", {"engine": "Gibbs(samples=9)"})
            >>> settings.shown("increase samples= and burn_in=")
            "increase samples (--engine 'Gibbs(samples=90)') and burn_in"
        """
        parts, end, is_shown = [], 0, False
        for found in _SETTING.finditer(advice):
            name = found[1] or found[4]
            if name in self.defaults:
                number = self.given.get(name, repr(self.defaults[name]))
                words = self._with(name, found[2]) if found[2] else (found[3] or "") + name
                if not found[2] and not is_shown and number.isdecimal():
                    words += f" ({self._with(name, str(max(1, int(number)) * 10))})"
                    is_shown = True
                parts += [advice[end : found.start()], words]
                end = found.end()
        return "".join([*parts, advice[end:]])

    def _with(self, name: str, value: str) -> str:
        settings = ", ".join(f"{n}={x}" for n, x in {**self.given, name: value}.items())
        return as_option(self.method, settings, self.options)


def _given(text: str, method: str) -> dict[str, str]:
    """The settings in a text such as ``EM(restarts=3)``, if it names the method."""
    try:
        tree = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError):
        return {}
    if not isinstance(tree, ast.Call) or ast.unparse(tree.func) != method:
        return {}
    return {k.arg: ast.unparse(k.value) for k in tree.keywords if k.arg}
