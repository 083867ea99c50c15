"""The base of Ising and Potts potentials: couplings on edges, fields on elements."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pgnn.errors import ModelError
from pgnn.factors.conditionals.table_reader import read_numbers
from pgnn.factors.elements import Elements
from pgnn.factors.piece import Settings, learnable_zeros
from pgnn.factors.potentials.lattice import Lattice
from pgnn.factors.potentials.potential import Potential, listed_variables
from pgnn.factors.potentials.scopes import array_shape, elementwise
from pgnn.factors.variable import Variable

Ints = NDArray[np.int64]


class Edges(NamedTuple):
    """Pairs of elements.

    Attributes:
        scopes: What :func:`~pgnn.factors.potentials.scopes.read_scopes` reads.
        direction: ``(M,)`` direction of each edge of a lattice.
        num_directions: Number of directions; 0 if the edges are no lattice.
    """

    scopes: Any
    direction: Ints
    num_directions: int


class PairwisePotential(Potential):
    """Couplings on edges and fields on elements that all have the same states.

    Args:
        variables: Discrete variables; an array is one of them.
        coupling: One number for all edges; ``(D,)`` one for each of the lattice's directions;
            ``(M,)`` one for each edge; ``None``: learnable.
        field: See the subclass; 0 for none, ``None``: learnable.
        edges: See :class:`~pgnn.factors.potentials.ising.Ising`.
    """

    field: nn.Parameter | None

    def __init__(
        self,
        variables: Variable | Sequence[Variable],
        coupling: Any = None,
        field: Any = 0.0,
        edges: Any = None,
    ) -> None:
        checked_edges = read_edges(variables, edges)
        super().__init__(variables, checked_edges.scopes)
        if self.scopes.shape[1] != 2:
            raise ModelError(f"an edge joins two elements, got scopes of {self.scopes.shape[1]}")
        self.lattice: Lattice | None = _lattice_of(self.variables, edges)
        self._direction, self._num_directions = (
            checked_edges.direction,
            checked_edges.num_directions,
        )
        self._check_states()
        self.coupling = self._read_coupling(coupling)
        self.register_parameter("field", self._read_field(field))

    def settings(self) -> Settings:
        """Return the variables, and the edges or the lattice."""
        edges = self.scopes if self.lattice is None else self.lattice
        return {"variables": self.variables, "edges": edges}

    @classmethod
    def from_settings(cls, settings: Settings, numbers: Mapping[str, Tensor]) -> Self:
        """Make couplings and fields of the saved shapes."""
        # a field of ones is there, one of zero is left out
        field = torch.ones_like(numbers["field"]) if "field" in numbers else 0.0
        return cls(coupling=torch.zeros_like(numbers["coupling"]), field=field, **settings)

    @property
    def edges(self) -> Ints:
        """``(M, 2)`` indices of the potential's own elements."""
        return self.scopes

    @property
    def edge_coupling(self) -> Tensor:
        """``(M,)`` the coupling of every edge."""
        if self._by_direction:
            return self.coupling[torch.from_numpy(self._direction).to(self.coupling.device)]
        return self.coupling.expand(self.num_factors)

    @property
    def _by_direction(self) -> bool:
        return self.coupling.dim() == 1 and len(self.coupling) == self._num_directions

    @property
    def _num_edges(self) -> Tensor:
        """Number of edges that share each value of the coupling."""
        if self._by_direction:
            counts = np.bincount(self._direction, minlength=self._num_directions)
            return torch.from_numpy(counts).to(self.coupling)
        if self.coupling.dim():
            return torch.ones_like(self.coupling)
        return torch.full_like(self.coupling, self.num_factors)

    def _check_states(self) -> None:
        counts = {v.num_states for v in self.variables}
        if len(counts) > 1:
            raise ModelError(
                f"{type(self).__name__} needs variables of one number of states, got "
                + ", ".join(f"{v.name!r}: {v.num_states}" for v in self.variables[:8])
            )

    def _read_coupling(self, coupling: Any) -> nn.Parameter:
        if coupling is None:
            shape = [] if self.lattice is not None else [self.num_factors]
            return learnable_zeros(f"the coupling of {type(self).__name__}", shape)
        what = f"coupling of {type(self).__name__}"
        values = read_numbers(what, coupling)
        allowed = {(): "one number", (self.num_factors,): "one for each edge"}
        if self._num_directions:
            allowed[(self._num_directions,)] = "one for each direction of the lattice"
        if values.shape not in allowed:
            listed = ", ".join(f"{shape} ({text})" for shape, text in allowed.items())
            raise ModelError(f"{what} must have one of the shapes {listed}, got {values.shape}")
        self._check_logs(what, values)
        return nn.Parameter(torch.from_numpy(values), requires_grad=False)

    def _read_field(self, field: Any) -> nn.Parameter | None:
        raise NotImplementedError

    def _check_logs(self, what: str, values: NDArray[np.float64]) -> None:
        raise NotImplementedError

    @property
    def _array_shapes(self) -> set[tuple[int, ...]]:
        """Allowed shapes of values by element: flat, or that of the only array."""
        alone = [self.variables[0].shape] if len(self.variables) == 1 else []
        return {(len(self.own_elements),), *alone}


def read_edges(variables: Variable | Sequence[Variable], edges: Any) -> Edges:
    """Return the given edges, or default ones.

    Raises:
        ModelError: If an array's lattice does not fit.
    """
    listed = listed_variables(variables)
    lattice = _lattice_of(listed, edges)
    if lattice is not None:
        shape = array_shape(Elements(listed))
        pairs, direction = lattice.edges(shape)
        return Edges(pairs, direction, len(lattice.directions(len(shape))))
    none = np.zeros(0, dtype=np.int64)
    if edges is None and listed:
        elements = Elements(listed)
        parts = [
            elementwise(elements, pair) for pair in itertools.combinations(range(len(listed)), 2)
        ]
        return Edges(np.concatenate([np.zeros((0, 2), dtype=np.int64), *parts]), none, 0)
    return Edges(edges, none, 0)


def _lattice_of(variables: Sequence[Variable], edges: Any) -> Lattice | None:
    """The lattice of the edges, if they are one."""
    if isinstance(edges, Lattice):
        return edges
    return Lattice() if edges is None and len(variables) == 1 and variables[0].shape else None
