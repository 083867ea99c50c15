"""Conditionals from a class, a partial of one, a torch distribution, or another callable."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Hashable, Sequence
from functools import partial
from typing import Any

from pgnn.errors import ArgumentError, ModelError, closest
from pgnn.factors.conditionals.conditional import Conditional
from pgnn.factors.conditionals.distribution_class import distribution_class
from pgnn.factors.conditionals.distributional import Distributional
from pgnn.factors.conditionals.emission import Emission
from pgnn.factors.variable import Variable

_EXAMPLES = {
    "num_components": "2",
    "num_codes": "8",
    "make": "torch.distributions.Gamma",
    "module": "network",
    "network": "network",
}


def declared_conditional(
    declared: Callable[..., Any], child: Variable, parents: Sequence[Variable]
) -> Any:
    """Return what a callable makes of a variable and its parents.

    Args:
        declared: A class of conditionals or of torch distributions, ``functools.partial`` of one,
            or a callable ``(child, parents) -> Conditional``.
        child: The variable.
        parents: Its parents.

    Raises:
        ArgumentError: If the class needs more arguments; the message shows how they are given.
    """
    if is_distribution(declared):
        return Distributional(child, parents, declared)
    lacking = _lacking(declared)
    if lacking:
        kind = class_of(declared)
        given = declared.keywords if isinstance(declared, partial) else {}
        shown = ", ".join(
            [*(f"{n}={x!r}" for n, x in given.items())]
            + [f"{n}={_EXAMPLES.get(n, '...')}" for n in lacking]
        )
        raise ArgumentError(
            f"{kind.__name__} of {child.name!r} needs {', '.join(map(repr, lacking))}",
            f"give functools.partial(pgnn.{kind.__name__}, {shown})",
        )
    return declared(child, parents)


def class_of(declared: Any) -> Any:
    """Return a callable without the settings that a partial adds to it."""
    return declared.func if isinstance(declared, partial) else declared


def is_distribution(declared: Any) -> bool:
    """Whether a class of torch distributions, or a partial of one, is given."""
    return distribution_class(declared) is not None


def makes_reals(declared: Any) -> bool:
    """Whether a callable is a conditional class for real children, or a partial of one."""
    kind = class_of(declared)
    emits = isinstance(kind, type) and issubclass(kind, Emission) and not kind.takes_states
    return emits or is_distribution(kind)


def no_real_column(name: Hashable, columns: Sequence[Hashable]) -> ModelError:
    """Return the error for data without a column of a real variable, whose shape they tell."""
    return ModelError(
        f"{name!r} is real, and the data has no such column{closest(name, columns)}",
        f"name the column {name!r}; a vector is one value of a mapping, "
        f"{{{name!r}: array of shape (N, D)}}, not a column for each element",
    )


def _lacking(declared: Any) -> list[str]:
    """Return names of the arguments that a class of conditionals needs besides the variables."""
    kind = class_of(declared)
    if not (isinstance(kind, type) and issubclass(kind, Conditional)):
        return []
    arguments = [*inspect.signature(declared).parameters.values()][2:]
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return [p.name for p in arguments if p.kind in named and p.default is inspect.Parameter.empty]
