"""Bayesian networks with a learned recognition model (amortised inference)."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import networkx as nx
from torch import nn

from pgnn.abilities import AmortisedModel
from pgnn.errors import ModelError
from pgnn.factors.conditionals.conditional import Conditional
from pgnn.factors.piece import Settings
from pgnn.models.bayesian_network import BayesianNetwork
from pgnn.models.directed_declaration import Edges, by_name, check_known

if TYPE_CHECKING:
    from pgnn.inference.learner import Learner


class AmortisedNetwork(BayesianNetwork, AmortisedModel):
    r"""A Bayesian network with recognition conditionals :math:`q(z \mid x)`.

    Queries sample unobserved real variables ``z`` from their recognition conditionals, with
    importance weights; :class:`~pgnn.LowerBound` learns both parts jointly. The recognition of a
    latent variable may depend on others. A discrete variable with a recognition conditional, such
    as a label that few rows have, is enumerated if it is not observed; other discrete variables are
    summed out.

    Args:
        graph: See :class:`BayesianNetwork`.
        conditionals: See :class:`BayesianNetwork`.
        recognition: For each latent variable a conditional given observed variables and latent
            ones, such as :class:`Neural`.
        states: See :class:`BayesianNetwork`.

    Raises:
        ModelError: If a recognition conditional has a wrong child, or they form a cycle.

    References:
        Dayan, Hinton, Neal and Zemel (1995), The Helmholtz machine. Rezende, Mohamed and Wierstra
        (2014), Stochastic backpropagation and approximate inference in deep generative models.

    Example:
        >>> import pgnn
        >>> z, x = pgnn.Variable("z", shape=(2,)), pgnn.Variable("x", shape=(3,))
        >>> model = pgnn.AmortisedNetwork(
        ...     [("z", "x")],
        ...     {
        ...         "z": pgnn.Gaussian(z, [], [0.0, 0.0], [1.0, 1.0], pgnn.Diagonal()),
        ...         "x": pgnn.Neural(x, [z], nn.Linear(2, 3), head=pgnn.NormalHead((3,), 1.0)),
        ...     },
        ...     recognition=[pgnn.Neural(z, [x], nn.Linear(3, 4), head=pgnn.NormalHead((2,)))],
        ... )
        >>> model.query("z", {"x": [0.1, 0.2, 0.3]}).kind
        'lower bound'
    """

    def __init__(
        self,
        graph: nx.DiGraph | Edges,
        conditionals: Mapping[Hashable, Any] | Sequence[Conditional] | None = None,
        recognition: Mapping[Hashable, Conditional] | Sequence[Conditional] | None = None,
        states: Mapping[Hashable, int | Iterable[Hashable]] | None = None,
    ) -> None:
        super().__init__(graph, conditionals, states)
        by_latent = by_name(recognition, "recognition")
        check_known(by_latent, self.graph, "recognition")
        order = nx.DiGraph()
        order.add_nodes_from(by_latent)
        for name, conditional in by_latent.items():
            self._check_recognition(name, conditional)
            order.add_edges_from((v.name, name) for v in conditional.parents)
        if not nx.is_directed_acyclic_graph(order):
            raise ModelError(f"the recognition of {list(by_latent)} depends on itself")
        ordered = nx.lexicographical_topological_sort(order, key=repr)
        self._recognition = {n: by_latent[n] for n in ordered if n in by_latent}
        self._recognition_in_order = nn.ModuleList(self._recognition.values())

    def _check_recognition(self, name: Hashable, conditional: Any) -> None:
        if not isinstance(conditional, Conditional) or conditional.child != self.variables[name]:
            raise ModelError(
                f"the recognition of {name!r} must be a conditional of {self.variables[name]!r}, "
                f"such as pgnn.Neural(...), got {conditional!r}"
            )
        if self.variables[name].is_discrete and self.variables[name].shape:
            raise ModelError(
                f"{name!r} is an array of discrete variables, which cannot have a recognition "
                "conditional"
            )
        check_known({v.name: v for v in conditional.parents}, self.graph, "a parent")

    @property
    def recognition(self) -> Mapping[Hashable, Conditional]:
        """The conditionals that approximate the posterior, by latent variable, parents first."""
        return MappingProxyType(self._recognition)

    def settings(self) -> Settings:
        """Return the edges, the conditionals and the recognition."""
        return super().settings() | {"recognition": {**self._recognition}}

    def default_learner(self, data: Any) -> Learner:
        """Return the lower bound's; see :meth:`Model.default_learner`."""
        from pgnn.inference.continuous.lower_bound import LowerBound

        return LowerBound()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.extra_repr()})"
