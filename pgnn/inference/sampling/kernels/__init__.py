"""Compiled CPU kernels of the room ``sampling``."""
