"""Bayesian networks: directed acyclic graphs with a conditional for every node."""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

import networkx as nx
from torch import Tensor, nn

from pgnn.abilities import Inputs, NetworkModel
from pgnn.errors import ModelError
from pgnn.evidence.states import states_of
from pgnn.evidence.wrappers import codes as state_indices
from pgnn.factors.conditionals.checks import check_no_arrays
from pgnn.factors.conditionals.conditional import Conditional
from pgnn.factors.factor import Factor
from pgnn.factors.finite import has_nan
from pgnn.factors.gaussians.hidden_reals import HiddenReals, RememberedReals
from pgnn.factors.groups.conditional_group import ConditionalGroup, is_large
from pgnn.factors.groups.factor_group import FactorGroup
from pgnn.factors.groups.gaussian_group import GaussianGroup
from pgnn.factors.groups.grouping import Grouping, grouped
from pgnn.factors.piece import Settings
from pgnn.factors.variable import Variable
from pgnn.graphs.checks import check_directed_acyclic
from pgnn.models.declared_conditional import makes_reals, no_real_column
from pgnn.models.directed_declaration import (
    Edges,
    by_name,
    check_known,
    check_spelling,
    conditional_of,
    declare,
    declared_by_children,
    event_shape,
    is_declared,
    listed_edges,
    read_graph,
    variable_of,
)
from pgnn.models.interventions import intervened
from pgnn.models.model import Model

if TYPE_CHECKING:
    pass


class Undeclared(NamedTuple):
    """The arguments of a network that is declared once data determines the missing states.

    Attributes:
        conditionals: Conditionals, tables and callables by name.
        states: Known states by name.
        unknown: Names of the variables whose states are unknown.
        normalise: Whether rows of tables are weights.
    """

    conditionals: Mapping[Hashable, Any]
    states: Mapping[Hashable, Any]
    unknown: list[Hashable]
    normalise: bool


