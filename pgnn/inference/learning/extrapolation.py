"""Acceleration of fixed-point iterations by extrapolation, with safeguards."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from pgnn.errors import ChecksArguments

Point = list[Tensor]
"""All parameters at one place."""


class Unit(NamedTuple):
    """In what the entries of a parameter are measured.

    Attributes:
        origin: Their zero.
        size: Their unit.
    """

    origin: Tensor | float = 0.0
    size: Tensor | float = 1.0


class Extrapolation(metaclass=ChecksArguments):
    r"""Extrapolation of a fixed-point map :math:`\theta \mapsto M(\theta)`.

    The caller reports whether the value increased at the extrapolated parameters; if not, those of
    the map are restored, so that the value never decreases. Entries that are not finite, such as
    logits of impossible states, are not extrapolated.

    Args:
        parameters: The parameters that the map changes in place.
        units: The unit of each; its own norm if not given.

    Attributes:
        pending: Whether the parameters are extrapolated and their value is still unknown.
        unproven: Whether no step has yet been taken from accepted extrapolated parameters.
        length: Length of the last extrapolation in steps of the map, initially 1.
    """

    steps: int
    """Number of steps of the map before an extrapolation."""
    growth: float
    """Growth factor of the largest step length after a successful extrapolation."""

    def __init__(self, parameters: Iterable[Tensor], units: Iterable[Unit] | None = None) -> None:
        self._parameters = [*parameters]
        self._units = [Unit() for _ in self._parameters] if units is None else [*units]
        self._points: list[Point] = []
        self._last: Point | None = None
        self.pending = self.unproven = False
        self._longest = self.growth
        self.length = 1.0

    @abstractmethod
    def extrapolated(self, points: Sequence[Point]) -> Point | None:
        """Return the extrapolation of successive points; None if it equals the last one.

        Sets :attr:`length`.
        """

    @abstractmethod
    def shortened(self, longest: float) -> float:
        """Return the longest step that is allowed after a rejection."""

    def reject(self) -> None:
        """Restore the parameters before the last extrapolation; further steps are shorter."""
        if self._last is not None:
            self._assign(self._last)
        self._longest = self.shortened(self._longest)
        self._last, self.pending, self.unproven = None, False, False
        self._points = [self._now()]

    def accept(self) -> None:
        """Accept the extrapolated parameters; longer steps are allowed if this was the longest.

        If the next step of the map decreases the value, they are still rejected.
        """
        if self.length >= self._longest:
            self._longest *= self.growth
        self.pending, self.unproven = False, True

    def prove(self) -> None:
        """Record that a step from accepted parameters increased the value."""
        self._last, self.unproven = None, False

    def snapshot(self) -> dict[str, Any]:
        """Return the state of the extrapolation, without the parameters."""
        return {
            "points": self._points,
            "last": self._last,
            "flags": (self.pending, self.unproven),
            "lengths": (self._longest, self.length),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Restore the result of :meth:`snapshot`."""
        self._points, self._last = state["points"], state["last"]
        self.pending, self.unproven = state["flags"]
        self._longest, self.length = state["lengths"]

    def before_step(self) -> None:
        """Record the parameters before a step."""
        if not self._points:
            self._points = [self._now()]

    def after_step(self) -> None:
        """Record the parameters after a step; after the last of :attr:`steps`, extrapolate."""
        self._points.append(self._now())
        if len(self._points) <= self.steps:
            return
        points, self._points = self._points, []
        moved = self.extrapolated(points)
        if moved is not None:
            self._last, self.pending = points[-1], True
            self._assign([torch.where(c.isfinite() & m.isfinite(), m, c) for m, c in
                          zip(moved, points[-1], strict=True)])  # fmt: skip

    def _now(self) -> Point:
        return [p.detach().clone() for p in self._parameters]

    @torch.no_grad()
    def _assign(self, values: Point) -> None:
        for p, x in zip(self._parameters, values, strict=True):
            p.copy_(x)


class Squarem(Extrapolation):
    r"""SQUAREM: extrapolation after every two steps.

    .. math:: \theta' = \theta_0 - 2 \alpha r + \alpha^2 v, \qquad r = \theta_1 - \theta_0, \quad
        v = \theta_2 - 2 \theta_1 + \theta_0, \quad \alpha = -\|r\| / \|v\|

    Norms are relative to the norm of each parameter in its unit, and therefore independent of the
    units of the data. The length of a step is :math:`-\alpha`, about :math:`1 / (1 - \lambda)` if
    the map converges at the rate :math:`\lambda`.

    References:
        Varadhan and Roland (2008), Simple and globally convergent methods for accelerating the
        convergence of any EM algorithm, sections 3 and 7.
    """

    steps, growth = 2, 4.0

    def shortened(self, longest: float) -> float:
        """Return the extrapolation with a quarter of the step length."""
        return max(1.0, longest / self.growth)

    def extrapolated(self, points: Sequence[Point]) -> Point | None:
        """See the base class."""
        first, second, third = points
        r = [difference(b, a) for a, b in zip(first, second, strict=True)]
        v = [difference(c, b) - x for b, c, x in zip(second, third, r, strict=True)]
        third = [(c - u.origin) / u.size for c, u in zip(third, self._units, strict=True)]
        scales = [float(c.nan_to_num(0.0, 0.0, 0.0).double().pow(2).mean() ** 0.5) for c in third]
        size, curvature = (
            _norm([x / u.size for x, u in zip(parts, self._units, strict=True)], scales)
            for parts in (r, v)
        )
        if not curvature > 0.0:
            return None
        self.length = max(size / curvature, 1.0)
        if min(self.length, self._longest) <= 1.0:  # equals the third point
            self._longest = max(self._longest, self.growth)
            return None
        self.length = min(self.length, self._longest)
        a = self.length
        return [x + (2.0 * a * dx + a**2 * dv).to(x) for x, dx, dv in
                zip(first, r, v, strict=True)]  # fmt: skip


class OverRelaxation(Extrapolation):
    r"""Over-relaxation: every step is scaled by a factor that grows while the value increases.

    .. math:: \theta' = \theta + \eta \, (M(\theta) - \theta)

    :math:`\eta` grows by a tenth after every gain, and is 1 again after a loss.

    References:
        Salakhutdinov and Roweis (2003), Adaptive overrelaxed bound optimization methods, section 3.
    """

    steps, growth = 1, 1.1

    def shortened(self, longest: float) -> float:
        """Return 1: the next step is that of the map."""
        return 1.0

    def extrapolated(self, points: Sequence[Point]) -> Point | None:
        """See the base class."""
        self.length = self._longest
        if self.length <= 1.0:
            self._longest = self.growth
            return None
        return [x + (self.length * difference(m, x)).to(x) for x, m in zip(*points, strict=True)]


def difference(new: Tensor, old: Tensor) -> Tensor:
    """Return the difference in float64; zero if either is not finite."""
    both = new.isfinite() & old.isfinite()
    return torch.where(both, new.double() - old.double(), 0.0)


def _norm(parts: list[Tensor], scales: list[float]) -> float:
    """Return the norm over all parameters, each relative to its own norm."""
    pairs = zip(parts, scales, strict=True)
    return float(sum(float((x / (s or 1.0)).pow(2).sum()) for x, s in pairs) ** 0.5)
