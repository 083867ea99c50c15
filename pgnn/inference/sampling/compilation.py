"""Whether the kernels of sampling are compiled; until then small tasks run in Python."""

from __future__ import annotations

from pgnn.inference.compilation import Compilation

KERNELS = Compilation("pgnn.inference.sampling")
"""Of this process."""
