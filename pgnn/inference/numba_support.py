"""Availability of compiled kernels."""

from __future__ import annotations

import warnings
from functools import cache

from pgnn.held_interrupts import held_interrupts


@cache
def has_numba() -> bool:
    """Whether numba is available; if not, warns once, and torch is used."""
    try:
        with held_interrupts():
            from numba.core import config
    except ImportError as error:
        warnings.warn(
            f"numba cannot be imported ({error}); the slower torch code is used",
            RuntimeWarning,
            stacklevel=2,
        )
        return False
    if config.DISABLE_JIT:  # type: ignore[attr-defined]
        warnings.warn(
            "NUMBA_DISABLE_JIT is set; the slower torch code is used",
            RuntimeWarning,
            stacklevel=2,
        )
        return False
    return True
