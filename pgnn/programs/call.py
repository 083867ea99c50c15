"""The arguments of a Pyro program."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pgnn.errors import ModelError


def check_call(
    model: Callable[..., Any],
    guide: Callable[..., Any] | None,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
) -> None:
    """Check that a program and its guide can be called with the given arguments.

    Args:
        model: The program.
        guide: The guide, or None.
        args: Positional arguments.
        kwargs: Keyword arguments.

    Raises:
        ModelError: If one of them is not callable, or arguments are missing or superfluous.
    """
    for what, program in (("program", model), ("guide", guide)):
        if what == "guide" and program is None:
            continue
        if not callable(program):
            raise ModelError(
                f"the {what} must be a callable, got {type(program).__name__}",
                "pass its arguments as Program(model, args=(...), kwargs={...})",
            )
        try:
            signature = inspect.signature(program)
        except (TypeError, ValueError):  # compiled callables may have no signature
            continue
        try:
            signature.bind(*args, **kwargs)
        except TypeError as error:
            raise ModelError(
                f"the {what} cannot be called with the given arguments: {error}",
                "pass them as Program(model, args=(...), kwargs={...})",
            ) from error
