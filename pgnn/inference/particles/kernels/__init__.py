"""Compiled CPU kernels of particle methods."""
