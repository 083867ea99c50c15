"""Whether the kernels of dual decomposition are compiled; until then Python does what is little."""

from __future__ import annotations

from pgnn.inference.compilation import Compilation

KERNELS = Compilation("pgnn.inference.search")
"""Of this process."""
