"""Real units that are coupled to discrete ones, and observed or integrated out."""

from __future__ import annotations

import math
from collections.abc import Hashable
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from pgnn.errors import ModelError
from pgnn.factors.conditionals.table_reader import numbers_or_zeros, read_numbers
from pgnn.factors.elements import Elements
from pgnn.factors.groups.factor_group import FactorGroup, TableGroup
from pgnn.factors.groups.matrix_group import MatrixGroup, Sides
from pgnn.factors.piece import Piece, Settings
from pgnn.factors.units.axes import cut
from pgnn.factors.units.unit_kind import kind_of
from pgnn.factors.variable import Variable


class RealUnits(Piece):
    r"""Real units :math:`v` with a matrix to an array of discrete units :math:`h`.

    .. math:: E(v, h) = \sum_i \frac{(v_i - b_i)^2}{2 s_i^2} - \sum_i \frac{v_i}{s_i^2} (W h)_i

    so that :math:`p(v \mid h)` is normal with mean :math:`b + W h` and variance :math:`s^2`.
    Observed units of :math:`v` are a bias of :math:`h`. Hidden ones are integrated out, which
    couples the discrete units: :math:`\frac12 h^\top W^\top s^{-2} W h + b^\top s^{-2} W h`.

    Args:
        variable: A real array.
        other: An array of discrete units.
        weight: ``(n, m e)``; learnable zeros if not given.
        bias: ``(n,)``; learnable zeros if not given.
        variance: :math:`s^2`, one number or ``(n,)``; a constant.

    Raises:
        ModelError: If a shape or number is wrong.

    References:
        Cho, Ilin and Raiko (2011), Improved learning of Gaussian-Bernoulli restricted Boltzmann
        machines.
    """

    noun: ClassVar[str] = "potential"
    variance: Tensor

    def __init__(self, variable: Variable, other: Variable, weight: Any = None, bias: Any = None,
                 variance: Any = 1.0) -> None:  # fmt: skip
        super().__init__()
        if variable.is_discrete:
            raise ModelError(f"{variable.name!r} has states; real units have none")
        self.variable, self.other, self.kind = variable, other, kind_of(other)
        size, width = variable.num_elements, other.num_elements * self.kind.size
        what = f"of {variable.name!r}"
        self.weight = numbers_or_zeros(f"the couplings {what}", weight, (size, width))
        self.bias = numbers_or_zeros(f"the bias {what}", bias, (size,))
        spread = read_numbers(f"the variance {what}", variance).ravel()
        if spread.size not in (1, size):
            raise ModelError(f"the variance {what} must be one number or {size}, got {spread.size}")
        spread = np.broadcast_to(spread, (size,))
        if not (np.isfinite(spread).all() and (spread > 0).all()):
            raise ModelError(f"the variance {what} must be positive, got {spread.min():g}")
        self.register_buffer("variance", torch.from_numpy(spread.copy()))

    @property
    def scope(self) -> tuple[Variable, ...]:
        """Both arrays."""
        return self.variable, self.other

    @property
    def key(self) -> Hashable:
        """Names of both arrays."""
        return self.variable.name, self.other.name

    def settings(self) -> Settings:
        """Return the arrays; the values of parameters are loaded afterwards."""
        return {"variable": self.variable, "other": self.other}

    def groups(
        self, elements: Elements, values: Tensor | None, temperature: float = 1.0
    ) -> list[FactorGroup]:
        """Return factors of the discrete units, at a temperature, the real ones integrated out.

        Args:
            elements: Elements of the model.
            values: ``(B, *shape)`` observed values; ``NaN`` where not observed.
            temperature: ``T``.
        """
        like = self.weight
        flat = None if values is None else values.to(like).reshape(len(values), -1)
        hidden = like.new_ones(1, len(self.bias)) if flat is None else flat.isnan().to(like)
        bias, spread = self.bias, self.variance
        constant = hidden @ (0.5 * (2 * math.pi * spread * temperature).log())
        linear = (hidden * (bias / spread)) @ self.weight
        if flat is not None:
            known = torch.where(flat.isnan(), torch.zeros_like(flat), flat)
            constant = constant - (
                (1 - hidden) * (known - bias).square() / (2 * spread * temperature)
            ).sum(1)
            linear = linear + (known / spread) @ self.weight
        units = elements.numbers(self.other.name).ravel()
        groups: list[FactorGroup] = [TableGroup(np.zeros((1, 0)), constant[:, None])]
        table = self.kind.table(like)
        if bool(hidden.any()):
            groups += self._integrated(units, table, hidden, temperature)
        field = cut(linear, 1, self.kind.size) @ table.T / temperature
        groups.append(TableGroup(units[:, None], field))
        return [g.with_numbers(g.numbers[0]) for g in groups] if flat is None else groups

    def _integrated(
        self, units: Any, table: Tensor, hidden: Tensor, temperature: float
    ) -> list[FactorGroup]:
        """Couplings among the discrete units, and biases from those of a unit with itself."""
        size, count = self.kind.size, len(units)
        scaled = self.weight / (self.variance * temperature)[:, None]
        if bool((hidden == hidden[:1]).all()):
            product = ((self.weight * hidden[0][:, None]).T @ scaled).expand(len(hidden), -1, -1)
        else:
            product = torch.einsum("bi,ip,iq->bpq", hidden, self.weight, scaled)
        grid = cut(cut(product, 2, size), 1, size).movedim(3, 2)
        i, j = torch.triu_indices(count, count, 1, device=grid.device)
        diagonal = torch.diagonal(grid, dim1=1, dim2=2).movedim(-1, 1)
        square = 0.5 * torch.einsum("kd,bnde,ke->bnk", table, diagonal, table)
        groups: list[FactorGroup] = [TableGroup(units[:, None], square)]
        if count > 1:
            groups.append(MatrixGroup(Sides(units, units), grid[:, i, j], table, table))
        return groups
