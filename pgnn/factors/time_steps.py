"""Names over time: the axis ``"T"``, and ``(name, -1)`` for the step before."""

from __future__ import annotations

from collections.abc import Hashable
from typing import TypeGuard

from pgnn.factors.variable import Variable

AXIS = "T"
"""Name of the axis of time."""


def lagged_name(name: Hashable) -> tuple[Hashable, int]:
    """Return the name of a variable one step earlier, ``(name, -1)``."""
    return name, -1


def has_lag(name: object) -> TypeGuard[tuple[Hashable, int]]:
    """Whether a name is that of a variable one step earlier."""
    return isinstance(name, tuple) and len(name) == 2 and name[1] == -1


def without_lag(name: Hashable) -> Hashable:
    """Return the name of the variable without its lag.

    Example:
        >>> without_lag(("rain", -1)), without_lag("rain")
        ('rain', 'rain')
    """
    return name[0] if has_lag(name) else name


def lagged(variable: Variable) -> Variable:
    """Return the variable one step earlier."""
    return Variable(lagged_name(variable.name), variable.states, variable.shape)


def at_step(name: Hashable, step: int) -> tuple[Hashable, int]:
    """Return the name ``(name, step)`` of a variable of a slice or of the one before.

    Example:
        >>> at_step("rain", 3), at_step(("rain", -1), 3)
        (('rain', 3), ('rain', 2))
    """
    return without_lag(name), step - has_lag(name)
