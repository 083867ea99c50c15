"""See :mod:`pgnn.limits`."""

from pgnn.limits import MAX_BYTES, check_seed, check_size, whole_number

__all__ = ["MAX_BYTES", "check_seed", "check_size", "whole_number"]
