"""Compiled work in threads that Ctrl-C can stop: Python waits, the work polls a flag."""

from __future__ import annotations

import _thread
from collections.abc import Callable, Iterable, Iterator
from contextvars import ContextVar, copy_context
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

Ints = NDArray[np.int64]

Stop = NDArray[np.int64]
"""``(1,)``: a kernel that takes it returns early, its answer unfinished, once it is not zero."""

LITTLE = 3e6
"""Nanoseconds of work below which it is not split between threads."""

_SOON = 1e7
"""Nanoseconds of work below which it runs in the calling thread, without interruption."""

_FILLED = 2**22
"""Number of values that NumPy writes between signal checks: some hundredths of a second."""

_OUTER: ContextVar[Stop | None] = ContextVar("_OUTER", default=None)
"""The stop flag of the work of the current thread."""


class _Stopped(BaseException):
    """Work was stopped because of an error in another thread."""


def never_stop() -> Stop:
    """Return a flag that is never set, for short work."""
    return np.zeros(1, dtype=np.int64)


def interruptible(
    work: Iterable[Callable[[Stop], None]], threads: int = 1, cost: float = np.inf
) -> None:
    """Run compiled functions in threads, and stop them when this thread is interrupted.

    Python runs a signal's handler in the main thread, between two bytecodes: possible while that
    thread waits for others, impossible while it is inside a kernel. The kernels release the GIL.
    Nested work is stopped as well.

    Args:
        work: Functions; each passes the flag to its kernels, which poll it at least every
            tenth of a second.
        threads: Number of functions that run concurrently.
        cost: Approximate total time in nanoseconds; short work runs in this thread.

    Raises:
        BaseException: The error of a function; or the interrupt of this thread, after all threads
            have stopped (at a second interrupt, immediately).
    """
    outer = _OUTER.get()
    stop = never_stop() if outer is None else outer
    if threads == 1 and cost <= _SOON:
        for piece in work:
            piece(stop)
        return
    waiting, failed = iter(list(work)), list[BaseException]()
    workers = list[_Worker]()
    try:
        for _ in range(threads):
            worker = _Worker()
            run = partial(worker.run, waiting, stop, failed)
            _thread.start_new_thread(copy_context().run, (run,))
            workers.append(worker)
        for worker in workers:
            worker.wait()
    except BaseException:
        stop[0] = 1
        for worker in workers:
            worker.wait()
        raise
    if failed:
        raise failed[0]
    if stop[0]:
        raise _Stopped


class _Worker:
    """A thread that runs functions; the caller waits for it by a bare lock, in one call.

    A signal may arrive between any two bytecodes, which would corrupt the classes of ``threading``.
    """

    def __init__(self) -> None:
        self._done, self._bell = False, _thread.allocate_lock()
        self._bell.acquire()

    def wait(self) -> None:
        """Wait until the thread has ended; after an interrupt the caller may wait again."""
        while not self._done:
            self._bell.acquire()

    def run(
        self, waiting: Iterator[Callable[[Stop], None]], stop: Stop, failed: list[BaseException]
    ) -> None:
        """Run functions until none is left, or one has failed."""
        try:
            _OUTER.set(stop)
            for piece in waiting:
                if stop[0]:
                    break
                piece(stop)
        except BaseException as error:
            failed.append(error)
            stop[0] = 1
        finally:
            self._done = True
            self._bell.release()


def parts(count: int, each: int) -> Iterator[slice]:
    """Yield slices of an axis, so that signals are handled between NumPy calls on them.

    Args:
        count: Length of the axis.
        each: Number of values per index.

    Example:
        >>> [*parts(5, 2**21)]
        [slice(0, 2, None), slice(2, 4, None), slice(4, 5, None)]
    """
    step = max(1, _FILLED // max(each, 1))
    for first in range(0, count, step):
        yield slice(first, min(first + step, count))


def repeated(array: NDArray[Any], count: int, axis: int = 0) -> NDArray[Any]:
    """Return copies of an array along a new axis, slice by slice as in :func:`parts`.

    Args:
        array: The array.
        count: Number of copies.
        axis: Position of the new axis.
    """
    shape = [*array.shape[:axis], count, *array.shape[axis:]]
    copies = np.empty(shape, array.dtype)
    along = np.moveaxis(copies, axis, 0)
    for part in parts(count, array.size):
        along[part] = array
    return copies


def in_threads(run: Callable[[Ints, Stop], None], work: Ints, cost: float = np.inf) -> None:
    """Divide ``work`` among as many threads as torch uses, and call ``run`` in each.

    Args:
        run: A function as for :func:`interruptible`; its kernels run in parallel.
        work: Indices or rows to divide among threads; nothing is called if it is empty.
        cost: See :func:`interruptible`.
    """
    if not len(work):
        return
    threads = 1 if cost <= LITTLE else min(torch.get_num_threads(), len(work))
    interruptible([partial(run, part) for part in np.array_split(work, threads)], threads, cost)
