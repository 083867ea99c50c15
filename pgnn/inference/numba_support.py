"""Whether the compiled kernels can be had on this machine."""

from __future__ import annotations

import warnings
from functools import cache


@cache
def has_numba() -> bool:
    """Whether numba can be imported; warns once where it can't, and torch serves instead."""
    try:
        import numba  # noqa: F401
    except ImportError as error:
        warnings.warn(
            f"numba cannot be imported ({error}); answers come from torch, more slowly",
            RuntimeWarning,
            stacklevel=2,
        )
        return False
    return True
