"""Compiled code that Ctrl-C ends: Python waits, the work looks at a flag."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

Stop = NDArray[np.int64]
"""``(1,)``: a kernel that takes it returns early, its answer unfinished, once it is not zero."""


def go_on() -> Stop:
    """Return a flag that nobody sets, for work that is over in no time."""
    return np.zeros(1, dtype=np.int64)


def interruptible(work: Iterable[Callable[[Stop], None]], threads: int = 1) -> None:
    """Run pieces of compiled work in threads, and stop them when this thread is interrupted.

    A signal's handler runs in the main thread, and only between Python's own steps: while that
    thread waits for others, not while it is inside a kernel. The kernels release Python's lock.

    Args:
        work: Pieces of work; each hands the flag to its kernels, which look at it at least every
            tenth of a second.
        threads: How many run at once.

    Raises:
        BaseException: What a piece raised; or what interrupted this thread, after all pieces have
            stopped.
    """
    stop = go_on()
    with ThreadPoolExecutor(threads) as pool:
        running = [pool.submit(piece, stop) for piece in work]
        try:
            for piece in running:
                piece.result()
        except BaseException:
            stop[0] = 1
            for piece in running:
                piece.cancel()
            raise
