"""Kernels that are not compiled: Python does what their source says."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, wraps
from types import FunctionType
from typing import Any

import numpy as np
from numba.core.dispatcher import Dispatcher


@cache
def interpreted(kernel: Any, guarded: bool = False) -> Callable[..., Any]:
    """Return what a kernel does, done by Python, all kernels that it calls included.

    The numbers are the same but for rounding: integers of fixed width wrap around in NumPy, too.

    Args:
        kernel: It calls other kernels by their own names, and only those intrinsics that have a
            twin, ``by_python``.
        guarded: Whether the kernel is run after all where a number leaves the range of doubles,
            which its caller looks for; it must write all that it reads anew.
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
    """The function that a kernel was made of, with such functions for the kernels it calls."""
    source = kernel.py_func
    scope = dict(source.__globals__)
    for name in scope.keys() & set(source.__code__.co_names):
        called = scope[name]
        if isinstance(called, Dispatcher):
            scope[name] = _plain(called)
        else:
            scope[name] = getattr(called, "by_python", called)
    return FunctionType(source.__code__, scope, source.__name__, source.__defaults__)
