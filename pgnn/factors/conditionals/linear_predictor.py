"""Linear predictors of softmax conditionals."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class LinearPredictor(NamedTuple):
    r"""A child's log weights as a sum over its discrete parents.

    .. math:: p(y = c \mid x) = \mathrm{softmax}(\eta)_c, \qquad \eta_c = b_c + \sum_i h_i(x_i)_c

    Attributes:
        offset: ``(1, C)`` or ``(B, C)`` values of :math:`b`.
        terms: ``(n, K, C)`` values of :math:`h_i` of each parent not included in the offset,
            zero-padded to ``K`` states.
    """

    offset: Tensor
    terms: Tensor
