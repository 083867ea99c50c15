"""Potts potentials, which depend on whether neighbours agree."""

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


class Potts(PairwisePotential):
    r"""States that agree along edges.

    .. math:: \log \phi = \sum_{ij} J_{ij} [x_i = x_j] + \sum_i h_i(x_i)

    Given values are constants; ``None`` is learnable and starts at zero, see
    :class:`~pgnn.factors.potentials.ising.Ising`. With two states, ``Potts`` with coupling
    :math:`2J` is ``Ising`` with :math:`J`, but for a constant.

    Args:
        variables: Variables with the same number ``K`` of states; mostly one array.
        coupling: J in log units: one number, ``(D,)`` or ``(M,)`` as for ``Ising``; ``-inf``
            forbids equal neighbours.
        field: h in log units: ``(K,)`` for all elements, or ``(*shape, K)`` or ``(E, K)``; ``-inf``
            forbids a state; 0 for none.
        edges: As for ``Ising``.

    Raises:
        ModelError: If the numbers of states differ, a number is ``NaN`` or ``+inf``, an element has
            no possible state, an edge is wrong, or a shape does not fit.

    References:
        Potts (1952), Some generalized order-disorder transformations.

    Example:
        >>> from pgnn.factors.variable import Variable
        >>> Potts(Variable("depth", 16, shape=(500, 500)), coupling=[0.5, 1.0]).num_factors
        499000
    """

    log_numbers = ("coupling", "field")

    def groups(self, elements: Elements, inputs: Inputs | None = None) -> tuple[FactorGroup, ...]:
        """Return the couplings and the field."""
        groups: list[FactorGroup] = []
        states = self.variables[0].num_states
        if self.num_factors:
            coupling = self.edge_coupling if self.coupling.dim() else self.coupling.reshape(1)
            groups.append(PottsGroup(self.placed(elements), coupling, states))
        if self.field is not None:
            scopes = self.numbers(elements)[:, None]
            groups.append(TableGroup(scopes, self.field.reshape(-1, states)))
        return tuple(groups)

    def _check_logs(self, what: str, values: NDArray[np.float64]) -> None:
        if not (values < np.inf).all():  # NaN is not
            bad = values[~(values < np.inf)][0]
            raise ModelError(f"{what} must be finite logs, or -inf, got {bad:g}")

    def _read_field(self, field: Any) -> nn.Parameter | None:
        states = self.variables[0].num_states
        if field is None:
            shape = [states] if self.lattice is not None else [len(self.own_elements), states]
            return learnable_zeros("the field of Potts", shape)
        values = read_numbers("field of Potts", field)
        if values.shape == () and values == 0:
            return None
        allowed = {(states,), *((*shape, states) for shape in self._array_shapes)}
        if values.shape not in allowed:
            listed = " or ".join(map(str, sorted(allowed, key=len)))
            raise ModelError(f"field of Potts must have shape {listed}, got {values.shape}")
        self._check_logs("field of Potts", values)
        lost = np.isneginf(values.reshape(-1, states)).all(axis=1)
        if lost.any():
            name = (
                self.own_elements.name(int(lost.argmax())) if values.ndim > 1 else "every element"
            )
            raise ModelError(f"field of Potts is -inf in all states of {name!r}")
        return nn.Parameter(torch.from_numpy(values), requires_grad=False)
