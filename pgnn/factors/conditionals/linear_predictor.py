"""The sums on which a softmax depends."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class LinearPredictor(NamedTuple):
    r"""A child's log weights as a sum over its discrete parents.

    .. math:: p(y = c \mid x) = \mathrm{softmax}(\eta)_c, \qquad \eta_c = b_c + \sum_i h_i(x_i)_c

    Attributes:
        offset: ``(1, C)`` or ``(B, C)`` values of :math:`b`.
        terms: ``(n, K, C)`` values of :math:`h_i` of each parent that was not put in the offset;
            zeros where it has fewer than ``K`` states.
    """

    offset: Tensor
    terms: Tensor
