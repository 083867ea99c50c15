"""Distributions of torch without the check of their arguments."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from torch.distributions import Distribution


@contextlib.contextmanager
def unvalidated() -> Iterator[None]:
    """Let distributions take any values; afterwards they check their arguments as before.

    Where a sampler tries a point outside of a support, the density is zero, which is no error.

    Example:
        >>> import torch
        >>> with unvalidated():
        ...     bool(torch.distributions.Normal(0.0, -1.0).scale < 0)
        True
    """
    before = Distribution._validate_args
    Distribution.set_default_validate_args(False)
    try:
        yield
    finally:
        Distribution.set_default_validate_args(before)
