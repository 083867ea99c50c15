"""The error for a name that is no variable here."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from pgnn.errors import EvidenceError, closest
from pgnn.factors.variable import Variable


class UnknownVariable(EvidenceError, KeyError):
    """A name that is no variable here; also a ``KeyError``, as mappings promise."""

    def __init__(
        self, name: object, known: Iterable[object], what: str = "variable", hint: str = ""
    ) -> None:
        shown = ", ".join(map(repr, name)) if isinstance(name, list) else repr(name)
        super().__init__(f"unknown {what} {shown}{hint or closest(name, known)}")

    def __str__(self) -> str:
        return str(self.args[0])  # a KeyError would show its message in quotes


def unknown_variable(
    name: object, variables: Iterable[Variable], what: str = "variable"
) -> UnknownVariable:
    """Make the error that says what is known instead; of an array, its shape."""
    known = list(variables)
    array = name[0] if isinstance(name, tuple) and name else None
    hints = [f"; {v.name!r} has the shape {v.shape}" for v in known if v.shape and v.name == array]
    return UnknownVariable(name, [v.name for v in known], what, *hints)


def unknown_columns(names: Sequence[object], variables: Iterable[Variable]) -> UnknownVariable:
    """Make the error for columns of data that are no variables, with a way to leave them out."""
    known = [v.name for v in variables]
    shown = ", ".join(map(repr, names))
    hint = closest(names[0], known).rstrip("?") + (
        f"; columns that are no variables are left out by pgnn.observed(data, ignore=[{shown}])"
    )
    return UnknownVariable([*names], known, "columns" if len(names) > 1 else "column", hint)
