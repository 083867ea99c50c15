"""Compiled CPU kernels of belief propagation."""
