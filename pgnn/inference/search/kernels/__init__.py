"""Compiled CPU kernels of the room ``search``."""
