"""Markov random fields: products of non-negative tables."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from itertools import combinations
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import networkx as nx
from torch import Tensor, nn

from pgnn.errors import ModelError
from pgnn.factors.factor import Factor
from pgnn.factors.variable import Variable
from pgnn.models.base import Inputs, Model

if TYPE_CHECKING:
    from pgnn.inference.engine import Engine


class MarkovRandomField(Model):
    r"""An undirected model :math:`p(x) = \frac{1}{Z} \prod_f \phi_f(x_f)`.

    The ``log_evidence`` of a query, and the ``log_prob`` of most probable states, leave the
    normaliser :math:`Z` out: without evidence, ``log_evidence`` is :math:`\log Z`.

    Args:
        factors: Log tables over discrete variables; constants.

    Raises:
        ModelError: If two factors disagree about a variable, or there is none.

    Example:
        >>> import torch
        >>> a, b = Variable("a", 2), Variable("b", 2)
        >>> model = MarkovRandomField([Factor([a, b], torch.tensor([[0.0, 0.0], [0.0, 1.0]]))])
        >>> round(float(model.query("a")["a"].probs[1]), 4)
        0.6502
    """

    def __init__(self, factors: Iterable[Factor]) -> None:
        super().__init__()
        given = tuple(factors)
        variables: dict[Hashable, Variable] = {}
        for factor in given:
            for v in factor.variables:
                if variables.setdefault(v.name, v) != v:
                    raise ModelError(f"factors disagree: {variables[v.name]} and {v}")
        if not variables:
            raise ModelError("a Markov random field needs at least one factor over a variable")
        self._variables = _in_order(variables)
        self._scopes = tuple(f.variables for f in given)
        self._tables = nn.ParameterList(
            nn.Parameter(f.log_values.detach().clone(), requires_grad=False) for f in given
        )
        self.graph = nx.Graph()
        self.graph.add_nodes_from(self._variables)
        for factor in given:
            self.graph.add_edges_from(combinations(factor.names, 2))

    @property
    def variables(self) -> Mapping[Hashable, Variable]:
        """The variables by name."""
        return MappingProxyType(self._variables)

    def factors(
        self, observed: Mapping[Hashable, Tensor] | None = None, inputs: Inputs | None = None
    ) -> tuple[Factor, ...]:
        """The log tables, over what is not observed (see :class:`Model`)."""
        # copies, so that an answer keeps its numbers when the parameters change
        made = [Factor(s, t.clone()) for s, t in zip(self._scopes, self._tables, strict=True)]
        return tuple(f.condition(observed) if observed else f for f in made)

    def log_score(self, data: Any, *, engine: Engine | None = None) -> Tensor:
        r"""Return ``(N,)`` logs of :math:`\prod_f \phi_f`, what is missing summed out."""
        return super().log_prob(data, engine=engine)

    def log_partition(self, *, engine: Engine | None = None) -> Tensor:
        r"""Return ``()`` the logarithm of :math:`Z = \sum_x \prod_f \phi_f(x_f)`."""
        return super().log_prob({}, engine=engine)

    def log_prob(
        self, data: Any, *, inputs: Inputs | None = None, engine: Engine | None = None
    ) -> Tensor:
        """Return ``(N,)`` log probabilities; see :meth:`Model.log_prob`."""
        return self.log_score(data, engine=engine) - self.log_partition(engine=engine)


def _in_order(variables: dict[Hashable, Variable]) -> dict[Hashable, Variable]:
    """Numbered variables come in numeric order, others as they first occur."""
    if all(isinstance(name, int) for name in variables):
        return dict(sorted(variables.items()))
    return variables
