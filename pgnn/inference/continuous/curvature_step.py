"""Occasional L-BFGS steps towards optima that steps of fixed length would not reach."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

_STRAIGHT = 0.95
"""A parameter drifts if its displacement is this share of the distance it has travelled."""
_MAX_SIZE = 10**5
"""Largest number of parameters that are monitored."""
_MAX_ITERATIONS = 100


class CurvatureStep:
    """Detects parameters that drift in one direction and moves them by L-BFGS.

    Optimisers such as Adam move every parameter by about the learning rate at each step, whatever
    the gradient; an optimum at 100,000 is ten million steps of 0.01 away. L-BFGS, which estimates
    the curvature, needs a few evaluations. It requires a deterministic objective, the mean over a
    fixed set of draws.

    Args:
        parameters: The optimised parameters.
    """

    def __init__(self, parameters: Sequence[Tensor]) -> None:
        small = sum(p.numel() for p in parameters) <= _MAX_SIZE
        self._parameters = list(parameters) if small else []
        self.reset()

    def reset(self) -> None:
        """Restart the measurement of displacement and distance at the current parameters."""
        self._first = self._last = self._flattened()
        self._distance = torch.zeros_like(self._first)

    def record_step(self) -> None:
        """Add the last step of the optimiser to the distance travelled."""
        current = self._flattened()
        self._distance += (current - self._last).abs()
        self._last = current

    @property
    def is_drifting(self) -> bool:
        """Return whether some parameter has moved in one direction since the last reset."""
        displacement = (self._last - self._first).abs()
        drifts = (displacement > _STRAIGHT * self._distance) & (self._distance > 0)
        return bool(drifts.any())

    def take(self, objective: Callable[[], Tensor], held_out_value: Callable[[], float]) -> bool:
        """Maximise the objective; restore the parameters unless the held-out value has increased.

        Args:
            objective: Differentiable deterministic objective at the current parameters.
            held_out_value: Objective at the current parameters, estimated by independent draws.

        Returns:
            Whether the parameters were moved.
        """
        before = [p.detach().clone() for p in self._parameters]
        old = held_out_value()
        optimizer = torch.optim.LBFGS(
            self._parameters,
            max_iter=_MAX_ITERATIONS,
            history_size=10,
            line_search_fn="strong_wolfe",
        )

        def closure() -> Tensor:
            optimizer.zero_grad(set_to_none=True)
            with torch.enable_grad():
                loss = -objective()
                loss.backward()  # type: ignore[no-untyped-call]
            return loss.detach()

        try:
            optimizer.step(closure)  # type: ignore[no-untyped-call]
            improved = held_out_value() > old
        except (ValueError, ArithmeticError, LookupError, RuntimeError):  # outside the domain
            improved = False
        if not improved:
            with torch.no_grad():
                for p, x in zip(self._parameters, before, strict=True):
                    p.copy_(x)
        optimizer.zero_grad(set_to_none=True)
        return improved

    def _flattened(self) -> Tensor:
        if not self._parameters:
            return torch.zeros(0)
        return torch.cat([p.detach().reshape(-1).double() for p in self._parameters])
