"""Whether the kernels of exact answers are compiled; until then torch answers small questions."""

from __future__ import annotations

from pgnn.inference.compilation import Compilation

KERNELS = Compilation("pgnn.inference.exact")
"""Of this process."""
