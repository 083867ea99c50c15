"""The generalised Pareto distribution in double precision."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution, GeneralizedPareto

_NEAR = 1e-8
"""Size of concentrations below which the density is expanded around an exponential one."""


class DoubleGeneralizedPareto(GeneralizedPareto):
    r"""A generalised Pareto distribution whose density is computed in the dtype of its numbers.

    .. math:: p(x) = \frac{1}{\sigma} (1 + \xi z)^{-1/\xi - 1}, \quad z = (x - \mu) / \sigma

    That of torch 2.13 compares float64 concentrations with float32 ones, which raises an error.

    Example:
        >>> one = torch.ones(1, dtype=torch.float64)
        >>> DoubleGeneralizedPareto(0.0 * one, one, one).log_prob(one).exp()
        tensor([0.2500], dtype=torch.float64)
    """

    def log_prob(self, value: Tensor) -> Tensor:
        """Return log densities of values inside of the support."""
        own: Any = self
        z = (value - own.loc) / own.scale
        near = own.concentration.abs() < _NEAR
        shape = torch.where(near, torch.ones_like(own.concentration), own.concentration)
        linear = z + own.concentration * (z - z.square() / 2)  # with the derivative at zero
        falls = torch.where(near, linear, (1.0 / shape + 1.0) * torch.log1p(shape * z))
        log_probs: Tensor = -own.scale.log() - falls
        return log_probs


def in_double_precision(make: Callable[..., Distribution]) -> Callable[..., Distribution]:
    """Return what makes a distribution, with torch's generalised Pareto replaced."""
    if make is GeneralizedPareto:
        return DoubleGeneralizedPareto
    if isinstance(make, partial) and make.func is GeneralizedPareto:
        return partial(DoubleGeneralizedPareto, *make.args, **make.keywords)
    return make
