"""Computations that are recorded once and run again without the Python that they came from."""
