"""Changes to the structure of a module that are undone after an error."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn


@contextmanager
def structure_restored_on_failure(module: nn.Module) -> Iterator[None]:
    """Restore the attributes, parameters, buffers and submodules of a module after an error.

    Parameter values are not restored, for which see
    :func:`~pgnn.inference.learning.restored_on_failure.restored_on_failure`; changed parts must be
    replaced, not written to.

    Args:
        module: The module to restore.
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
