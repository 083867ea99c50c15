"""Radial kernels of density estimates in any dimension."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from pgnn.factors.piece import Restorable

_GRID = 4097
"""Points at which a distribution of radii is tabulated."""


@dataclass(frozen=True)
class SmoothingKernel(Restorable, ABC):
    r"""A radial kernel :math:`k(\|u\|)` that integrates to one in every dimension."""

    @abstractmethod
    def log_value(self, square: Tensor) -> Tensor:
        """Return log values of the unnormalised kernel at squared radii."""

    @abstractmethod
    def log_integral(self, size: int) -> float:
        """Return the log integral of the unnormalised kernel in a given dimension."""

    @abstractmethod
    def radii(self, number: int, size: int, generator: torch.Generator | None) -> Tensor:
        """Draw radii ``(number,)`` in a given dimension."""

    def draw(self, number: int, size: int, generator: torch.Generator | None = None) -> Tensor:
        """Draw ``(number, size)`` points."""
        way = torch.randn(number, size, dtype=torch.float64, generator=generator)
        way = way / way.square().sum(dim=1, keepdim=True).sqrt().clamp_min(1e-300)
        drawn: Tensor = way * self.radii(number, size, generator).unsqueeze(1)
        return drawn


def log_ball(size: int) -> float:
    """Return the log of the volume of the unit ball."""
    return 0.5 * size * math.log(math.pi) - math.lgamma(0.5 * size + 1.0)


def _beta(a: float, b: float, number: int, generator: torch.Generator | None) -> Tensor:
    """Return draws of a beta distribution, computed from gamma draws."""
    x, y = (_gamma(c, number, generator) for c in (a, b))
    return x / (x + y)


def _gamma(shape: float, number: int, generator: torch.Generator | None) -> Tensor:
    return torch._standard_gamma(torch.full((number,), shape, dtype=torch.float64), generator)


@dataclass(frozen=True)
class GaussianKernel(SmoothingKernel):
    r"""The normal density, :math:`e^{-u^2/2}`."""

    def log_value(self, square: Tensor) -> Tensor:
        """Minus half the square."""
        return -0.5 * square

    def log_integral(self, size: int) -> float:
        """Of the normal density."""
        return 0.5 * size * math.log(2.0 * math.pi)

    def radii(self, number: int, size: int, generator: torch.Generator | None) -> Tensor:
        """Roots of gamma numbers."""
        return (2.0 * _gamma(0.5 * size, number, generator)).sqrt()


@dataclass(frozen=True)
class TophatKernel(SmoothingKernel):
    r"""Uniform on the unit ball."""

    def log_value(self, square: Tensor) -> Tensor:
        """Zero inside."""
        return torch.where(square <= 1.0, 0.0, -math.inf).to(square)

    def log_integral(self, size: int) -> float:
        """The ball's volume."""
        return log_ball(size)

    def radii(self, number: int, size: int, generator: torch.Generator | None) -> Tensor:
        """Roots of uniform numbers."""
        return torch.rand(number, dtype=torch.float64, generator=generator) ** (1.0 / size)


@dataclass(frozen=True)
class EpanechnikovKernel(SmoothingKernel):
    r"""The parabola :math:`1 - u^2` on the unit ball, with minimal mean squared error."""

    def log_value(self, square: Tensor) -> Tensor:
        """Log of the parabola."""
        return (1.0 - square).clamp_min(0.0).log()

    def log_integral(self, size: int) -> float:
        """Of the parabola."""
        return log_ball(size) + math.log(2.0 / (size + 2.0))

    def radii(self, number: int, size: int, generator: torch.Generator | None) -> Tensor:
        """Roots of beta numbers."""
        return _beta(0.5 * size, 2.0, number, generator).sqrt()


@dataclass(frozen=True)
class ExponentialKernel(SmoothingKernel):
    r"""The exponential :math:`e^{-u}`."""

    def log_value(self, square: Tensor) -> Tensor:
        """Minus the radius."""
        return -square.clamp_min(0.0).sqrt()

    def log_integral(self, size: int) -> float:
        """Over all radii."""
        return log_ball(size) + math.log(size) + math.lgamma(size)

    def radii(self, number: int, size: int, generator: torch.Generator | None) -> Tensor:
        """Gamma numbers."""
        return _gamma(float(size), number, generator)


@dataclass(frozen=True)
class LinearKernel(SmoothingKernel):
    r"""The cone :math:`1 - u` on the unit ball."""

    def log_value(self, square: Tensor) -> Tensor:
        """Log of the cone."""
        return (1.0 - square.clamp_min(0.0).sqrt()).clamp_min(0.0).log()

    def log_integral(self, size: int) -> float:
        """Of the cone."""
        return log_ball(size) - math.log(size + 1.0)

    def radii(self, number: int, size: int, generator: torch.Generator | None) -> Tensor:
        """Beta numbers."""
        return _beta(float(size), 2.0, number, generator)


@dataclass(frozen=True)
class CosineKernel(SmoothingKernel):
    r"""The cosine :math:`\cos(\pi u / 2)` on the unit ball."""

    def log_value(self, square: Tensor) -> Tensor:
        """Log of the cosine."""
        radius = square.clamp_min(0.0).sqrt()
        inside = torch.cos(0.5 * math.pi * radius.clamp_max(1.0)).clamp_min(0.0)
        return torch.where(radius < 1.0, inside, torch.zeros_like(inside)).log()

    def log_integral(self, size: int) -> float:
        r"""By the recursion of :math:`\int r^{D-1} \cos(\pi r / 2) dr`."""
        half = 0.5 * math.pi
        known = [1.0 / half, 1.0 / half - 1.0 / half**2]  # of r^0, of r^1
        for power in range(2, size):
            known.append(1.0 / half - power * (power - 1) * known[power - 2] / half**2)
        return log_ball(size) + math.log(size) + math.log(known[size - 1])

    def radii(self, number: int, size: int, generator: torch.Generator | None) -> Tensor:
        """By the table of their distribution."""
        grid = torch.linspace(0.0, 1.0, _GRID, dtype=torch.float64)
        height = grid ** (size - 1) * torch.cos(0.5 * math.pi * grid)
        below = torch.cat([grid[:1], torch.cumulative_trapezoid(height, grid)])
        wanted = torch.rand(number, dtype=torch.float64, generator=generator) * below[-1]
        place = torch.searchsorted(below, wanted).clamp(1, _GRID - 1)
        low, high = below[place - 1], below[place]
        part = ((wanted - low) / (high - low).clamp_min(1e-300)).clamp(0.0, 1.0)
        return grid[place - 1] + part * (grid[place] - grid[place - 1])
