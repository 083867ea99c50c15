"""Codes by which compiled kernels know kinds of factors: the ``kernel_kind`` of their classes."""

TABLE, POTTS = 0, 1
