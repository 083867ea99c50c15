"""Compiled CPU kernels of learning."""
