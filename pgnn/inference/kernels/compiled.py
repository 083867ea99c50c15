"""Decorators that compile kernels."""

from __future__ import annotations

import logging
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from numba import njit, types
from numba.core import config, event
from numpy.typing import NDArray

from pgnn.inference.kernels.shared_cache import SharedCache
from pgnn.inference.kernels.uninterrupted import uninterrupted

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]
Codes = NDArray[np.int32]
"""States, -1 where none was observed."""

Decorator = Callable[[Callable[..., Any]], Any]

_PATIENCE = 1.0
"""Seconds of compiling after which a line says so."""

_not_kept: list[str] = []


class _AnyNumber:
    """A call of one kernel by another, compiled once for all constant arguments.

    Otherwise numba compiles a function, and those that it calls, again for each literal argument.
    """

    def __init__(self, dispatcher: Any) -> None:
        self._ask = dispatcher.get_call_template

    def __call__(self, args: Any, kws: Any) -> Any:
        return self._ask(
            tuple(types.unliteral(a) for a in args),
            {name: types.unliteral(a) for name, a in kws.items()},
        )


def _one_version(dispatcher: Any) -> Any:
    dispatcher.get_call_template = _AnyNumber(dispatcher)
    return dispatcher


def _kept_if_possible(once: bool = False, **options: Any) -> Decorator:
    """A decorator that compiles, and caches compiled code on disk if some folder is writable.

    If none is, every process compiles again, with one warning.

    Args:
        once: Whether one version is used for all constant arguments.
        options: Options of numba.
    """
    kept, lost = njit(cache=True, **options), njit(**options)

    def compile_later(function: Callable[..., Any]) -> Any:
        try:
            dispatcher = kept(function)
            if not config.DISABLE_JIT:  # type: ignore[attr-defined]
                dispatcher._cache = SharedCache(function)
        except RuntimeError as error:  # numba reports "no locator available"
            if not _not_kept:
                warnings.warn(
                    "compiled code cannot be cached, so that each process compiles again "
                    f"({error}); set NUMBA_CACHE_DIR to a writable folder",
                    RuntimeWarning,
                    stacklevel=2,
                )
            _not_kept.append(function.__name__)
            dispatcher = lost(function)
        if config.DISABLE_JIT:  # type: ignore[attr-defined]
            return dispatcher  # the Python function
        # LLVM calls Python to ask for cached code, and the process dies if a signal is raised there
        dispatcher.compile = uninterrupted(dispatcher.compile)
        return _one_version(dispatcher) if once else dispatcher

    return compile_later


# options of numba without declared types
_NOT_FOR_PYTHON: dict[str, Any] = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True}
_ARITHMETIC: dict[str, Any] = {
    "error_model": "numpy",
    "_nrt": False,  # arrays are borrowed: kernels neither keep nor free them
    "fastmath": {"reassoc", "contract"},  # sums may be reordered; infinities are respected
}

entry = _kept_if_possible(once=True, nogil=True)
"""A kernel that Python calls, the library or its tests.

It returns numbers or plain tuples of them, and writes arrays that it is given: to make an array
or a ``NamedTuple`` numba calls Python, and the process dies if a signal is raised there.
"""

inner = _kept_if_possible(once=True, nogil=True, **_NOT_FOR_PYTHON)
"""A kernel that only kernels call: it has no way in from Python, and a call from there crashes."""

lean = _kept_if_possible(once=True, nogil=True, error_model="numpy", _nrt=False, **_NOT_FOR_PYTHON)
"""An inner kernel that makes no array and keeps none, which is compiled sooner."""

inlined_lean = _kept_if_possible(
    once=True, nogil=True, error_model="numpy", _nrt=False, **_NOT_FOR_PYTHON, forceinline=True
)
"""The same, put in the place of the call: handing over many arrays takes longer than small work."""

inlined = _kept_if_possible(nogil=True, inline="always")
"""A kernel whose text is put in the place of the call."""

numeric = _kept_if_possible(nogil=True, **_ARITHMETIC)
"""A kernel of floating-point arithmetic that Python calls."""

inner_numeric = _kept_if_possible(nogil=True, **_ARITHMETIC, **_NOT_FOR_PYTHON)
"""A kernel of floating-point arithmetic that only kernels call; a call from Python crashes."""

inlined_numeric = _kept_if_possible(nogil=True, **_ARITHMETIC, **_NOT_FOR_PYTHON, forceinline=True)
"""The same, put in the place of the call, so that numbers known there are known within."""


class _Patience(event.Listener):
    """Logs a message, once, if the first use of a kernel compiles for more than a second."""

    def __init__(self) -> None:
        self._depth, self._began, self._announced = 0, 0.0, False

    def on_start(self, event: Any) -> None:
        if self._depth == 0:
            self._began = time.perf_counter()
        self._depth += 1
        self._look()

    def on_end(self, event: Any) -> None:
        self._look()
        self._depth -= 1

    def _look(self) -> None:
        if not self._announced and time.perf_counter() - self._began > _PATIENCE:
            self._announced = True
            once = "for this process" if _not_kept else "for this machine; they are cached"
            logging.getLogger("pgnn").warning("compiling kernels %s", once)


event.register("numba:compile", _Patience())
