"""Imports that Ctrl-C does not cut short."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def held_interrupts() -> Iterator[None]:
    """Delay Ctrl-C (SIGINT) to the end of a block, such as the import of a large library.

    An interrupted import leaves modules of C code half loaded, and the process unable to load them
    again. Where Python is not told of the signal, as in other threads, nothing is changed.

    Example:
        >>> with held_interrupts():
        ...     import decimal
    """
    handler = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(handler):
        yield
        return
    held: list[tuple[int, FrameType | None]] = []
    signal.signal(signal.SIGINT, lambda number, frame: held.append((number, frame)))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)
        if held:
            handler(*held[-1])
