"""Whether the kernels of chains of samples are compiled; until then Python does what is little."""

from __future__ import annotations

from pgnn.inference.compilation import Compilation

KERNELS = Compilation("pgnn.inference.sampling")
"""Of this process."""
