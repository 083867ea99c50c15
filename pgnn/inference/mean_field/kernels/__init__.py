"""Compiled CPU kernels of mean field."""
