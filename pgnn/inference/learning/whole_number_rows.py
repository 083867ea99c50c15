"""Statistics of many rows of integers by a compiled kernel."""

from __future__ import annotations

from collections.abc import Hashable, Mapping

import numpy as np
import torch
from torch import Tensor

from pgnn.factors.conditionals.conditional import Conditional
from pgnn.factors.conditionals.exponential_family import Statistics
from pgnn.factors.conditionals.multinomial import FACTORIALS, log_factorials
from pgnn.factors.conditionals.whole_numbers import RowSums, WholeNumberFamily
from pgnn.inference.numba_support import has_numba

_MANY = 2**20
"""Number of values above which the kernel is worth loading."""
_NUMBERS = 2**23
"""Number of values between checks for an interrupt."""


def statistics_of_whole_numbers(
    conditional: Conditional, values: Mapping[Hashable, Tensor], weights: Tensor
) -> Statistics | None:
    """Return ``conditional.statistics`` and the log factorials for the likelihood.

    None if numba is missing or the kernel does not apply: for other conditionals, few or sparse
    rows, rows with weights for several configurations, and values that are large or not integers.

    Args:
        conditional: A conditional.
        values: ``(N, D)`` values of its child, by name.
        weights: ``(N, K1, ..., Kn)`` weights as for :meth:`ExponentialFamily.statistics`.
    """
    if not isinstance(conditional, WholeNumberFamily) or not has_numba():
        return None
    x, spread = values[conditional.child.name], weights.reshape(len(weights), -1)
    plain = x.dtype == torch.float64 and x.layout is torch.strided and x.is_contiguous()
    if not plain or x.device.type != "cpu" or x.numel() < _MANY:
        return None
    used = spread != 0
    if bool((used.sum(dim=1) > 1).any()):
        return None
    labels, each = used.to(torch.uint8).argmax(dim=1).numpy(), spread.sum(dim=1).double().numpy()
    rows = x.reshape(len(x), -1).numpy()
    table = log_factorials(torch.arange(FACTORIALS, dtype=torch.float64)).numpy()
    totals = np.zeros((spread.shape[1], rows.shape[1]))
    row_sums, row_logs = np.empty(len(rows)), np.empty(len(rows))
    from pgnn.inference.learning.kernels.whole_numbers import add_rows

    step = max(_NUMBERS // rows.shape[1], 1)
    for k in range(0, len(rows), step):
        part = slice(k, k + step)
        if add_rows(rows[part], labels[part], each[part], table, totals, row_sums[part],
                    row_logs[part]):  # fmt: skip
            return None
    sums = RowSums(*(torch.from_numpy(s) for s in (totals, each, row_sums, row_logs)))
    return conditional.of_row_sums(sums)
