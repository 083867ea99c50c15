"""Networks in evaluation mode for a while."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from torch import nn


@contextlib.contextmanager
def evaluated(module: nn.Module) -> Iterator[None]:
    """Put a module into evaluation mode, and each of its parts back afterwards.

    Args:
        module: Whose answers are wanted: without dropout, by the statistics that batch
            normalisation has kept, which stay as they are.
    """
    modes = [(part, part.training) for part in module.modules()]
    for part, _ in modes:
        part.training = False
    try:
        yield
    finally:
        for part, mode in modes:
            part.training = mode
