"""The kernels of engines over time."""

from __future__ import annotations

from pgnn.inference.compilation import Compilation

KERNELS = Compilation("pgnn.inference.time")
"""The compilation state of this process."""
