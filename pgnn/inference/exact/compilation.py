"""Whether the kernels of exact inference are compiled; until then torch answers small queries."""

from __future__ import annotations

from pgnn.inference.compilation import Compilation

KERNELS = Compilation("pgnn.inference.exact")
"""The compilation state of this process."""
