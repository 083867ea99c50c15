"""Compiled CPU kernels of exact inference."""
