"""Codes of the kinds of factors for compiled kernels: the ``kernel_kind`` of their classes."""

TABLE, POTTS = 0, 1
