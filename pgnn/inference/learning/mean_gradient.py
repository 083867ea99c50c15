"""The gradient of a pass over minibatches, for its record."""

from __future__ import annotations

import torch
from torch import Tensor


class MeanGradient:
    """The weighted mean of the gradients of some batches of a pass.

    Args:
        parameters: Whose gradients.
        stride: One in so many batches enters the mean.
    """

    def __init__(self, parameters: list[Tensor], stride: int = 1) -> None:
        self._parameters, self._stride = parameters, stride
        self._sums = [torch.zeros_like(p) for p in parameters]
        self._batches, self._mass = 0, 0.0

    def add(self, weight: float) -> None:
        """Add the gradients that the parameters have now."""
        self._batches += 1
        if self._mass and (self._batches - 1) % self._stride:
            return
        self._mass += weight
        pairs = zip(self._sums, self._parameters, strict=True)
        known = [(s, p.grad) for s, p in pairs if p.grad is not None]
        if known:
            with torch.no_grad():
                torch._foreach_add_(*map(list, zip(*known, strict=True)), alpha=weight)

    def is_finite(self) -> bool:
        """Whether the mean is finite, and so are the gradients that the parameters have now."""
        last = [p.grad for p in self._parameters if p.grad is not None]
        return all(bool(x.isfinite().all()) for x in (*self._sums, *last))

    def largest(self) -> float:
        """Return the largest absolute partial derivative of the mean."""
        return max(float((s / self._mass).abs().max()) for s in self._sums if s.numel())
