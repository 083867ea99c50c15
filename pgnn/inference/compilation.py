"""Compilation of a package's kernels in a child process."""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import os
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pgnn.inference.numba_support import has_numba

SWITCH = "PGNN_COMPILE"
"""Environment variable: ``now`` makes each process compile what it needs and wait for it."""

INTERPRETED = 2e7
"""Nanoseconds of compiled work below which Python is used, about a hundred times slower."""

# seconds to wait for a child process
_PATIENCE = 300.0
_CHILD = """
import os, sys
if hasattr(os, "nice"):
    os.nice(10)
sys.path[:] = {path!r}
from pgnn.inference.compilation import compile_all
compile_all({room!r}, {done!r}, {begun!r})
"""


class Compilation:
    """Compiles the kernels of a package in a child process, while slower code answers queries.

    The child answers one query of each kind, which fills numba's cache, and then creates an empty
    marker file next to the cache. It may outlive this process.

    Args:
        room: Full name of a package. The child calls the function ``ask_everything`` of its module
            ``compile_all``, which compiles all of its ``kernels``.
    """

    def __init__(self, room: str) -> None:
        self.room = room
        self._ready = False
        self._done: Path | None = None
        self._lock = threading.Lock()

    def ready(self) -> bool:
        """Whether compiled kernels are available; until then torch does small amounts of work.

        Also true where no child process can be started: each kernel is then compiled in this
        process at its first use.
        """
        return self._ready or self._look()

    def choose(self, kernel: Any, cost: float, guarded: bool = False) -> Callable[..., Any]:
        """Return a kernel, or its Python source for small work until the kernel is compiled.

        Both return the same results up to rounding, random numbers included.

        Args:
            kernel: A kernel of the package.
            cost: Approximate time of the compiled kernel, in nanoseconds.
            guarded: See :func:`~pgnn.inference.kernels.interpreted.interpreted`.
        """
        if cost > INTERPRETED or self.ready():
            compiled: Callable[..., Any] = kernel
            return compiled
        from pgnn.inference.kernels.interpreted import interpreted

        return interpreted(kernel, guarded)

    def _look(self) -> bool:
        with self._lock:
            if self._ready:
                return True
            if self._done is None:
                waited_for = self._begin()
            else:
                waited_for = not self._done.exists() and _is_recent(_started_mark(self._done))
            if not waited_for:  # never cleared: a child may have failed before `_begin` returned
                self._ready = True
            return self._ready

    def _begin(self) -> bool:
        """Start a child process; return whether there is one to wait for."""
        if _compile_now() or not _can_have_children() or not has_numba():
            return False
        from pgnn.inference.kernels.bitset import members

        folder = members.stats.cache_path
        if folder is None:  # compiled code cannot be kept
            return False
        mark = Path(folder, f"{self.room}-{_stamp(self.room)}.done")
        if mark.exists():
            return False
        if not _is_recent(_started_mark(mark)):  # otherwise another process has started one
            try:
                _started_mark(mark).touch()
                self._start(mark)
            # no folder for the cache, no child process, or no thread available
            except (OSError, RuntimeError):
                return False
        self._done = mark
        return True

    def _start(self, done: Path) -> None:
        code = _CHILD.format(
            path=sys.path, room=self.room, done=str(done), begun=str(_started_mark(done))
        )
        child = subprocess.Popen(
            [sys.executable, "-c", code],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={**os.environ, SWITCH: "now"},
            start_new_session=True,  # Ctrl-C is meant for this process
            creationflags=getattr(subprocess, "BELOW_NORMAL_PRIORITY_CLASS", 0),
        )

        def wait() -> None:
            child.wait()
            self._ready = True

        threading.Thread(target=wait, name="pgnn-compilation", daemon=True).start()


def compile_all(room: str, done: str, begun: str) -> None:
    """Compile all kernels; the main function of the child process.

    Args:
        room: Package whose kernels are to be compiled.
        done: The file that is created when everything is compiled.
        begun: The file that is removed at the end, also after an error.
    """
    try:
        importlib.import_module(f"{room}.compile_all").ask_everything()
        Path(done).touch()
    finally:
        Path(begun).unlink(missing_ok=True)


def _compile_now() -> bool:
    """Whether the environment asks to compile in this process; other wishes get a warning."""
    wish = os.environ.get(SWITCH, "")
    if wish not in ("", "now"):
        warnings.warn(
            f"{SWITCH} must be 'now' or not set, got {wish!r}, which changes nothing", stacklevel=2
        )
    return wish == "now"


def _started_mark(done: Path) -> Path:
    """Return the file that marks a started child."""
    return done.with_suffix(".begun")


def _is_recent(file: Path) -> bool:
    with contextlib.suppress(OSError):
        return abs(time.time() - file.stat().st_mtime) < _PATIENCE
    return False


def _can_have_children() -> bool:
    """Whether this process is a Python interpreter, not a program that embeds one."""
    is_python = Path(sys.executable or "").stem.lower().startswith("python")
    return is_python and not hasattr(sys, "frozen") and not sys.is_finalizing()


def _stamp(room: str) -> str:
    """Return a hash of what compiled code depends on: source, numba, processor and interpreter."""
    import numba
    from llvmlite.binding import get_host_cpu_name

    folder = Path(__file__).parent
    sources = sorted(
        [*folder.glob("kernels/*.py"), *folder.glob(f"{room.split('.')[-1]}/kernels/*.py")]
    )
    ingredients: list[object] = [(f.name, f.stat().st_size, f.stat().st_mtime_ns) for f in sources]
    ingredients += [numba.__version__, get_host_cpu_name(), sys.version]
    return hashlib.sha256(repr(ingredients).encode()).hexdigest()[:16]
