"""Linear regressions with normal noise, for exact integration over real variables."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class Regression(NamedTuple):
    r"""Parameters of a normal conditional with a mean linear in its real parents.

    .. math:: p(y \mid j, x) = N(y; W_j x + b_j, L_j L_j^\top)

    The first axes are the states of the discrete parents in their order; an axis has length 1 if
    nothing depends on that parent. Values are flattened to ``D`` elements of the child and ``F`` of
    the concatenated real parents, in order.

    Attributes:
        weight: ``(K1, ..., Kn, D, F)`` coefficients :math:`W`.
        bias: ``(K1, ..., Kn, D)`` intercepts :math:`b`.
        scale: ``(K1, ..., Kn, D, D)`` lower triangular factors of the covariances.
    """

    weight: Tensor
    bias: Tensor
    scale: Tensor
