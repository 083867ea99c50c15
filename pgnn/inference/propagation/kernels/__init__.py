"""Compiled CPU kernels of the room ``propagation``."""
