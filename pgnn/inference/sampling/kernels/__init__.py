"""Compiled CPU kernels of sampling."""
