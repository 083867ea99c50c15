"""Exact inference: elimination plans, the executors that run them, and the engines."""
