"""Acceleration of fixed-point iterations by extrapolation: SQUAREM."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

_LONGEST, _GROWTH = 4.0, 4.0
"""Step length that is allowed at first, and by what factor it grows where that was a gain."""


class Squarem:
    r"""Extrapolates after every two steps of a map :math:`\theta \mapsto M(\theta)`.

    .. math:: \theta' = \theta_0 - 2 \alpha r + \alpha^2 v, \qquad r = \theta_1 - \theta_0, \quad
        v = \theta_2 - 2 \theta_1 + \theta_0, \quad \alpha = -\|r\| / \|v\|

    Whoever runs the iteration tells whether the value rose at :math:`\theta'`; if it did not,
    :math:`\theta_2` is put back, so that the value never falls. Numbers that are not finite, such
    as logits of what is impossible, are not extrapolated. Norms are of parameters in units of their
    own sizes, so that the units of the data do not matter.

    Args:
        parameters: What the map changes in place.

    Attributes:
        pending: Whether the parameters are extrapolated ones, whose value nobody knows yet.
        unproven: Whether no step has been observed yet from extrapolated ones that were accepted.
        length: :math:`-\alpha` of the last extrapolation, about :math:`1 / (1 - \lambda)` where
            the map converges at the rate :math:`\lambda`; 1 before.

    References:
        Varadhan and Roland (2008), Simple and globally convergent methods for accelerating the
        convergence of any EM algorithm, sections 3 and 7.
    """

    def __init__(self, parameters: Iterable[Tensor]) -> None:
        self._parameters = [*parameters]
        self._points: list[list[Tensor]] = []
        self._last: list[Tensor] | None = None
        self.pending = self.unproven = False
        self._longest = _LONGEST
        self.length = 1.0

    def reject(self) -> None:
        """Put back what was extrapolated from last; further steps are shorter."""
        if self._last is not None:
            self._assign(self._last)
        self._longest = max(1.0, self._longest / _GROWTH)
        self._last, self.pending, self.unproven = None, False, False
        self._points = [self._now()]

    def accept(self) -> None:
        """Go on from the extrapolated parameters; longer steps are allowed if this was one.

        They may be out of reach of the map, where its next step loses: then they are rejected
        after all.
        """
        if self.length >= self._longest:
            self._longest *= _GROWTH
        self.pending, self.unproven = False, True

    def prove(self) -> None:
        """Note that a step from accepted parameters was a gain: they stay."""
        self._last, self.unproven = None, False

    def snapshot(self) -> dict[str, Any]:
        """Return all that further steps depend on besides the parameters."""
        return {
            "points": self._points,
            "last": self._last,
            "flags": (self.pending, self.unproven),
            "lengths": (self._longest, self.length),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take up what :meth:`snapshot` returned."""
        self._points, self._last = state["points"], state["last"]
        self.pending, self.unproven = state["flags"]
        self._longest, self.length = state["lengths"]

    def before_step(self) -> None:
        """Note where a step begins, if none has been noted yet."""
        if not self._points:
            self._points = [self._now()]

    def after_step(self) -> None:
        """Note where it led; after the second step, extrapolate."""
        self._points.append(self._now())
        if len(self._points) < 3:
            return
        first, second, third = self._points
        self._points = []
        moved = self._extrapolated(first, second, third)
        if moved is not None:
            self._last, self.pending = third, True
            self._assign(moved)

    def _extrapolated(
        self, first: list[Tensor], second: list[Tensor], third: list[Tensor]
    ) -> list[Tensor] | None:
        """The extrapolated parameters; None where the third point is as good."""
        r = [_difference(b, a) for a, b in zip(first, second, strict=True)]
        v = [_difference(c, b) - x for b, c, x in zip(second, third, r, strict=True)]
        scales = [float(c.nan_to_num(0.0, 0.0, 0.0).double().pow(2).mean() ** 0.5) for c in third]
        size, curvature = _norm(r, scales), _norm(v, scales)
        if not curvature > 0.0:
            return None
        self.length = max(size / curvature, 1.0)
        if min(self.length, self._longest) <= 1.0:  # that is the third point
            self._longest = max(self._longest, _LONGEST)
            return None
        self.length = min(self.length, self._longest)
        a = self.length
        moved = [x + (2.0 * a * dx + a**2 * dv).to(x) for x, dx, dv in
                 zip(first, r, v, strict=True)]  # fmt: skip
        return [torch.where(c.isfinite() & m.isfinite(), m, c) for m, c in
                zip(moved, third, strict=True)]  # fmt: skip

    def _now(self) -> list[Tensor]:
        return [p.detach().clone() for p in self._parameters]

    @torch.no_grad()
    def _assign(self, values: list[Tensor]) -> None:
        for p, x in zip(self._parameters, values, strict=True):
            p.copy_(x)


def _difference(new: Tensor, old: Tensor) -> Tensor:
    """In float64; zero where either is not finite."""
    both = new.isfinite() & old.isfinite()
    return torch.where(both, new.double() - old.double(), 0.0)


def _norm(parts: list[Tensor], scales: list[float]) -> float:
    """Length of all parts, each in units of its own."""
    pairs = zip(parts, scales, strict=True)
    return float(sum(float((x / (s or 1.0)).pow(2).sum()) for x, s in pairs) ** 0.5)
