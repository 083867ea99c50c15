"""Detection of floating-point underflow by the processor's exception flags."""

from __future__ import annotations

import ctypes
import ctypes.util
from functools import cache
from typing import Any

_ALL = 0xFFFF


class _Flags:
    """The floating-point exception flags of the calling thread, maintained by the hardware.

    The position of the underflow bit depends on the machine; it is found by causing an underflow.
    """

    def __init__(self, library: Any) -> None:
        self._clear, self._test = library.feclearexcept, library.fetestexcept
        tiny, three = float("1e-200"), float("3")
        self._clear(_ALL)
        _ = 1.0 / three
        inexact = self._test(_ALL)
        self._clear(_ALL)
        _ = tiny * tiny
        self._bit = self._test(_ALL) & ~inexact
        self._clear(_ALL)
        if not self._bit:
            raise OSError("the processor has no underflow flag")

    def clear(self) -> None:
        """Clear the flag."""
        self._clear(self._bit)

    def happened(self) -> bool:
        """Whether a result has underflowed since the flag was cleared."""
        return bool(self._test(self._bit))


class _NoFlags:
    """Used where the flags cannot be read: no underflow is reported."""

    def clear(self) -> None:
        """Do nothing."""

    def happened(self) -> bool:
        """Return False."""
        return False


@cache
def underflow() -> _Flags | _NoFlags:
    """Return the underflow flag of the calling thread.

    Example:
        >>> flags, tiny = underflow(), float("1e-200")
        >>> flags.clear()
        >>> result = tiny * tiny
    """
    try:
        return _Flags(ctypes.CDLL(ctypes.util.find_library("m")))
    except (OSError, AttributeError, TypeError):
        return _NoFlags()
