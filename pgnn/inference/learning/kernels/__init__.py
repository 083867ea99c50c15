"""Compiled CPU kernels of the room ``learning``."""
