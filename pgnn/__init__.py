"""Probabilistic graphical models and probabilistic programs with neural networks as parts.

Names are loaded when they are used; ``__init__.pyi`` lists them with their modules.
"""

from typing import Any

import lazy_loader

from pgnn.held_interrupts import held_interrupts

__version__ = "0.1.0"

_load, __dir__, _names = lazy_loader.attach_stub(__name__, __file__)
_ROOMS = {"errors", "evidence", "factors", "graphs", "inference", "io", "models"}
__all__ = [name for name in _names if name not in _ROOMS]  # which a star would hide others by


def __getattr__(name: str) -> Any:
    """Load a name, with torch and networkx at the first one."""
    with held_interrupts():
        return _load(name)
