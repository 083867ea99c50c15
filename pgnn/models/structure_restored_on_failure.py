"""A module whose parts change completely or not at all."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn


@contextmanager
def structure_restored_on_failure(module: nn.Module) -> Iterator[None]:
    """Give a module its attributes, parameters, buffers and parts back if anything is raised.

    Their numbers are another matter, see
    :func:`~pgnn.inference.learning.restored_on_failure.restored_on_failure`: parts that change are
    replaced here, not written to.

    Args:
        module: Whose.
    """
    before = {
        name: dict(value) if isinstance(value, dict) else value
        for name, value in vars(module).items()
    }
    try:
        yield
    except BaseException:
        vars(module).clear()
        vars(module).update(before)
        raise
