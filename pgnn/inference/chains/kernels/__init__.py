"""Compiled CPU kernels of the room ``chains``."""
