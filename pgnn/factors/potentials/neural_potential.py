"""Networks as potentials: log tables computed from inputs."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from typing import Any

from torch import Tensor, nn

from pgnn.errors import EvidenceError, ModelError
from pgnn.factors.elements import Elements
from pgnn.factors.groups.factor_group import FactorGroup, TableGroup
from pgnn.factors.groups.potts_group import PottsGroup
from pgnn.factors.network_precision import run
from pgnn.factors.piece import Settings
from pgnn.factors.potentials.pairwise import read_edges
from pgnn.factors.potentials.potential import Inputs, Potential
from pgnn.factors.variable import Variable


class NeuralPotential(Potential):
    r"""Log potentials computed by a network, :math:`\log \phi(x \mid u) = f_\theta(u)_x`.

    The network's output has a row for each row of the inputs:

    - of single variables, ``(B, K1, ..., Kn)``, their joint table;
    - of an array, ``(B, *shape, K)``, a table for each element (of several arrays, and of single
      variables beside them, ``(B, *shape, K1, ..., Kn)``);
    - with ``scopes``, ``(B, F, K1, ..., Kn)``;
    - with ``edges``, ``(B, M)`` couplings of edges, :math:`\log \phi = J_{ij}(u) [x_i = x_j]`, or
      ``(B, 1)``, one for all of them.

    Args:
        variables: Discrete variables.
        network: Maps the inputs, in the order of their names, to the output; reals are cast to the
            dtype of its parameters.
        inputs: Names of the covariates; at least one.
        scopes: See :class:`Potential`.
        edges: Instead of ``scopes``: see :class:`~pgnn.factors.potentials.ising.Ising`.

    Raises:
        ModelError: If there is no input, or the network returns another shape.

    Example:
        >>> import torch
        >>> pixel = Variable("pixel", 3, shape=(4, 5))
        >>> network = nn.Sequential(nn.Linear(8, 60), nn.Unflatten(1, (4, 5, 3)))
        >>> potential = NeuralPotential(pixel, network, "image")
        >>> potential.groups(Elements([pixel]), {"image": torch.zeros(7, 8)})[0].batch_shape
        (7,)
    """

    def __init__(
        self,
        variables: Variable | Sequence[Variable],
        network: nn.Module,
        inputs: Hashable | Iterable[Hashable],
        scopes: Any = None,
        edges: Any = None,
    ) -> None:
        if scopes is not None and edges is not None:
            raise ModelError("a neural potential has scopes= or edges=, not both")
        chosen = scopes if edges is None else read_edges(variables, edges).scopes
        super().__init__(variables, chosen, inputs)
        if not self.inputs:
            raise ModelError("a neural potential needs an input", "use TabularPotential")
        if not isinstance(network, nn.Module):
            raise ModelError(f"network must be a torch module, got {type(network).__name__}")
        if not self.num_factors:
            raise ModelError("a neural potential needs at least one scope")
        if edges is not None and len({v.num_states for v in self.axis_variables}) > 1:
            raise ModelError("an edge's coupling needs two elements of one number of states")
        self.network = network
        self.arrangement = "edges" if edges is not None else "scopes" if scopes is not None else ""

    def settings(self) -> Settings:
        """Return the variables, the network, its inputs, and the scopes or edges."""
        settings = {"variables": self.variables, "network": self.network, "inputs": self.inputs}
        return settings | ({self.arrangement: self.scopes} if self.arrangement else {})

    @property
    def output_shape(self) -> tuple[int, ...]:
        """Shape of one row of the network's output."""
        if self.on_edges:
            return (self.num_factors,)
        table = tuple(v.num_states for v in self.axis_variables)
        if self.arrangement == "scopes":
            return (self.num_factors, *table)
        return (*next((v.shape for v in self.variables if v.shape), ()), *table)

    @property
    def on_edges(self) -> bool:
        """Whether the network returns couplings instead of tables."""
        return self.arrangement == "edges"

    def groups(self, elements: Elements, inputs: Inputs | None = None) -> tuple[FactorGroup, ...]:
        """Return one group whose tables depend on the row."""
        covariates = self._covariates(inputs)
        output = run(self.network, *(self._cast(x) for x in covariates.values()))
        self._check(output, next(iter(covariates.values())))
        scopes = self.placed(elements)
        if self.on_edges:
            return (PottsGroup(scopes, output, self.axis_variables[0].num_states),)
        table = tuple(v.num_states for v in self.axis_variables)
        return (TableGroup(scopes, output.reshape(len(output), self.num_factors, *table)),)

    def _cast(self, value: Tensor) -> Tensor:
        """Inputs on the network's device, reals in its dtype."""
        parameter = next((p for p in self.parameters() if p.is_floating_point()), None)
        if parameter is None:
            return value
        return value.to(parameter.device, parameter.dtype if value.is_floating_point() else None)

    def _check(self, output: Any, first: Tensor) -> None:
        names = [v.name for v in self.variables]
        if not isinstance(output, Tensor):
            raise ModelError(f"the network over {names} must return a tensor, got {type(output)}")
        allowed = [self.output_shape, *([(1,)] if self.on_edges else [])]
        if output.dim() < 1 or tuple(output.shape[1:]) not in allowed:
            expected = ", ".join(map(str, ("B", *self.output_shape)))
            raise ModelError(
                f"the network over {names} must return log potentials of shape ({expected}), got "
                f"{tuple(output.shape)}"
                + ("" if self.on_edges else "; the states are on the last axes")
            )
        if first.dim() and len(output) != len(first):
            raise EvidenceError(
                f"the network over {names} made {len(output)} rows of {len(first)} rows of inputs"
            )
        if bool((output.detach().isnan() | output.detach().isposinf()).any()):
            raise EvidenceError(f"the network over {names} returned NaN or +inf")
