"""Potentials that are linear in inputs: features of elements, or of edges."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn

from pgnn.errors import EvidenceError, ModelError
from pgnn.factors.conditionals.table_reader import read_numbers
from pgnn.factors.elements import Elements
from pgnn.factors.groups.factor_group import FactorGroup, TableGroup
from pgnn.factors.groups.potts_group import PottsGroup
from pgnn.factors.piece import Settings, learnable_zeros
from pgnn.factors.potentials.pairwise import read_edges
from pgnn.factors.potentials.potential import Inputs, Potential
from pgnn.factors.variable import Variable
from pgnn.limits import whole_number


class LinearPotential(Potential):
    r"""Weights of features of every element, :math:`\log \phi(x_i \mid u) = w_{x_i}^\top u_i`.

    With ``edges`` the features of an edge determine how strongly its ends tend to be equal,
    :math:`\log \phi(x_i, x_j \mid u) = w^\top u_{ij} [x_i = x_j]`. All elements, or edges, share
    the weights.

    Args:
        variable: An array of discrete variables.
        features: Number of features ``D``.
        input_name: Name of the input: ``(B, *shape, D)``, or ``(B, M, D)`` of edges.
        edges: See :class:`~pgnn.factors.potentials.ising.Ising`; elements if not given.
        weights: ``(D, K)``, or ``(D,)`` of edges, constants; learnable zeros if not given.

    Raises:
        ModelError: If a shape is wrong.

    Example:
        >>> from pgnn.factors import Variable
        >>> pixel = Variable("pixel", ["sky", "sea"], shape=(2, 3))
        >>> LinearPotential(pixel, 4, "colours").weights.shape
        torch.Size([4, 2])
    """

    def __init__(
        self,
        variable: Variable,
        features: int,
        input_name: Hashable = "x",
        edges: Any = None,
        weights: Any = None,
    ) -> None:
        scopes = None if edges is None else read_edges(variable, edges).scopes
        super().__init__(variable, scopes, [input_name])
        self.on_edges = edges is not None
        count = whole_number("features", features, 1, ModelError)
        states = self.variables[0].num_states
        shape = (count,) if self.on_edges else (count, states)
        what = f"the weights of {self.variables[0].name!r}"
        if weights is None:
            self.weights = learnable_zeros(what, shape)
            return
        numbers = read_numbers(what, weights)
        if numbers.shape != shape or not np.isfinite(numbers).all():
            raise ModelError(f"{what} must be finite numbers {shape}, got {numbers.shape}")
        self.weights = nn.Parameter(torch.from_numpy(numbers), requires_grad=False)

    def settings(self) -> Settings:
        """Return the array, the input and the edges."""
        return {
            "variable": self.variables[0],
            "features": len(self.weights),
            "input_name": self.inputs[0],
            "edges": self.scopes if self.on_edges else None,
        }

    @classmethod
    def from_settings(cls, settings: Settings, numbers: Mapping[str, Tensor]) -> Self:
        """Create the potential; its parameters are set afterwards."""
        return cls(**settings)

    def groups(self, elements: Elements, inputs: Inputs | None = None) -> tuple[FactorGroup, ...]:
        """Return one group whose tables, or couplings, depend on the row.

        Raises:
            EvidenceError: If features have another shape, or are not finite.
        """
        (name,) = self.inputs
        values = self._covariates(inputs)[name].to(self.weights)
        shape = (self.num_factors,) if self.on_edges else self.variables[0].shape
        wanted = (*shape, len(self.weights))
        if values.dim() < 1 or tuple(values.shape[1:]) != wanted:
            raise EvidenceError(
                f"the input {name!r} must be (B, {', '.join(map(str, wanted))}), got "
                f"{tuple(values.shape)}"
            )
        if not bool(values.detach().isfinite().all()):
            raise EvidenceError(f"the input {name!r} has values that are not finite")
        rows, scopes = len(values), self.placed(elements)
        numbers = (values.reshape(rows, -1, len(self.weights))) @ self.weights
        if self.on_edges:
            return (PottsGroup(scopes, numbers, self.variables[0].num_states),)
        return (TableGroup(scopes, numbers),)
