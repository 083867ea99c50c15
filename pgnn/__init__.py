"""Probabilistic graphical models and probabilistic programs with neural networks as parts.

Names are loaded when they are used; ``__init__.pyi`` lists them with their modules.
"""

import lazy_loader

__version__ = "0.1.0"

__getattr__, __dir__, _names = lazy_loader.attach_stub(__name__, __file__)
_ROOMS = {"errors", "evidence", "factors", "graphs", "inference", "io", "models"}
__all__ = [name for name in _names if name not in _ROOMS]  # which a star would hide others by
