"""A cache of compiled code that processes share."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

from numba.core.caching import FunctionCache

_PATIENCE = 30.0
"""Seconds after which another process's lock is no longer waited for; nothing is kept then."""


class SharedCache(FunctionCache):
    """numba's cache of a function, with a lock for writing.

    numba reads an index, takes the first free file name, and writes both: of two processes that do
    so at once, one overwrites the other's code, which the index would then return for arguments of
    other types.
    """

    def save_overload(self, sig: Any, data: Any) -> None:
        """Save the code compiled for a signature."""
        from filelock import FileLock, Timeout

        folder = Path(self.cache_path)
        folder.mkdir(parents=True, exist_ok=True)
        with suppress(Timeout), FileLock(folder / "pgnn.lock", timeout=_PATIENCE):
            super().save_overload(sig, data)
