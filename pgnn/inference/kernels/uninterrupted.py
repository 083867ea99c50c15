"""Functions that no signal may interrupt."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from functools import wraps
from typing import ParamSpec, TypeVar

from numba.core.compiler_lock import global_compiler_lock

P = ParamSpec("P")
R = TypeVar("R")


def uninterrupted(function: Callable[P, R]) -> Callable[P, R]:
    """Return the function so that a call from the main thread runs in a thread of its own.

    Python runs signal handlers in the main thread alone. Ctrl-C ends the waiting there at once;
    the call itself goes on to its end, for which the interpreter waits before it exits. A call by
    a function that the main thread is compiling stays where it is: its lock is that of the thread.
    """

    @wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        is_main = threading.current_thread() is threading.main_thread()
        if not is_main or global_compiler_lock.is_locked():
            return function(*args, **kwargs)
        outcome: Future[R] = Future()

        def call() -> None:
            try:
                outcome.set_result(function(*args, **kwargs))
            except BaseException as error:
                outcome.set_exception(error)

        thread = threading.Thread(target=call, name="pgnn-uninterrupted")
        try:
            thread.start()
        except RuntimeError:  # no further thread can be started
            return function(*args, **kwargs)
        return outcome.result()

    return run