class BayesianNetwork(Model, NetworkModel):
    r"""A directed model :math:`p(x) = \prod_i p(x_i \mid x_{\mathrm{pa}(i)})` (Pearl 1988).

    Args:
        graph: ``nx.DiGraph``, or edges ``(parent, child)``. Node attributes ``states`` (number or
            labels), ``shape`` (of a real variable) and ``conditional`` are read.
        conditionals: For each node a :class:`Conditional`, a table (parents in the order of the
            graph's edges, child last), or a callable ``(child, parents) -> Conditional`` such as
            the class :class:`Sigmoid`. Missing ones are learnable: a table, or a
            :class:`LinearGaussian` of a real variable.
        states: Numbers or labels of states by name, or variables such as :func:`~pgnn.states_of`
            returns, if the graph has no such attributes. :meth:`fit` derives undeclared states from
            the data.
        normalise: Whether rows of the tables are weights (rounded numbers, percentages, counts),
            to be divided by their sum.
        latents: Names of variables that are never observed, in addition to nodes with the attribute
            ``latent``.

    Raises:
        ModelError: If there is a cycle, a conditional does not fit the graph, or a table is wrong;
            the message names the variable.

    Example:
        >>> import networkx as nx
        >>> graph = nx.DiGraph([("rain", "wet")])
        >>> model = BayesianNetwork(
        ...     graph,
        ...     {"rain": [0.8, 0.2], "wet": [[0.9, 0.1], [0.1, 0.9]]},
        ...     states={"rain": ["no", "yes"], "wet": ["no", "yes"]},
        ... )
        >>> model.query("rain", {"wet": "yes"})["rain"].probs
        tensor([0.3077, 0.6923], dtype=torch.float64)
    """

    graph: nx.DiGraph
    _undeclared: Undeclared | None

    def __init__(
        self,
        graph: nx.DiGraph | Edges,
        conditionals: Mapping[Hashable, Any] | Sequence[Conditional] | None = None,
        states: Mapping[Hashable, int | Iterable[Hashable]] | None = None,
        *,
        normalise: bool = False,
        latents: Iterable[Hashable] = (),
    ) -> None:
        super().__init__()
        pieces, known = by_name(conditionals, "conditionals"), by_name(states, "states")
        edges = listed_edges(graph)
        self.graph = read_graph(edges, [*known, *pieces])
        check_directed_acyclic(self.graph)
        check_known(pieces, self.graph, "a conditional")
        check_known(known, self.graph, "states")
        if not isinstance(graph, nx.Graph):
            isolated = [n for n in self.graph if not self.graph.degree(n)]
            joined = [n for n in self.graph if self.graph.degree(n)]
            check_spelling(joined, pieces, isolated, "a conditional")
            check_spelling(joined, known, isolated, "states")
        for name, attributes in self.graph.nodes(data=True):
            if "conditional" in attributes:
                pieces.setdefault(name, attributes["conditional"])
        hidden = dict.fromkeys(latents, True)
        check_known(hidden, self.graph, "latents=")
        nx.set_node_attributes(self.graph, hidden, "latent")
        self.graph = nx.freeze(self.graph)
        self._undeclared = None
        known = {**declared_by_children(self.graph, pieces), **known}
        unknown = [n for n in self.graph if not is_declared(n, self.graph, pieces, known)]
        if unknown:  # known states are checked now, not only once there is data
            known = {n: x if x is None else variable_of(n, x) for n, x in known.items()}
            self._undeclared = Undeclared(pieces, known, unknown, normalise)
        else:
            self._declare(pieces, known, normalise)

    def _declare(
        self, conditionals: Mapping[Hashable, Any], states: Mapping[Hashable, Any], normalise: bool
    ) -> None:
        """Create the variables and the conditionals."""
        graph = self.graph
        variables = {n: declare(n, graph, conditionals, states) for n in graph}
        self._variables = variables
        self._conditionals = {
            n: conditional_of(n, graph, variables, conditionals.get(n), normalise) for n in graph
        }
        for c in self._conditionals.values():
            check_no_arrays(c.parents, f"of which {c.child.name!r} cannot depend; declare it real")
        self._modules_in_order = nn.ModuleList(self._conditionals.values())
        self._undeclared = None

    @property
    def is_declared(self) -> bool:
        """Whether all states and shapes are known."""
        return self._undeclared is None

    def _check_declared(self) -> None:
        if self._undeclared is not None:
            name = self._undeclared.unknown[0]
            if makes_reals(self._undeclared.conditionals.get(name)):
                raise ModelError(
                    f"the shape of {name!r} is not known",
                    "fit the model to data first, which determines it, or give a conditional of "
                    f"pgnn.Variable({name!r}, shape=...)",
                )
            raise ModelError(
                f"the states of {name!r} are not known",
                f"give {self._how_declared(name)}, or fit the model to data first, which "
                "determines them",
            )

    @property
    def variables(self) -> Mapping[Hashable, Variable]:
        """The variables by name, in the order of the graph's nodes."""
        self._check_declared()
        return MappingProxyType(self._variables)

    @property
    def conditionals(self) -> Mapping[Hashable, Conditional]:
        """The conditional of each variable."""
        self._check_declared()
        return MappingProxyType(self._conditionals)

    def settings(self) -> Settings:
        """Return the edges and the conditionals."""
        edges, latents = tuple(self.graph.edges), tuple(self.latents)
        settings: Settings = {"graph": edges, "conditionals": {**self.conditionals}}
        return settings | ({"latents": latents} if latents else {})

    @property
    def latents(self) -> list[Hashable]:
        """Names of the variables declared as never observed."""
        return [name for name, latent in self.graph.nodes(data="latent") if latent]

    @cached_property
    def order(self) -> tuple[Hashable, ...]:
        """The variables, parents before children."""
        return tuple(nx.topological_sort(self.graph))

    @property
    def num_free_parameters(self) -> int:
        """Number of free parameters, summed over the conditionals."""
        return sum(c.num_free_parameters for c in self._conditionals.values())

    def factors(
        self, observed: Mapping[Hashable, Tensor] | None = None, inputs: Inputs | None = None
    ) -> tuple[Factor, ...]:
        """One log table over unobserved variables for each conditional (see :class:`Model`).

        Unobserved real variables without observed descendants integrate to one and are left out;
        this holds per row for values missing in some rows (``NaN``). Others are integrated out if
        all their conditionals are linear Gaussian: each of their connected components becomes one
        table over the discrete variables on which it depends.
        """
        known, hidden = observed or {}, self._hidden_reals(observed or {})
        plain = [
            f for m in self._lowered(known, hidden) for f in self._tables(*m, observed, inputs)
        ]
        groups = [GaussianGroup.of(c, self.elements, known) for c in hidden.components]
        return (*plain, *(f for g in groups for f in g.factors(self.elements)))

    def factor_groups(
        self, observed: Mapping[Hashable, Tensor] | None = None, inputs: Inputs | None = None
    ) -> tuple[FactorGroup, ...]:
        """Return the network as factor groups; conditionals with large tables stay conditionals."""
        known, hidden = observed or {}, self._hidden_reals(observed or {})
        large: list[FactorGroup] = []
        tables = []
        for conditional, missing_rows in self._lowered(known, hidden):
            if missing_rows is None and is_large(conditional, known):
                scope = [
                    int(self.elements.numbers(v.name))
                    for v in conditional.scope
                    if v.name not in known
                ]
                large.append(ConditionalGroup(conditional, scope, observed, inputs))
            else:
                tables += self._tables(conditional, missing_rows, observed, inputs)
        for component in hidden.components:
            group = GaussianGroup.of(component, self.elements, known)
            if group.is_large:
                large.append(group)
            else:
                tables += group.factors(self.elements)
        groupings: deque[Grouping] = self.cached("groupings", lambda: deque(maxlen=4))
        return (*grouped(tables, self.elements, groupings), *large)

    @property
    def _reals(self) -> frozenset[Hashable]:
        """Names of the real variables."""
        names: frozenset[Hashable] = self.cached(
            "reals", lambda: frozenset(n for n, v in self._variables.items() if not v.is_discrete)
        )
        return names

    def _hidden_reals(self, observed: Mapping[Hashable, Tensor]) -> HiddenReals:
        """Return how unobserved real variables are left out or integrated out."""
        real = self._reals.intersection(observed)
        partly = {n for n in real if has_nan(observed[n])}
        known: RememberedReals = self.cached("hidden reals", RememberedReals)
        return known.of(self._conditionals, real, partly)

    def _lowered(
        self, observed: Mapping[Hashable, Tensor], hidden: HiddenReals
    ) -> list[tuple[Conditional, Tensor | None]]:
        """Return conditionals that become tables, with the rows in which the child is missing."""
        eliminated = hidden.left_out | hidden.integrated
        lowered: list[tuple[Conditional, Tensor | None]] = []
        for name, c in self._conditionals.items():
            if name in eliminated:
                continue
            missing_rows = None
            # some conditionals integrate missing entries of a vector out themselves
            known = name in observed and name in self._reals
            if known and not c.integrates_missing and has_nan(observed[name]):
                missing = observed[name].detach().isnan().unsqueeze(1).flatten(start_dim=1)
                missing_rows = missing.any(dim=1)
            lowered.append((c, missing_rows))
        return lowered

    @staticmethod
    def _tables(
        conditional: Conditional,
        missing_rows: Tensor | None,
        observed: Mapping[Hashable, Tensor] | None,
        inputs: Inputs | None,
    ) -> list[Factor]:
        """Return a conditional's tables, which are one in rows where a real child is missing."""
        name = conditional.child.name
        if missing_rows is not None and observed:
            observed = {**observed, name: observed[name].nan_to_num()}
        tables = []
        for f in conditional.tables(observed, inputs):
            table = f.log_values
            if missing_rows is not None:
                rows = missing_rows.to(table.device)
                table = table.masked_fill(rows.reshape(-1, *[1] * (table.dim() - 1)), 0.0)
            child = None if observed and name in observed else f.variables[-1].name
            tables.append(Factor(f.variables, table, child))
        return tables

    @contextmanager
    def _declared_by(
        self, data: Any, weights: Any, inputs: Inputs | None
    ) -> Iterator[tuple[Any, Inputs | None]]:
        """See :class:`LearningVerbs`; states and shapes are derived from the columns.

        Raises:
            ModelError: If the data has no column for an undeclared variable.
        """
        undeclared = self._undeclared
        if undeclared is not None:
            columns = self._columns(data)
            hidden = [n for n in undeclared.unknown if n not in columns]
            if hidden:
                if makes_reals(undeclared.conditionals.get(hidden[0])):
                    raise no_real_column(hidden[0], [*columns])
                raise ModelError(
                    f"the states of {hidden[0]!r} are not known and the data has no such column",
                    f"give {self._how_declared(hidden[0])}",
                )
            from_data = self._variables_from({n: columns[n] for n in undeclared.unknown})
            known = {**undeclared.states, **from_data}
            self._declare(undeclared.conditionals, known, undeclared.normalise)
        try:
            yield data, inputs
        except BaseException:
            self._undeclared = undeclared
            raise

    def _how_declared(self, name: Hashable) -> str:
        """Advice how the states of a variable are given."""
        return f"states={{{name!r}: ...}}"

    def _variables_from(self, columns: Mapping[Hashable, Any]) -> Mapping[Hashable, Variable]:
        """Return the variables of columns that were not declared."""
        pieces = {} if self._undeclared is None else self._undeclared.conditionals
        reals = {n: x for n, x in columns.items() if makes_reals(pieces.get(n))}
        states = states_of({n: x for n, x in columns.items() if n not in reals})
        return {**states, **{n: Variable(n, None, event_shape(n, x)) for n, x in reals.items()}}

    def with_conditionals(self, conditionals: Mapping[Hashable, Conditional]) -> BayesianNetwork:
        """Return a network with other conditionals on the same graph; see the base class."""
        return BayesianNetwork(self.graph, conditionals)

    def do(self, interventions: Mapping[Hashable, Any] | Iterable[Hashable]) -> BayesianNetwork:
        r"""Return the model after an intervention on some variables (Pearl 2009, 3.2 and 4.2).

        The edges into each of these variables are removed and its conditional is replaced, by a
        point mass for a state, so that ``model.do({"x": 1}).query("y")`` is
        :math:`p(y \mid \mathrm{do}(x = 1))`. The other conditionals are shared with this model.

        Args:
            interventions: Mapping from the name of a variable to a state (label or index), or the
                value of a real variable, which is then observed in every row; to a distribution, a
                mapping from labels to probabilities or ``(K,)`` floats; or to a policy, a
                conditional given other variables of the model. Alternatively names alone, whose
                variables are set to each state with equal probability, as in a randomised trial,
                while real ones only lose their edges. The state or value set in each row is then
                given as evidence: ``model.do(["x"]).query("y", {"x": [0, 1, 1]})``.
                Rows of an experiment are learned from in the same way, after ``do(["x"])``; a
                variable that was set to one value gives all other values the probability zero,
                and ``fit`` refuses such rows.

        Raises:
            EvidenceError: If a variable or state is unknown, or several values are given.
            ModelError: If an array of states is given no conditional, a distribution does not
                sum to one, or a policy creates a cycle.

        Example:
            >>> tables = {"a": [0.5, 0.5], "b": [[0.9, 0.1], [0.2, 0.8]]}
            >>> model = BayesianNetwork([("a", "b")], tables)
            >>> model.do({"b": 1}).query("a")["a"].probs
            tensor([0.5000, 0.5000], dtype=torch.float64)
            >>> model.do({"a": {0: 0.9, 1: 0.1}}).query("b")["b"].probs
            tensor([0.8300, 0.1700], dtype=torch.float64)
        """
        after = intervened(self.graph, self.conditionals, interventions)
        return BayesianNetwork(*after, latents=self.latents)

    def forward(self, codes: Tensor) -> Tensor:
        """Return log probabilities of ``(B, V)`` state indices in the order of the variables."""
        return self.log_prob(state_indices(codes))

    def extra_repr(self) -> str:
        """Return the sizes for printing."""
        return f"{len(self.graph)} variables, {self.graph.number_of_edges()} edges"

    def __repr__(self) -> str:
        return f"BayesianNetwork({self.extra_repr()})"
