"""Compiled CPU kernels of the room ``exact``."""
