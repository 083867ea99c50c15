"""Markov random fields: normalised products of non-negative potentials."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from itertools import combinations
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Self

import networkx as nx
import torch
from torch import Tensor, nn

from pgnn.abilities import Inputs
from pgnn.errors import ImpossibleEvidence, Unsupported
from pgnn.factors.elements import Elements
from pgnn.factors.factor import Factor
from pgnn.factors.groups.factor_group import FactorGroup
from pgnn.factors.groups.grouping import grouped, merged
from pgnn.factors.piece import Settings
from pgnn.factors.potentials.conditional_potential import ConditionalPotential
from pgnn.factors.potentials.ising import Ising
from pgnn.factors.potentials.lattice import Lattice
from pgnn.factors.potentials.potential import Potential
from pgnn.factors.potentials.potts import Potts
from pgnn.factors.variable import Variable
from pgnn.graphs.moral import moral_graph
from pgnn.models.bayesian_network import BayesianNetwork
from pgnn.models.cliques import Part
from pgnn.models.model import Model
from pgnn.models.partition_verbs import over_partitions
from pgnn.models.undirected_declaration import Edges, States, check_elements, declared

if TYPE_CHECKING:
    from pgnn.inference.engine import Engine


class MarkovRandomField(Model):
    r"""An undirected model :math:`p(x) = \frac{1}{Z} \prod_f \phi_f(x_f)`.

    The ``log_evidence`` of a query, and the ``log_prob`` of most probable states, are unnormalised:
    without evidence, ``log_evidence`` is :math:`\log Z`.

    Args:
        graph: ``nx.Graph``, or edges; node attributes ``states`` (number or labels), ``shape`` (of
            an array) and ``potential``, and edge attributes ``potential`` are read. Or, instead of
            a graph, potentials and factors (log tables, taken as constants).
        potentials: For cliques of the graph, named by a tuple of nodes (or one node), a table of
            non-negative numbers in that order, a :class:`Potential`, or a callable that creates one
            from a list of variables, such as the class :class:`Ising`; or a list of potentials. An
            edge's attribute is a table in the order of the graph's nodes. Maximal cliques with an
            edge that is in no potential, and isolated nodes without potentials, have learnable
            tables.
        states: Numbers or labels of states by name, or variables (of arrays), unless they follow
            from attributes or potentials.

    Raises:
        ModelError: If the graph is directed or has a self-loop, a potential is over nodes that are
            not adjacent, states are unknown or inconsistent, or a table is invalid.

    References:
        Koller and Friedman (2009), Probabilistic graphical models, section 4.2.

    Example:
        >>> import math
        >>> model = MarkovRandomField([("a", "b")], {("a", "b"): [[1, 1], [1, math.e]]})
        >>> round(float(model.log_prob({"a": 1, "b": 1}).exp()), 4)  # e / (3 + e)
        0.4754
    """

    def __init__(
        self,
        graph: nx.Graph | Edges | Part | Iterable[Part],
        potentials: Any = None,
        states: States | None = None,
    ) -> None:
        super().__init__()
        declaration = declared(graph, potentials, states)
        self._variables = declaration.variables
        self._potentials = nn.ModuleList(declaration.potentials)
        self.graph = nx.freeze(declaration.graph)
        check_elements(declaration.potentials, self.elements)
        self._normalized = False

    @property
    def variables(self) -> Mapping[Hashable, Variable]:
        """The variables by name, in the order of the graph's nodes."""
        return MappingProxyType(self._variables)

    @property
    def potentials(self) -> tuple[Potential, ...]:
        """The potentials, in the order of their declaration."""
        return tuple(self._potentials)  # type: ignore[arg-type]

    def settings(self) -> Settings:
        """Return the edges, the potentials and the variables."""
        return {
            "graph": tuple(self.graph.edges),
            "potentials": self.potentials,
            "states": self._variables,
            "normalized": self._normalized,
        }

    @classmethod
    def from_settings(cls, settings: Settings, numbers: Mapping[str, Tensor]) -> Self:
        """Restore a field, including whether it represents a Bayesian network."""
        normalized = settings.pop("normalized", False)
        field = cls(**settings)
        field._normalized = bool(normalized)
        return field

    @property
    def input_names(self) -> tuple[Hashable, ...]:
        """Names of the covariates that potentials depend on."""
        return tuple(dict.fromkeys(name for p in self.potentials for name in p.inputs))

    def read_inputs(self, inputs: Mapping[Hashable, Any]) -> Mapping[Hashable, Any]:
        """Return covariates as numbers, in the form that the potentials use."""
        read = (p.read_inputs(inputs) for p in self.potentials)
        return {**inputs, **{name: x for part in read for name, x in part.items()}}

    @property
    def num_free_parameters(self) -> int:
        """Number of free parameters, summed over the potentials."""
        return sum(p.num_free_parameters for p in self.potentials)

    @classmethod
    def grid(
        cls,
        shape: Sequence[int],
        states: int | Iterable[Hashable] = 2,
        coupling: Any = None,
        field: Any = 0.0,
        *,
        name: Hashable = "x",
        lattice: Lattice | None = None,
    ) -> MarkovRandomField:
        """Return a field on a grid: one array variable with any number of axes.

        Args:
            shape: Lengths of the axes.
            states: Number or labels; two states are :class:`Ising` spins -1 and +1, more are
                :class:`Potts` states.
            coupling: Learnable if not given. The log of the ratio of the weights of equal and of
                different neighbours is twice this number with two states, and this number with
                more.
            field: None if not given. With two states an array of the grid's shape, half the log
                odds of the second state in each cell; with more ``(*shape, K)`` logits.
            name: Name of the variable.
            lattice: The neighbourhood of cells; adjacent ones along each axis if not given.

        Example:
            >>> MarkovRandomField.grid((3, 4), coupling=0.5).variables["x"].shape
            (3, 4)
        """
        variable = Variable(name, states, tuple(shape))
        kind = Ising if variable.num_states == 2 else Potts
        return cls([kind(variable, coupling, field, lattice or Lattice())])

    @classmethod
    def from_bayesian(cls, network: BayesianNetwork) -> MarkovRandomField:
        """Return the Markov random field of a Bayesian network, on its moral graph.

        The conditionals and their parameters are shared with the network, not copied. The
        partition function is one.

        Raises:
            Unsupported: If a variable is real.
        """
        real = [n for n, v in network.variables.items() if not v.is_discrete]
        if real:
            raise Unsupported(f"{real[0]!r} is real; a Markov random field has states only")
        potentials = [ConditionalPotential(c) for c in network.conditionals.values()]
        field = cls(moral_graph(network.graph), potentials)
        field._normalized = True
        return field

    def factors(
        self, observed: Mapping[Hashable, Tensor] | None = None, inputs: Inputs | None = None
    ) -> tuple[Factor, ...]:
        """Return the log tables over unobserved variables (see :class:`Model`).

        Each element of an array is a separate variable; for large arrays use
        :meth:`factor_groups`.
        """
        factors = [f for p in self.potentials for f in p.factors(self.elements, inputs)]
        if not self._normalized:  # tables with a child are those of a Bayesian network
            factors = [f if f.child is None else Factor(f.variables, f.log_values) for f in factors]
        if not observed:
            return tuple(factors)
        known = self._element_states(observed)
        return tuple(f.condition(known) for f in factors)

    def factor_groups(
        self, observed: Mapping[Hashable, Tensor] | None = None, inputs: Inputs | None = None
    ) -> tuple[FactorGroup, ...]:
        """Return the same tables as the groups of the potentials (see :class:`Model`)."""
        if observed:
            return grouped(self.factors(observed, inputs), self.elements)
        return merged([g for p in self.potentials for g in p.groups(self.elements, inputs)])

    def element_graph(self) -> nx.Graph:
        """Return the graph of elements, which are connected within each factor."""
        elements = self.elements
        names = [v.name for v in elements.singles]
        graph = nx.Graph()
        graph.add_nodes_from(names)
        for p in self.potentials:
            for scope in p.scopes_in(elements):
                graph.add_edges_from(combinations([names[e] for e in scope], 2))
        return graph

    def log_score(
        self, data: Any, *, inputs: Inputs | None = None, engine: Engine | None = None
    ) -> Tensor:
        r"""Return ``(N,)`` logs of :math:`\prod_f \phi_f`, missing variables summed out.

        Complete rows need only one table lookup for each factor.

        Args:
            data: As evidence in :meth:`query`.
            inputs: Covariates by name, ``(N, ...)``.
            engine: The inference engine; exact if not given.
        """
        score = self._looked_up(data, inputs)
        if score is not None:
            return score
        return self._engine(engine, inputs).log_prob(self, data, inputs=inputs)

    def log_partition(
        self, *, inputs: Inputs | None = None, engine: Engine | None = None
    ) -> Tensor:
        r"""Return the logarithm of :math:`Z = \sum_x \prod_f \phi_f(x_f)`.

        Args:
            inputs: Covariates by name; with them the result is ``(B,)``, else ``()``.
            engine: Exact if not given. Other engines give bounds or estimates, see ``query([],
                engine=engine).kind``.

        Raises:
            Intractable: If the exact answer exceeds the engine's budget.
        """
        return self._engine(engine, inputs).log_prob(self, {}, inputs=inputs)

    @over_partitions
    def log_prob(
        self, data: Any, *, inputs: Inputs | None = None, engine: Engine | None = None
    ) -> Tensor:
        """Return ``(N,)`` log probabilities, :meth:`log_score` minus :meth:`log_partition`.

        See :meth:`Model.log_prob`; the engine is used for both.

        Raises:
            ImpossibleEvidence: If the tables exclude every state.
        """
        score = self.log_score(data, inputs=inputs, engine=engine)
        log_z = self.log_partition(inputs=inputs, engine=engine)
        if bool(log_z.detach().isneginf().any()):
            raise ImpossibleEvidence("the tables exclude every state: there is no distribution")
        return score - log_z

    def extra_repr(self) -> str:
        """Return the contents of the parentheses of ``repr``."""
        arrays = "" if self.elements.plain else f" of {len(self.elements)} elements"
        return f"{len(self._variables)} variables{arrays}, {len(self._potentials)} potentials"

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.extra_repr()})"

    def _element_states(self, observed: Mapping[Hashable, Tensor]) -> dict[Hashable, Tensor]:
        """Return observed states by element, including those of arrays ``(B, *shape)``."""
        known: dict[Hashable, Tensor] = {}
        for name, states in observed.items():
            v = self._variables.get(name)
            if v is None or not v.shape:
                known[name] = states
                continue
            flat = torch.as_tensor(states).flatten(start_dim=1).unbind(dim=1)
            names = [e.name for e in Elements([v]).singles]
            known.update(zip(names, flat, strict=True))
        return known
