"""Linear regressions with normal noise: what exact sums over real variables are made of."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class Regression(NamedTuple):
    r"""Numbers of a conditional that is normal, with a mean linear in its real parents.

    .. math:: p(y \mid j, x) = N(y; W_j x + b_j, L_j L_j^\top)

    The first axes are the states of the discrete parents in their order; an axis has length 1
    where nothing depends on that parent. Values are flattened to ``D`` numbers of the child and
    ``F`` of the real parents side by side, in their order.

    Attributes:
        weight: ``(K1, ..., Kn, D, F)``.
        bias: ``(K1, ..., Kn, D)``.
        scale: ``(K1, ..., Kn, D, D)`` lower triangular factors of the covariances.
    """

    weight: Tensor
    bias: Tensor
    scale: Tensor
