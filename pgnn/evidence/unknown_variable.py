"""The error for a name that is not a variable of the model."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from pgnn.errors import Advice, EvidenceError, closest
from pgnn.factors.variable import Variable


class UnknownVariable(EvidenceError, KeyError):
    """A name that is not a variable of the model; also a ``KeyError``, as for mappings."""

    def __init__(
        self,
        name: object,
        known: Iterable[object],
        what: str = "variable",
        hint: str = "",
        advice: str = "",
    ) -> None:
        shown = ", ".join(map(repr, name)) if isinstance(name, list) else repr(name)
        super().__init__(f"unknown {what} {shown}{hint or closest(name, known)}", advice)

    def __str__(self) -> str:
        return str(self.args[0])  # a KeyError would show its message in quotes


def unknown_variable(
    name: object, variables: Iterable[Variable], what: str = "variable"
) -> UnknownVariable:
    """Return the error, which suggests known names or gives the shape of an array."""
    known = list(variables)
    return UnknownVariable(name, [v.name for v in known], what, _hint(name, known))


def unknown_columns(
    names: Sequence[object], variables: Iterable[Variable], what: str = "column", hint: str = ""
) -> UnknownVariable:
    """Return the error for unknown names in data or evidence, which explains how to ignore them.

    Args:
        names: The unknown names.
        variables: Those of the model.
        what: What the names are of.
        hint: What is known of the mistake, in place of the names of the variables.
    """
    known = list(variables)
    shown = ", ".join(map(repr, names))
    shown = "..." if hint else shown
    text = f"leave columns out by pgnn.observed(data, ignore=[{shown}])"
    advice = Advice(text, "ignore", () if hint else names)
    hint = hint or _hint(names[0], known).rstrip("?")
    if len(names) > 1:
        noun, *rest = what.split()
        what = " ".join([f"{noun}s", *rest])
    return UnknownVariable([*names], [v.name for v in known], what, hint, advice)


def _hint(name: object, known: Sequence[Variable]) -> str:
    """Return the shape of the array that was meant, or the closest names."""
    array = name[0] if isinstance(name, tuple) and name else None
    shapes = [f"; {v.name!r} has the shape {v.shape}" for v in known if v.shape and v.name == array]
    return shapes[0] if shapes else closest(name, [v.name for v in known])
