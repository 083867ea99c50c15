"""Compiled code on disk that processes share."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

from numba.core.caching import FunctionCache

_PATIENCE = 30.0
"""Seconds after which another process's lock is no longer waited for; nothing is kept then."""


class SharedCache(FunctionCache):
    """numba's cache of a function, which one process at a time writes.

    numba reads an index, takes the first file name that is free, and writes both: of two processes
    that do so at once one overwrites the other's code, which the index then gives out for
    arguments of other types.
    """

    def save_overload(self, sig: Any, data: Any) -> None:
        """Keep what was compiled for a signature."""
        from filelock import FileLock, Timeout

        folder = Path(self.cache_path)
        folder.mkdir(parents=True, exist_ok=True)
        with suppress(Timeout), FileLock(folder / "pgnn.lock", timeout=_PATIENCE):
            super().save_overload(sig, data)
