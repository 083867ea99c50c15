"""Whether the kernels of mean field are compiled; until then small tasks run in Python."""

from __future__ import annotations

from pgnn.inference.compilation import Compilation

KERNELS = Compilation("pgnn.inference.mean_field")
"""The compilation state of this process."""
