"""Kernels as plain Python functions, used until they are compiled."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, wraps
from types import FunctionType
from typing import Any

import numpy as np
from numba.core.dispatcher import Dispatcher


@cache
def interpreted(kernel: Any, guarded: bool = False) -> Callable[..., Any]:
    """Return the Python function of a kernel, including the kernels that it calls.

    Results are equal up to rounding: fixed-width integers wrap around in NumPy as well.

    Args:
        kernel: A kernel that calls other kernels by their own names, and only intrinsics with a
            Python version, ``by_python``.
        guarded: Whether the compiled kernel is run if a value underflows or overflows, which its
            caller checks; it must overwrite all that it has written.
    """
    function = _plain(kernel)

    @wraps(function)
    def run(*args: Any) -> Any:
        try:
            with np.errstate(all="ignore", under="raise" if guarded else "ignore"):
                return function(*args)
        except FloatingPointError:
            return kernel(*args)

    return run


@cache
def _plain(kernel: Any) -> Callable[..., Any]:
    """The Python function of a kernel, in which called kernels are replaced likewise."""
    source = kernel.py_func
    scope = dict(source.__globals__)
    for name in scope.keys() & set(source.__code__.co_names):
        called = scope[name]
        if isinstance(called, Dispatcher):
            scope[name] = _plain(called)
        else:
            scope[name] = getattr(called, "by_python", called)
    return FunctionType(source.__code__, scope, source.__name__, source.__defaults__)
