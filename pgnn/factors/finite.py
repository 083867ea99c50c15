"""Checks for finite numbers without temporary arrays of their size."""

from __future__ import annotations

from torch import Tensor

from pgnn.factors.sparse_rows import is_sparse, stored


def all_finite(x: Tensor) -> bool:
    """Whether no number is ``NaN`` or infinite; also of compressed rows.

    Cost:
        One sum, without a temporary array, where all are finite.

    Example:
        >>> import torch
        >>> all_finite(torch.tensor([1.0, torch.nan])), all_finite(torch.tensor([1.0, 2.0]))
        (False, True)
    """
    numbers = stored(x.detach())
    return bool(numbers.sum().isfinite()) or bool(numbers.isfinite().all())


def has_nan(x: Tensor) -> bool:
    """Whether a number is ``NaN``; also of compressed rows."""
    return not all_finite(x) and bool(stored(x.detach()).isnan().any())


def is_all_nan(x: Tensor) -> bool:
    """Whether all numbers are ``NaN``, the zeros of compressed rows included."""
    return not is_sparse(x) and not all_finite(x) and bool(x.detach().isnan().all())
