"""Distributions of torch without validation of their arguments."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from torch.distributions import Distribution


@contextlib.contextmanager
def unvalidated() -> Iterator[None]:
    """Disable the validation of arguments of distributions, and restore it afterwards.

    At points outside of a support, which samplers may try, the density is then zero.

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
