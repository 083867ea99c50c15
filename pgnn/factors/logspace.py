"""Arithmetic on logs whose gradients stay finite where a probability is exactly zero or one."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor


def logsumexp(log_values: Tensor, axes: Sequence[int], keepdim: bool = False) -> Tensor:
    r"""Return :math:`\log \sum \exp` over some axes.

    Unlike torch's, its gradient is zero instead of ``NaN`` where a slice is entirely ``-inf``.

    Args:
        log_values: Logs; ``-inf`` is legal.
        axes: Axes to sum out.
        keepdim: Whether they are kept with size one.
    """
    axes = list(axes)
    top = log_values.detach().amax(dim=axes, keepdim=True)
    top = top.masked_fill(top.isinf(), 0.0)
    total = (log_values - top).exp().sum(dim=axes, keepdim=True)
    out = _log(total, total == 0) + top
    return out if keepdim else out.squeeze(axes)


def log1mexp(x: Tensor) -> Tensor:
    r"""Return :math:`\log(1 - e^x)` for :math:`x \le 0` to full relative precision.

    Zero gives ``-inf`` with gradient zero.

    References:
        Mächler (2012), Accurately computing log(1 - exp(-|a|)), equation (7).
    """
    # Each branch gets a finite input where the other one is taken: `where` alone would
    # multiply an infinite derivative by zero.
    near = x > -math.log(2.0)
    zero = x == 0
    small = torch.log(-torch.expm1(x.masked_fill(~near | zero, -1.0)))
    large = torch.log1p(-torch.exp(x.masked_fill(near, -1.0)))
    return torch.where(near, small, large).masked_fill(zero, -math.inf)


def logdiffexp(a: Tensor, b: Tensor) -> Tensor:
    r"""Return :math:`\log(e^a - e^b)` for :math:`b \le a`; ``-inf`` where they are equal."""
    zero = a.isneginf() | (b >= a)
    gap = (b - a).masked_fill(zero, -1.0)
    return (a.masked_fill(zero, 0.0) + log1mexp(gap)).masked_fill(zero, -math.inf)


def log_cdf(log_probs: Tensor) -> Tensor:
    r"""Return :math:`\log P(Y \le y)` for ``y = 0 .. K-2`` from log probabilities ``(..., K)``.

    The last value, ``log 1``, is left out. Where the tail is smaller the result is computed
    from it, so that tails far below the rounding of 1 are exact.
    """
    probs = log_probs.exp()
    below = probs.cumsum(-1)[..., :-1]
    above = probs.flip(-1).cumsum(-1).flip(-1)[..., 1:]
    near = above < 0.5
    from_tail = torch.log1p(-above.masked_fill(~near, 0.0))
    return torch.where(near, from_tail, _log(below, (below == 0) | near))


def log_where(x: Tensor, mask: Tensor) -> Tensor:
    """Return the logarithm under a mask; ``-inf`` with gradient zero elsewhere."""
    return _log(x, ~mask)


def _log(x: Tensor, hidden: Tensor) -> Tensor:
    """Logarithm, ``-inf`` with gradient zero where hidden."""
    return x.masked_fill(hidden, 1.0).log().masked_fill(hidden, -math.inf)
