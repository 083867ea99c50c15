"""HTML representation of engines and learners for notebooks."""

from __future__ import annotations

import dataclasses
import re
from types import FunctionType
from typing import Any

from pgnn.errors import short_repr
from pgnn.factors.html import Html, escaped, html_table, stacked, text_line

_ROLE = re.compile(r":\w+:`~?([^`]*)`")
_LETTERS = 120


class ShowsSettings:
    """An object that notebooks show as a table of its settings."""

    def _repr_html_(self) -> str:
        return settings_html(self)


def settings_html(settings: Any) -> str:
    """Return the summary of a class and the settings of one of its objects.

    Settings that are not the default are bold.

    Args:
        settings: An engine or a learner, usually a dataclass.
    """
    name = type(settings).__name__
    head = Html(f"<div><b>{escaped(name)}</b> {escaped(_summary(type(settings)))}</div>")
    fields = dataclasses.fields(settings) if dataclasses.is_dataclass(settings) else ()
    rows = [_row(field, vars(settings)[field.name]) for field in fields if field.repr]
    table = html_table(rows, ("setting", "value", "default")) if rows else text_line("no settings")
    return stacked(head, table)


def _row(field: dataclasses.Field[Any], value: Any) -> list[object]:
    default = field.default
    if field.default_factory is not dataclasses.MISSING:
        default = field.default_factory()
    text, usual = _text(value), "" if default is dataclasses.MISSING else _text(default)
    if text == usual:
        return [field.name, text, ""]
    return [field.name, Html(f"<b>{escaped(text)}</b>"), usual]


def _text(value: Any) -> str:
    """Return the name of a function or a class, and a short representation of anything else."""
    if isinstance(value, FunctionType | type):
        return value.__qualname__
    return short_repr(value, _LETTERS)


def _summary(kind: type) -> str:
    """Return the first sentence of a docstring as plain text; empty if there is none."""
    text = kind.__doc__ or ""
    if text.startswith(f"{kind.__name__}("):  # written by dataclass
        return ""
    first = " ".join(text.split("\n\n")[0].split())
    return _ROLE.sub(r"\1", first).replace("``", "")
