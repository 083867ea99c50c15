"""The most probable values of hidden real variables, as a factor over discrete ones."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pgnn.factors.elements import Elements
from pgnn.factors.factor import Factor
from pgnn.factors.gaussians.linear_system import LinearSystem
from pgnn.factors.variable import Variable


@dataclass(frozen=True, eq=False)
class RealModes:
    r"""Modes of jointly normal variables for each configuration of the discrete ones.

    .. math:: \max_x p(x, j, e) = p(j, e) \max_x p(x \mid j, e)

    The second term depends only on the determinant of the covariance, and the first one is a table:
    the most probable assignment is found by maximising over tables.

    Args:
        system: The joint density of the variables and the observations.
        targets: Variables to maximise over; the others of the system are integrated out.
        dtype: Dtype of the values.
    """

    system: LinearSystem
    targets: Sequence[Variable]
    dtype: torch.dtype

    def __post_init__(self) -> None:
        mode = self.system.mode([v.name for v in self.targets])
        object.__setattr__(self, "_values", mode.values)
        object.__setattr__(self, "_log_density", mode.log_density)

    _values: Mapping[Hashable, Tensor] = None  # type: ignore[assignment]
    _log_density: Tensor = None  # type: ignore[assignment]

    def factor(self) -> Factor:
        r"""Return :math:`\log \max_x p(x \mid j, e)` over the states that it depends on."""
        table = self._log_density.detach()
        pairs = list(zip(self.system.free, table.shape[1:], strict=True))
        scope = [v for v, size in pairs if size > 1]
        table = table.reshape(len(table), *(v.num_states for v in scope))
        return Factor(scope, table[0] if len(table) == 1 else table)

    def values_at(self, states: Tensor, elements: Elements) -> dict[Hashable, Tensor]:
        """Return ``(B, k, *shape)`` values by name.

        Args:
            states: ``(B, k, E)`` states of all elements.
            elements: The elements of the model.
        """
        lead = next(iter(self._values.values())).shape[1:-1]
        rows = torch.arange(len(states))[:, None].expand(states.shape[:2])
        index = [rows]
        for v, size in zip(self.system.free, lead, strict=True):
            codes = states[..., int(elements.numbers(v.name))].clamp_min(0)
            index.append(codes if size > 1 else torch.zeros_like(codes))
        return {
            v.name: self._values[v.name][tuple(index)]
            .reshape(*states.shape[:2], *v.shape)
            .to(self.dtype)
            for v in self.targets
        }
