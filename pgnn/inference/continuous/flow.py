"""Normalising flows as guides: compositions of invertible maps."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pgnn.inference.continuous.guides import Approximation, At, Guide, diagonal_log_prob
from pgnn.limits import POSITIVE, check_settings, check_size

_BOUND = 3.0
"""Largest absolute log scale of a layer."""


@dataclass(frozen=True)
class Flow(Guide):
    r"""A normal distribution transformed by affine coupling layers.

    .. math:: y_A = x_A, \quad y_B = x_B \odot e^{s(x_A)} + t(x_A), \quad
        z = \sinh\big((\operatorname{arsinh} y + a) b\big)

    The sinh-arcsinh step gives each coordinate its own skewness and tails, even if there is only
    one.

    Args:
        layers: Number of layers; they transform the two halves of the coordinates alternately.
        hidden: Number of hidden units of the network of each layer.
        scale: Initial standard deviations of the unconstrained coordinates.

    References:
        Dinh, Sohl-Dickstein and Bengio (2017), Density estimation using Real NVP, section 3.
        Jones and Pewsey (2009), Sinh-arcsinh distributions.

    Example:
        >>> q = Flow(layers=2).start(rows=1, size=2)
        >>> at = At(torch.zeros(1, dtype=torch.long), torch.zeros(1, 0))
        >>> q.draw(torch.zeros(5, 1, 2, dtype=torch.float64), at).shape
        torch.Size([5, 1, 2])
    """

    layers: int = 4
    hidden: int = 16
    scale: float = 0.1

    def __post_init__(self) -> None:
        check_settings(self, layers=1, hidden=1, scale=POSITIVE)

    def start(self, rows: int, size: int) -> Approximation:
        """See :class:`Guide`."""
        numbers = self.layers * rows * (3 * self.hidden + 8) * max(size, 1)
        check_size(f"{self.layers:,} layers of {self.hidden:,} units", numbers,
                   advice="Use fewer layers or units")  # fmt: skip
        return _Flow(rows, size, self)


class _Flow(Approximation):
    def __init__(self, rows: int, size: int, settings: Flow) -> None:
        super().__init__()
        self.noise_size = size
        self.loc = nn.Parameter(torch.zeros(rows, size, dtype=torch.float64))
        self.log_scale = nn.Parameter(torch.full_like(self.loc, math.log(settings.scale)))
        half = torch.arange(size) % 2
        masks = [(half == k % 2).double() for k in range(settings.layers)]
        self.layers = nn.ModuleList([_Layer(rows, m, settings.hidden) for m in masks])

    def draw(self, noise: Tensor, at: At) -> Tensor:
        z = noise
        for layer in self.layers:
            assert isinstance(layer, _Layer)
            z = layer.bend(z, at.rows)
        return self.loc[at.rows] + self.log_scale[at.rows].exp() * z

    def forward(self, z: Tensor, at: At) -> Tensor:
        log_scale = self.log_scale[at.rows]
        x = (z - self.loc[at.rows]) * (-log_scale).exp()
        total = -log_scale.sum(-1).expand(z.shape[:2])
        for layer in reversed(self.layers):
            assert isinstance(layer, _Layer)
            x, log_det = layer.straighten(x, at.rows)
            total = total - log_det
        zero = torch.zeros_like(log_scale)
        return total + diagonal_log_prob(x, zero, zero)


class _Layer(nn.Module):
    """An affine coupling followed by a sinh-arcsinh transform."""

    mask: Tensor

    def __init__(self, rows: int, mask: Tensor, hidden: int) -> None:
        super().__init__()
        size = len(mask)
        self.register_buffer("mask", mask)
        weight = torch.randn(rows, hidden, size, dtype=torch.float64) / math.sqrt(size)
        self.into = nn.Parameter(weight)
        self.bias = nn.Parameter(torch.zeros(rows, hidden, dtype=torch.float64))
        # zeros make the layer the identity initially
        self.out = nn.Parameter(torch.zeros(rows, 2 * size, hidden, dtype=torch.float64))
        self.shift = nn.Parameter(torch.zeros(rows, 2 * size, dtype=torch.float64))
        self.skew = nn.Parameter(torch.zeros(rows, size, dtype=torch.float64))
        self.tail = nn.Parameter(torch.zeros(rows, size, dtype=torch.float64))

    def bend(self, x: Tensor, rows: Tensor) -> Tensor:
        """Return the images of points under the layer."""
        s, t = self._coupling(x, rows)
        y = x * s.exp() + t
        return torch.sinh((torch.asinh(y) + self.skew[rows]) * self.tail[rows].exp())

    def straighten(self, z: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Return the inverse images of points, and the log determinants of the layer at these."""
        inner = torch.asinh(z) * (-self.tail[rows]).exp() - self.skew[rows]
        y = torch.sinh(inner)
        stretch = self.tail[rows] + 0.5 * torch.log1p(z.square()) - 0.5 * torch.log1p(y.square())
        s, t = self._coupling(y, rows)
        return (y - t) * (-s).exp(), (stretch + s).sum(-1)

    def _coupling(self, x: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Return log scale and shift of the transformed half; zero for the conditioning half."""
        conditioning = (x * self.mask).unsqueeze(-1)
        hidden = torch.tanh((self.into[rows] @ conditioning).squeeze(-1) + self.bias[rows])
        out = (self.out[rows] @ hidden.unsqueeze(-1)).squeeze(-1) + self.shift[rows]
        s, t = out.chunk(2, dim=-1)
        return _BOUND * torch.tanh(s / _BOUND) * (1 - self.mask), t * (1 - self.mask)
