"""Whether numbers are finite, found out without arrays of their size."""

from __future__ import annotations

from torch import Tensor

from pgnn.factors.sparse_rows import is_sparse, stored


def all_finite(x: Tensor) -> bool:
    """Whether no number is ``NaN`` or infinite; that of compressed rows too.

    Cost:
        One sum where all are finite, which makes no array.

    Example:
        >>> import torch
        >>> all_finite(torch.tensor([1.0, torch.nan])), all_finite(torch.tensor([1.0, 2.0]))
        (False, True)
    """
    numbers = stored(x.detach())
    return bool(numbers.sum().isfinite()) or bool(numbers.isfinite().all())


def has_nan(x: Tensor) -> bool:
    """Whether a number is ``NaN``; that of compressed rows too."""
    return not all_finite(x) and bool(stored(x.detach()).isnan().any())


def is_all_nan(x: Tensor) -> bool:
    """Whether every number is ``NaN``; compressed rows have zeros that are none."""
    return not is_sparse(x) and not all_finite(x) and bool(x.detach().isnan().all())
