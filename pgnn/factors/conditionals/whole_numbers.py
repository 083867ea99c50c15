"""Conditionals of whole numbers, whose statistics learners may take by kernels of their own."""

from __future__ import annotations

from abc import abstractmethod
from typing import NamedTuple

from torch import Tensor

from pgnn.factors.conditionals.exponential_family import ExponentialFamily, Statistics


class RowSums(NamedTuple):
    """Sums over rows of whole numbers in which everything was observed.

    Attributes:
        totals: ``(K, D)`` weighted sums of the rows by configuration of the parents.
        weights: ``(N,)`` weight of each row.
        row_sums: ``(N,)`` sums of the numbers of each row.
        row_logs: ``(N,)`` sums of the logs of their factorials.
    """

    totals: Tensor
    weights: Tensor
    row_sums: Tensor
    row_logs: Tensor


class WholeNumberFamily(ExponentialFamily):
    """A conditional whose statistics follow from sums of the rows and from their factorials."""

    @abstractmethod
    def of_row_sums(self, sums: RowSums) -> Statistics:
        """Return the statistics, and last what of the log-likelihood no parameter changes."""
