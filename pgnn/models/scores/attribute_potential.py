"""Potentials of the nodes and edges of a graph that are linear in named attributes."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pgnn.errors import EvidenceError, ModelError
from pgnn.evidence.step_attributes import StepAttributes
from pgnn.factors.elements import Elements
from pgnn.factors.groups.factor_group import FactorGroup, TableGroup
from pgnn.factors.piece import Settings
from pgnn.factors.potentials.potential import Inputs, Potential
from pgnn.factors.variable import Variable
from pgnn.models.scores.attribute_scores import AttributeScores


class AttributePotential(Potential):
    r"""Weights of the attributes of elements, :math:`\log \phi(x_i) = \sum_a v_{ia} w_{a x_i}`.

    With ``edges`` each attribute of an edge has weights of the pairs of states at its ends.

    Args:
        variable: An array of discrete variables.
        attributes: Their weights, and the name of the input.
        edges: ``(M, 2)`` indices of the elements at the ends of each edge; by default, the
            potential is over single elements.
        directed: Whether the tables of edges are directed, that is, need not be symmetric.
    """

    def __init__(
        self,
        variable: Variable,
        attributes: AttributeScores,
        edges: NDArray[np.int64] | None = None,
        directed: bool = False,
    ) -> None:
        scopes = np.arange(variable.num_elements)[:, None] if edges is None else edges
        super().__init__(variable, scopes, attributes.input_names)
        self.attributes, self.on_edges, self.directed = attributes, edges is not None, directed

    def settings(self) -> Settings:
        """Return the array, the attributes and the edges."""
        return {
            "variable": self.variables[0],
            "attributes": self.attributes,
            "edges": self.scopes if self.on_edges else None,
            "directed": self.directed,
        }

    @classmethod
    def from_settings(cls, settings: Settings, numbers: Mapping[str, Tensor]) -> Self:
        """Create the potential; its parameters are loaded afterwards."""
        return cls(**settings)

    @property
    def is_unset(self) -> bool:
        """False: the attributes hold the parameters."""
        return False

    def prepared(self, raw: Any) -> AttributePotential:
        """Return a potential with weights for the attributes in the data.

        Raises:
            DataError: If the data contains no attributes.
        """
        k = self.variables[0].num_states
        choices = len(pair_places(k, self.directed)[0]) if self.on_edges else k
        read = self._read(raw)
        unknown = torch.full((len(read.counts),), -1)
        attributes = self.attributes.prepared(read, unknown, choices)
        edges = self.scopes if self.on_edges else None
        return AttributePotential(self.variables[0], attributes, edges, self.directed)

    def read_inputs(self, inputs: Mapping[Hashable, Any]) -> Mapping[Hashable, Any]:
        """Return ``(B, F, A)`` attribute indices, and attribute values if they are not all one."""
        name = self.attributes.input_name
        if name not in inputs or isinstance(inputs[name], Tensor):
            return {}
        attributes = self._read(inputs[name])
        shape = (len(attributes.lengths), self.num_factors)
        return self.attributes.covariates(attributes, shape, True)

    def _read(self, raw: Any) -> StepAttributes:
        attributes = StepAttributes.read(self.attributes.input_name, raw)
        wrong = np.flatnonzero(attributes.lengths != self.num_factors)
        if len(wrong):
            what = "edges" if self.on_edges else "nodes"
            raise EvidenceError(
                f"the input {self.attributes.input_name!r} must have attributes for each of the "
                f"{self.num_factors} {what}, but row {wrong[0]} has attributes for "
                f"{attributes.lengths[wrong[0]]}"
            )
        return attributes

    def groups(self, elements: Elements, inputs: Inputs | None = None) -> tuple[FactorGroup, ...]:
        """Return one group with separate tables for each row.

        Raises:
            EvidenceError: If the input is missing, or has another shape.
        """
        name = self.attributes.input_name
        if not self.attributes.names:
            raise ModelError(f"the attributes {name!r} are not known yet", "fit the field to data")
        if name not in (inputs or {}):
            self._covariates({n: x for n, x in (inputs or {}).items() if n != name})
        given = {n: torch.as_tensor(x) for n, x in (inputs or {}).items() if n in self.inputs}
        rows = len(given[name])
        covariates = self.attributes.covariates(given[name], (rows, self.num_factors), True)
        inside = torch.ones(rows, self.num_factors, dtype=torch.bool)
        scores = self.attributes.scores({**given, **covariates}, inside)
        scores = scores.reshape(rows, self.num_factors, -1)
        if self.on_edges:
            places = pair_places(self.variables[0].num_states, self.directed)[1]
            scores = scores[..., torch.from_numpy(places).to(scores.device)]
        return (TableGroup(self.placed(elements), scores),)


def pair_places(k: int, directed: bool) -> tuple[list[tuple[int, int]], NDArray[np.int64]]:
    """Return the pairs of labels, unordered if undirected, and their ``(K, K)`` indices.

    Example:
        >>> pair_places(2, directed=False)[1].tolist()
        [[0, 1], [1, 2]]
    """
    pairs = [(a, b) for a in range(k) for b in range(0 if directed else a, k)]
    places = np.zeros((k, k), dtype=np.int64)
    for d, (a, b) in enumerate(pairs):
        places[a, b] = d
        if not directed:
            places[b, a] = d
    return pairs, places
