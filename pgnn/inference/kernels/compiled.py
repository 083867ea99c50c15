"""How kernels are compiled: the fewer ways in, the sooner they are ready."""

from __future__ import annotations

from typing import Any

from numba import njit

# options that numba has but does not declare
NOT_FOR_PYTHON: dict[str, Any] = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True}

entry = njit(cache=True, nogil=True)
"""A kernel that Python calls, the library or its tests."""

inner = njit(cache=True, nogil=True, **NOT_FOR_PYTHON)
"""A kernel that only kernels call: it has no way in from Python, and a call from there crashes."""

inlined = njit(cache=True, nogil=True, inline="always")
"""A kernel whose text is put in the place of the call."""
