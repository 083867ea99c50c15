"""Whether the compiled kernels can be had on this machine."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any


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


@contextmanager
def telling_of_compilation(tell: Callable[[], object]) -> Iterator[None]:
    """Call ``tell`` when a kernel is compiled within this context, once.

    Compiled kernels are kept on disk. The first question on a machine waits for them: about a
    minute.
    """
    if not has_numba():
        yield
        return
    from numba.core import event

    class Listener(event.Listener):
        told = False

        def on_start(self, event: Any) -> None:
            if not self.told:
                self.told = True
                tell()

        def on_end(self, event: Any) -> None:
            pass

    with event.install_listener("numba:compile", Listener()):
        yield
