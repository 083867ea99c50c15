"""Invalidation of cached compiled code."""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path

_MODULE = re.compile(rb"pgnn(?:\.\w+)+")
_IMPORT = re.compile(r"^from (pgnn\.[\w.]*\bkernels\.\w+) import", re.MULTILINE)


def remove_stale(package: Path) -> list[str]:
    """Remove compiled code from numba's cache if the source of a kernel that it calls has changed.

    numba only checks the file that contains a function; inlined code of other files would remain
    outdated. Loading the cache also fails if an argument's class has moved.

    Args:
        package: The folder of ``pgnn``; kernels are in folders named ``kernels`` anywhere in it,
            numba's cache in their ``__pycache__``.

    Returns:
        Full names of the modules whose cache was removed.
    """
    sources = {
        ".".join((package.name, *file.relative_to(package).with_suffix("").parts)): file
        for file in package.rglob("kernels/*.py")
    }
    calls = {
        name: set(_IMPORT.findall(file.read_text(encoding="utf-8")))
        for name, file in sources.items()
    }
    stale = set()
    for module, source in sources.items():
        for index in (source.parent / "__pycache__").glob(f"{source.stem}.*.nbi"):
            with suppress(OSError):  # another process may have removed it, or may be using it
                written = index.stat().st_mtime_ns
                used = _reachable(module, calls) & sources.keys()
                newer = any(sources[name].stat().st_mtime_ns > written for name in used)
                if newer or not _can_be_read(index, package.parent):
                    index.unlink()
                    stale.add(module)
    return sorted(stale)


def _can_be_read(index: Path, folder: Path) -> bool:
    """Whether all modules that numba's file refers to still exist."""
    for name in set(_MODULE.findall(index.read_bytes())):
        module = folder.joinpath(*name.decode().split("."))
        inside = module.parent  # it may be the name of an attribute of a module
        if not (module.is_dir() or any(p.with_suffix(".py").exists() for p in (module, inside))):
            return False
    return True


def _reachable(start: str, calls: dict[str, set[str]]) -> set[str]:
    """A module and all modules whose code may have been inlined into it."""
    reached: set[str] = set()
    ahead = [start]
    while ahead:
        name = ahead.pop()
        if name not in reached:
            reached.add(name)
            ahead.extend(calls.get(name, ()))
    return reached
