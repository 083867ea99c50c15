"""Compiled CPU kernels of search."""
