"""Compiled CPU kernels of the room ``particles``."""
