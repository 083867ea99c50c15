"""Compiled CPU kernels of the room ``mean_field``."""
