"""A loss for line searches, which measures steps in units and rejects invalid parameters."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

from pgnn.errors import PgnnError


class LineSearchLoss:
    r"""A loss as a function of steps :math:`z`, with parameters :math:`\theta_0 + u z`.

    L-BFGS begins with steps of size one and stops after steps below absolute limits; both suit
    parameters of size one. Steps to parameters that are invalid, as a scale that rounds to zero,
    have a large loss without a slope, so that a line search makes them shorter.

    Args:
        loss: Function that returns the scalar loss.
        parameters: Its parameters :math:`\theta`.
        units: Units :math:`u` of some of them; others are their own variables.

    Attributes:
        variables: The variables of the optimiser.
    """

    def __init__(
        self,
        loss: Callable[[], Tensor],
        parameters: Sequence[Tensor],
        units: Mapping[Tensor, Tensor],
    ) -> None:
        self._loss, self._parameters = loss, parameters
        self._scaled = [
            (p, p.detach().clone(), units[p].to(p), nn.Parameter(torch.zeros_like(p)))
            for p in parameters
            if p in units
        ]
        own = {p: z for p, _, _, z in self._scaled}
        self.variables = [own.get(p, p) for p in parameters]
        self._rejected = math.inf

    def begin(self) -> float:
        """Evaluate the loss at the parameters, with gradients; return its value."""
        value = float(self._evaluate().detach())
        self._rejected = 1e3 * (1.0 + abs(value))
        return value

    def __call__(self) -> Tensor:
        """Return the loss at the variables, and set their gradients."""
        self._move()
        try:
            value = self._evaluate()
        except (ValueError, PgnnError):  # invalid parameters of a distribution
            return self._reject()
        gradients = [z.grad for z in self.variables if z.grad is not None]
        good = all(bool(x.isfinite().all()) for x in (value, *gradients))
        return value if good else self._reject()

    @property
    def steepest(self) -> float:
        """Largest partial derivative in the variables."""
        gradients = [z.grad for z in self.variables if z.grad is not None]
        return max(float(x.abs().max()) for x in gradients)

    def end(self) -> float:
        """Set the parameters; return the loss there, NaN if they are invalid."""
        self._move()
        try:
            with torch.no_grad():
                return float(self._loss())
        except (ValueError, PgnnError):
            return math.nan

    @torch.no_grad()
    def _move(self) -> None:
        for p, start, unit, z in self._scaled:
            p.copy_(start + unit * z)

    def _evaluate(self) -> Tensor:
        for p in self._parameters:
            p.grad = None
        value = self._loss()
        value.backward()  # type: ignore[no-untyped-call]
        for p, _, unit, z in self._scaled:
            z.grad = None if p.grad is None else p.grad * unit
        return value

    def _reject(self) -> Tensor:
        for z in self.variables:
            z.grad = torch.zeros_like(z)
        return torch.tensor(self._rejected, dtype=torch.float64)
