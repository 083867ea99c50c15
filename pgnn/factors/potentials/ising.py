"""Ising potentials: two states that are spins."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from pgnn.errors import ModelError
from pgnn.factors.conditionals.table_reader import read_numbers
from pgnn.factors.elements import Elements
from pgnn.factors.groups.factor_group import FactorGroup, TableGroup
from pgnn.factors.groups.potts_group import PottsGroup
from pgnn.factors.piece import learnable_zeros
from pgnn.factors.potentials.pairwise import PairwisePotential
from pgnn.factors.potentials.potential import Inputs


class Ising(PairwisePotential):
    r"""Spins, coupled along edges: :math:`\log \phi = \sum_{ij} J_{ij} s_i s_j + \sum_i h_i s_i`.

    The first state is spin -1, the second +1. A number that is given is a constant; ``None`` is
    learnable and starts at zero: one number where the edges are a lattice, else one for each edge
    or element. (For learnable numbers on every edge of a lattice, give zeros and call
    ``requires_grad_()``.)

    Args:
        variables: Variables of two states; mostly one array.
        coupling: J in log units: one number; ``(D,)`` one for each direction of the lattice;
            ``(M,)`` one for each edge. Where both fit, it is the directions.
        field: h in log units: one number, or one for each element, in the array's shape or
            ``(E,)``; 0 for none.
        edges: A :class:`~pgnn.factors.potentials.lattice.Lattice`, the default of a single array;
            pairs of element numbers ``(M, 2)`` as an integer array; or pairs of names, such as
            ``graph.edges``, or of indices ``((0, 0), (2, 3))`` into a single array. Several
            variables without edges are joined each to each, arrays element by element.

    Raises:
        ModelError: If a variable has not two states, a number is not finite, an edge names an
            unknown element or joins one to itself, or a shape does not fit.

    Cost:
        One number for each coupling and field, no table.

    References:
        Ising (1925), Beitrag zur Theorie des Ferromagnetismus.

    Example:
        >>> from pgnn.factors.variable import Variable
        >>> letters = Ising(Variable("pixel", 2, shape=(500, 500)), coupling=0.4)
        >>> letters.num_factors
        499000
    """

    def groups(self, elements: Elements, inputs: Inputs | None = None) -> tuple[FactorGroup, ...]:
        """Return a Potts group of couplings 2 J, the constant that makes it Ising, and the field.

        :math:`J s_i s_j = 2 J [x_i = x_j] - J`.
        """
        groups: list[FactorGroup] = []
        if self.num_factors:
            coupling = self.edge_coupling if self.coupling.dim() else self.coupling.reshape(1)
            groups.append(PottsGroup(self.placed(elements), 2 * coupling, 2))
            constant = -(self.coupling * self._num_edges).sum().reshape(1)
            groups.append(TableGroup(np.zeros((1, 0), dtype=np.int64), constant))
        if self.field is not None:
            h = self.field.reshape(-1)
            scopes = self.numbers(elements)[:, None]
            groups.append(TableGroup(scopes, torch.stack([-h, h], dim=1)))
        return tuple(groups)

    def _check_states(self) -> None:
        for v in self.variables:
            if v.num_states != 2:
                raise ModelError(
                    f"Ising needs variables of two states, but {v.name!r} has {v.num_states}",
                    "use Potts",
                )

    def _check_logs(self, what: str, values: NDArray[np.float64]) -> None:
        if not np.isfinite(values).all():
            raise ModelError(f"{what} must be finite, got {values[~np.isfinite(values)][0]:g}")

    def _read_field(self, field: Any) -> nn.Parameter | None:
        if field is None:
            shape = [] if self.lattice is not None else [len(self.own_elements)]
            return learnable_zeros("the field of Ising", shape)
        values, size = read_numbers("field of Ising", field), len(self.own_elements)
        if values.shape not in {(), *self._array_shapes}:
            raise ModelError(
                f"field of Ising must be one number or have the shape {self.variables[0].shape} "
                f"or ({size},), got {values.shape}"
                if len(self.variables) == 1
                else f"field of Ising must be one number or ({size},), got {values.shape}"
            )
        self._check_logs("field of Ising", values)
        if values.shape == () and values == 0:
            return None
        return nn.Parameter(torch.from_numpy(values), requires_grad=False)
