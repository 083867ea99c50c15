"""The numbers of a model that may change, and penalties on them."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pgnn.errors import ModelError, closest

Floats = NDArray[np.float64]
Penalty = float | Mapping[Hashable, float]


class Learnable:
    """The learnable parameters of a model, also as one flat vector of their finite entries.

    Entries that are not finite (``-inf`` of a structural zero) stay as they are.

    Args:
        model: Any module.

    Raises:
        ModelError: If nothing is learnable.
    """

    def __init__(self, model: nn.Module) -> None:
        named = [(n, p) for n, p in model.named_parameters() if p.requires_grad]
        if not named:
            raise ModelError(
                "the model has nothing to learn: numbers that were given, or read from a file, are "
                "constants; call model.requires_grad_() to make all of them learnable"
            )
        self.names = [n for n, _ in named]
        self.parameters: list[Tensor] = [p for _, p in named]
        self._free = [torch.isfinite(p.detach()) for p in self.parameters]
        self.sizes = [int(f.sum()) for f in self._free]
        self._model = model
        self._before = {n: t.detach().clone() for n, t in model.state_dict().items()}

    def rates(self, what: str, given: Penalty) -> list[float]:
        """Return the strength of a penalty for each parameter.

        Args:
            what: What messages call it.
            given: One strength for all, or by the name of the parameter; none for the others.

        Raises:
            ModelError: If a name is unknown, or a strength negative or not finite.
        """
        if isinstance(given, Mapping):
            for name in given:
                if name not in self.names:
                    raise ModelError(
                        f"{what} names {name!r}, which is no learnable parameter"
                        f"{closest(name, self.names)}"
                    )
            found = [float(given.get(n, 0.0)) for n in self.names]
        else:
            found = [float(given)] * len(self.names)
        if not all(math.isfinite(r) and r >= 0 for r in found):
            raise ModelError(f"{what} must be finite and not negative, got {given}")
        return found

    def spread(self, rates: list[float]) -> Floats:
        """Return one strength for each entry of the flat vector."""
        return np.repeat(np.array(rates), self.sizes)

    def vector(self) -> Floats:
        """Return the finite entries."""
        return self._flat(self.parameters)

    def gradient(self) -> Floats:
        """Return the derivatives by the finite entries, zero where there is none."""
        return self._flat(
            [torch.zeros_like(p) if p.grad is None else p.grad for p in self.parameters]
        )

    def assign(self, vector: Floats) -> None:
        """Write the finite entries."""
        parts = np.split(vector, np.cumsum(self.sizes)[:-1])
        with torch.no_grad():
            for p, free, part in zip(self.parameters, self._free, parts, strict=True):
                p[free] = torch.from_numpy(part).to(p)

    def clear(self) -> None:
        """Forget the derivatives."""
        for p in self.parameters:
            p.grad = None

    def saved(self) -> dict[str, Any]:
        """Return a copy of all that the model's numbers are, constants and buffers too."""
        return {n: t.detach().clone() for n, t in self._model.state_dict().items()}

    def restore(self, saved: Mapping[str, Any] | None = None) -> None:
        """Write a copy back; that of the beginning if none is given."""
        held = self._before if saved is None else saved
        with torch.no_grad():
            for name, tensor in self._model.state_dict().items():
                tensor.copy_(held[name])

    def _flat(self, tensors: list[Tensor]) -> Floats:
        parts = [t.detach()[f] for t, f in zip(tensors, self._free, strict=True)]
        return torch.cat([p.to("cpu", torch.float64) for p in parts]).numpy()
