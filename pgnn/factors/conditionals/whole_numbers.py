"""Conditionals of integers, whose statistics learners may compute by special kernels."""

from __future__ import annotations

from abc import abstractmethod
from typing import NamedTuple

from torch import Tensor

from pgnn.factors.conditionals.exponential_family import ExponentialFamily, Statistics


class RowSums(NamedTuple):
    """Sums over fully observed rows of integers.

    Attributes:
        totals: ``(K, D)`` weighted sums of the rows by configuration of the parents.
        weights: ``(N,)`` weight of each row.
        row_sums: ``(N,)`` sum of the values of each row.
        row_logs: ``(N,)`` sum of their log factorials.
    """

    totals: Tensor
    weights: Tensor
    row_sums: Tensor
    row_logs: Tensor


class WholeNumberFamily(ExponentialFamily):
    """A conditional whose statistics are functions of sums of rows and of their factorials."""

    @abstractmethod
    def of_row_sums(self, sums: RowSums) -> Statistics:
        """Return the statistics, last the parameter-free part of the log-likelihood."""
