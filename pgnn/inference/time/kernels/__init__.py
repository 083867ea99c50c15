"""Compiled kernels of the room."""
