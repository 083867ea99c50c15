"""Shared code of compiled kernels: compilation, invalidation of caches, common functions."""

from pathlib import Path

from pgnn.inference.kernels.cache import remove_stale

remove_stale(Path(__file__).parents[2])
