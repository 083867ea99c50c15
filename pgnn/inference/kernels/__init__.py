"""What compiled kernels share: how they are compiled, and when compiled code is out of date."""

from pathlib import Path

from pgnn.inference.kernels.cache import remove_stale

remove_stale(Path(__file__).parents[2])
