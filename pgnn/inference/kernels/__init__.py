"""Compiled CPU kernels: elimination orders, program assembly, contraction, decoding, counting."""

from pathlib import Path

from pgnn.inference.kernels.staleness import forget_stale

forget_stale(Path(__file__).parent)
