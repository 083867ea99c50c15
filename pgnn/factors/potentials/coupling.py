"""Dense couplings between all units of two arrays, or within one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn

from pgnn.errors import ModelError
from pgnn.factors.conditionals.table_reader import numbers_or_zeros
from pgnn.factors.elements import Elements
from pgnn.factors.groups.factor_group import FactorGroup
from pgnn.factors.groups.matrix_group import MatrixGroup, Sides
from pgnn.factors.piece import Settings
from pgnn.factors.potentials.potential import Inputs, Potential
from pgnn.factors.units.axes import cut
from pgnn.factors.units.unit_kind import kind_of
from pgnn.factors.variable import Variable
from pgnn.limits import check_size

_TOLERANCE = 1e-9


class Coupling(Potential):
    r"""A matrix between two arrays of units, :math:`\log \phi = \varphi(x)^\top W \varphi(y)`.

    Within one array it is :math:`\frac{1}{2} x^\top W x` with symmetric :math:`W` and a diagonal
    of zeros. A unit of two states has the value 0 or 1 as its only feature :math:`\varphi`, or -1
    or 1 if these are its labels; one of :math:`K` states has :math:`K` features, each of which is
    1 in its state.

    Args:
        first: An array of discrete units, or a single one.
        second: Another array; all pairs of the first one if not given.
        weight: ``(m d, n e)`` couplings of all features, in log units; constant. Learnable zeros
            if not given.

    Raises:
        ModelError: If a variable is real, the shape is wrong, a number is not finite, or couplings
            within one array are not symmetric or join a unit to itself.

    Cost:
        A product with the matrix for each row, instead of a table lookup for each pair.

    Example:
        >>> v, h = Variable("v", 2, shape=(3,)), Variable("h", 2, shape=(2,))
        >>> Coupling(v, h, weight=[[1.0, 0.0], [0.0, 1.0], [2.0, -1.0]]).num_factors
        6
    """

    def __init__(self, first: Variable, second: Variable | None = None, weight: Any = None) -> None:
        pair = (first,) if second is None else (first, second)
        elements = Elements(pair)
        numbers = [elements.numbers(v.name).ravel() for v in elements.variables]
        check_size(
            f"couplings of {len(numbers[0]):,} and {len(numbers[-1]):,} units",
            4.0 * len(numbers[0]) * len(numbers[-1]),
            advice="Declare fewer units",
        )
        sides = Sides(numbers[0], numbers[-1]) if len(numbers) == len(pair) else None
        super().__init__(pair, None if sides is None else sides.pairs())
        self._sides = sides
        self._placed_sides: tuple[Any, Sides] | None = None
        self.kinds = tuple(kind_of(v) for v in (pair[0], pair[-1]))
        sizes = [v.num_elements * k.size for v, k in zip((pair[0], pair[-1]), self.kinds,
                                                         strict=True)]  # fmt: skip
        what = f"the couplings of {self.key!r}"
        self.weight = numbers_or_zeros(what, weight, sizes)
        if self.is_symmetric:
            self._check_symmetric(what, self.weight.detach().numpy())

    def settings(self) -> Settings:
        """Return the arrays."""
        return {"first": self.variables[0], "second": (*self.variables, None)[1]}

    @classmethod
    def from_settings(cls, settings: Settings, numbers: Mapping[str, Tensor]) -> Self:
        """Make couplings of the saved type; their values are loaded afterwards."""
        potential = cls(**settings)
        potential.weight = nn.Parameter(torch.zeros_like(numbers["weight"]))
        return potential

    @property
    def is_symmetric(self) -> bool:
        """Whether the couplings are those within one array."""
        return len(self.variables) == 1

    def matrix(self) -> Tensor:
        """Return the couplings ``(m d, n e)``; within one array symmetric with a zero diagonal.

        Gradients by the parameter are symmetric too, so that the parameter stays symmetric.
        """
        return self.symmetric(self.weight) if self.is_symmetric else self.weight

    def symmetric(self, numbers: Tensor) -> Tensor:
        """Return the symmetric part of a matrix ``(n d, n d)``, zero for a unit with itself."""
        mask = numbers.new_ones(numbers.shape)
        size = self.kinds[0].size
        blocks = cut(cut(mask, 1, size), 0, size)
        torch.diagonal(blocks, dim1=0, dim2=2).zero_()
        return 0.5 * (numbers + numbers.T) * mask

    def groups(self, elements: Elements, inputs: Inputs | None = None) -> tuple[FactorGroup, ...]:
        """Return one group of all pairs."""
        scopes = self.placed(elements)
        if self._placed_sides is None or self._placed_sides[0] is not scopes:
            units = self.numbers(elements)
            count = self.variables[0].num_elements
            first = units[:count]
            second = first if self.is_symmetric else units[count:]
            self._placed_sides = scopes, Sides(first, second)
        sides = self._placed_sides[1]
        d, e = (k.size for k in self.kinds)
        grid = cut(cut(self.matrix(), 1, e), 0, d).movedim(1, 2)
        if self.is_symmetric:
            i, j = torch.triu_indices(len(sides.first), len(sides.first), 1, device=grid.device)
            numbers = grid[i, j]
        else:
            numbers = grid.reshape(-1, d, e)
        tables = [k.table(self.weight) for k in self.kinds]
        return (MatrixGroup(sides, numbers, tables[0], tables[1], scopes),)

    @property
    def cliques(self) -> tuple[tuple[Any, ...], ...]:
        """See :class:`Potential`: the arrays themselves."""
        return (tuple(v.name for v in self.variables),)

    @property
    def num_free_parameters(self) -> int:
        """Number of free parameters: each coupling counts once."""
        return self.num_free(self.weight)

    def num_free(self, parameter: Tensor) -> int:
        """See :attr:`num_free_parameters`."""
        return self.num_factors * self.kinds[0].size * self.kinds[-1].size

    def _check_symmetric(self, what: str, values: np.ndarray) -> None:
        gap = np.abs(values - values.T)
        if gap.max(initial=0.0) > _TOLERANCE * max(1.0, np.abs(values).max()):
            i, j = (int(k) for k in np.unravel_index(int(gap.argmax()), gap.shape))
            raise ModelError(
                f"{what} must be symmetric, but [{i}, {j}] is {values[i, j]:g} and [{j}, {i}] is "
                f"{values[j, i]:g}",
                "give (W + W.T) / 2, which has the same energy",
            )
        size = self.kinds[0].size
        blocks = values.reshape(len(values) // size, size, -1, size)
        for k in range(len(blocks)):
            if blocks[k, :, k].any():
                raise ModelError(
                    f"{what} must be zero on the diagonal, but unit {k} is joined to itself by "
                    f"{values[k * size, k * size]:g}",
                    "of units 0 and 1, half of that is a bias",
                )
