"""Compiled CPU kernels: elimination orders, program assembly, contraction, decoding, counting."""
