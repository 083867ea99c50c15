"""The bias of every unit of an array."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn

from pgnn.factors.conditionals.table_reader import numbers_or_zeros, read_numbers
from pgnn.factors.elements import Elements
from pgnn.factors.groups.factor_group import FactorGroup, TableGroup
from pgnn.factors.piece import Settings
from pgnn.factors.potentials.potential import Inputs, Potential
from pgnn.factors.units.axes import cut
from pgnn.factors.units.unit_kind import kind_of
from pgnn.factors.variable import Variable


class Bias(Potential):
    r"""A bias for every unit of an array, :math:`\log \phi = \varphi(x)^\top b`.

    Args:
        variable: An array of discrete units, or a single one; for their features see
            :class:`~pgnn.factors.potentials.coupling.Coupling`.
        bias: ``(n d,)`` log units, or in the shape of the array, followed by an axis of states
            where there are more than two; constant. Learnable zeros if not given.

    Raises:
        ModelError: If the variable is real, or the shape or a number is wrong.

    Example:
        >>> Bias(Variable("v", 2, shape=(3,)), [0.5, 0.0, -1.0]).bias.tolist()
        [0.5, 0.0, -1.0]
    """

    def __init__(self, variable: Variable, bias: Any = None) -> None:
        super().__init__(variable, Elements([variable]).numbers(variable.name).reshape(-1, 1))
        self.kind = kind_of(variable)
        size = variable.num_elements * self.kind.size
        what = f"the bias of {variable.name!r}"
        if bias is not None:
            bias = read_numbers(what, bias)
            shape = (*variable.shape, self.kind.size) if self.kind.size > 1 else variable.shape
            bias = np.full(size, bias) if bias.shape == () else bias
            bias = bias.reshape(size) if bias.shape == shape else bias
        self.bias = numbers_or_zeros(what, bias, (size,))

    def settings(self) -> Settings:
        """Return the array."""
        return {"variable": self.variables[0]}

    @classmethod
    def from_settings(cls, settings: Settings, numbers: Mapping[str, Tensor]) -> Self:
        """Make biases of the saved type; their values are loaded afterwards."""
        potential = cls(**settings)
        potential.bias = nn.Parameter(torch.zeros_like(numbers["bias"]))
        return potential

    def groups(self, elements: Elements, inputs: Inputs | None = None) -> tuple[FactorGroup, ...]:
        """Return one group of tables."""
        table = cut(self.bias, 0, self.kind.size) @ self.kind.table(self.bias).T
        return (TableGroup(self.placed(elements), table),)
