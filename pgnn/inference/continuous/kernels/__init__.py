"""Compiled CPU kernels of the room ``continuous``."""
