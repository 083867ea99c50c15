"""Optima that lie farther away than steps of a fixed length ever come."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

_STRAIGHT = 0.95
"""Share of its way that a parameter has come forward: it would go farther if its steps let it."""
_LARGEST = 10**5
"""Numbers of parameters of which this is asked."""
_STEPS = 100


class LongWay:
    """Notes whether parameters have walked straight on, and takes them to where they are going.

    Optimisers such as Adam move every number by about the learning rate at each step, however steep
    the objective is; an optimum at 100,000 is ten million steps of 0.01 away. L-BFGS, whose steps
    know the curvature, is there after a few evaluations. It needs a function without noise: the
    mean over draws that stay the same.

    Args:
        parameters: What moves.
    """

    def __init__(self, parameters: Sequence[Tensor]) -> None:
        small = sum(p.numel() for p in parameters) <= _LARGEST
        self._parameters = list(parameters) if small else []
        self.begin()

    def begin(self) -> None:
        """Look from here on."""
        self._first = self._last = self._flat()
        self._way = torch.zeros_like(self._first)

    def note(self) -> None:
        """Look at where a step has led."""
        now = self._flat()
        self._way += (now - self._last).abs()
        self._last = now

    @property
    def goes_on(self) -> bool:
        """Whether some parameter went straight on since it was begun."""
        come = (self._last - self._first).abs()
        return bool(((come > _STRAIGHT * self._way) & (self._way > 0)).any())

    def walk(self, value: Callable[[], Tensor], worth: Callable[[], float]) -> bool:
        """Go to where a function is greatest; stay, unless that is worth more.

        Args:
            value: The function at the parameters, differentiable and without noise.
            worth: What the parameters are worth, by draws of its own.

        Returns:
            Whether it has gone.
        """
        before = [p.detach().clone() for p in self._parameters]
        old = worth()
        optimizer = torch.optim.LBFGS(
            self._parameters, max_iter=_STEPS, history_size=10, line_search_fn="strong_wolfe"
        )

        def loss() -> Tensor:
            optimizer.zero_grad(set_to_none=True)
            with torch.enable_grad():
                lost = -value()
                lost.backward()  # type: ignore[no-untyped-call]
            return lost.detach()

        try:
            optimizer.step(loss)  # type: ignore[no-untyped-call]
            gone = worth() > old
        except (
            ValueError,
            ArithmeticError,
            LookupError,
            RuntimeError,
        ):  # it left the numbers that there are
            gone = False
        if not gone:
            with torch.no_grad():
                for p, x in zip(self._parameters, before, strict=True):
                    p.copy_(x)
        optimizer.zero_grad(set_to_none=True)
        return gone

    def _flat(self) -> Tensor:
        if not self._parameters:
            return torch.zeros(0)
        return torch.cat([p.detach().reshape(-1).double() for p in self._parameters])
