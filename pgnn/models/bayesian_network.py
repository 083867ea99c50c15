"""Bayesian networks: directed acyclic graphs with a conditional at every node."""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import networkx as nx
from torch import Tensor, nn

from pgnn.abilities import Inputs, NetworkModel
from pgnn.errors import ModelError
from pgnn.evidence.states import states_of
from pgnn.evidence.wrappers import codes as state_indices
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
from pgnn.models.directed_declaration import (
    Edges,
    by_name,
    check_known,
    check_spelling,
    conditional_of,
    declare,
    event_shape,
    is_told,
    listed_edges,
    makes_reals,
    read_graph,
    told_by_children,
    variable_of,
)
from pgnn.models.interventions import intervened
from pgnn.models.model import Model

if TYPE_CHECKING:
    from pgnn.inference.learner import Learner


class Undeclared(NamedTuple):
    """What a network is made of once data tells the states that are missing.

    Attributes:
        given: Conditionals, tables and callables by name.
        states: Those that are known.
        unknown: Names of the variables whose states are not.
        normalise: Whether rows of tables are weights.
    """

    given: Mapping[Hashable, Any]
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
            the class :class:`Sigmoid`. What is missing is learnable: a table, or a
            :class:`LinearGaussian` of a real variable.
        states: Numbers or labels of states by name, or whole variables such as
            :func:`~pgnn.states_of` returns, where the graph does not carry them. What nothing
            tells, :meth:`fit` finds in the data.
        normalise: Whether rows of the tables are weights (rounded numbers, percentages, counts),
            each to be divided by its sum.
        latents: Names of variables that are never seen; those with a node attribute ``latent``
            are too.

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
        given, told = by_name(conditionals, "conditionals"), by_name(states, "states")
        edges = listed_edges(graph)
        self.graph = read_graph(edges, [*told, *given])
        check_directed_acyclic(self.graph)
        check_known(given, self.graph, "a conditional")
        check_known(told, self.graph, "states")
        if not isinstance(graph, nx.Graph):
            stray = [n for n in self.graph if not self.graph.degree(n)]
            joined = [n for n in self.graph if self.graph.degree(n)]
            check_spelling(joined, given, stray, "a conditional")
            check_spelling(joined, told, stray, "states")
        for name, attributes in self.graph.nodes(data=True):
            if "conditional" in attributes:
                given.setdefault(name, attributes["conditional"])
        hidden = dict.fromkeys(latents, True)
        check_known(hidden, self.graph, "latents=")
        nx.set_node_attributes(self.graph, hidden, "latent")
        self.graph = nx.freeze(self.graph)
        self._undeclared = None
        told = {**told_by_children(self.graph, given), **told}
        unknown = [n for n in self.graph if not is_told(n, self.graph, given, told)]
        if unknown:  # what is told is checked now, not when data tells the rest
            told = {n: x if x is None else variable_of(n, x) for n, x in told.items()}
            self._undeclared = Undeclared(given, told, unknown, normalise)
        else:
            self._declare(given, told, normalise)

    def _declare(
        self, given: Mapping[Hashable, Any], states: Mapping[Hashable, Any], normalise: bool
    ) -> None:
        """Make the variables and the conditionals."""
        graph = self.graph
        variables = {n: declare(n, graph, given, states) for n in graph}
        conditionals = {
            n: conditional_of(n, graph, variables, given.get(n), normalise) for n in graph
        }
        self._variables, self._conditionals = variables, conditionals
        self._modules_in_order = nn.ModuleList(conditionals.values())
        self._undeclared = None

    def _check_declared(self) -> None:
        if self._undeclared is not None:
            name = self._undeclared.unknown[0]
            raise ModelError(
                f"the states of {name!r} are not known; give states={{{name!r}: ...}}, or fit the "
                "model to data first, which tells them"
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
        own: Settings = {"graph": tuple(self.graph.edges), "conditionals": {**self.conditionals}}
        return own | ({"latents": tuple(self.latents)} if self.latents else {})

    @property
    def latents(self) -> list[Hashable]:
        """Names of the variables that were declared to be never seen."""
        return [name for name, latent in self.graph.nodes(data="latent") if latent]

    @cached_property
    def order(self) -> tuple[Hashable, ...]:
        """The variables, parents before children."""
        return tuple(nx.topological_sort(self.graph))

    @property
    def num_free_parameters(self) -> int:
        """How many numbers may be chosen freely, summed over the conditionals."""
        return sum(c.num_free_parameters for c in self._conditionals.values())

    def factors(
        self, observed: Mapping[Hashable, Tensor] | None = None, inputs: Inputs | None = None
    ) -> tuple[Factor, ...]:
        """One log table for each conditional, over what is not observed (see :class:`Model`).

        Real variables that nobody observes and on which nothing observed depends integrate to one
        and are left out; so do those that some rows do not observe (``NaN``), in these rows. Others
        are integrated out if all their conditionals are linear Gaussian: those that hang together
        make one table over the discrete variables that they depend on.
        """
        seen, hidden = observed or {}, self._hidden_reals(observed or {})
        plain = [self._factor(*m, observed, inputs) for m in self._lowered(seen, hidden)]
        groups = [GaussianGroup.of(c, self.elements, seen) for c in hidden.components]
        return (*plain, *(f for g in groups for f in g.factors(self.elements)))

    def factor_groups(
        self, observed: Mapping[Hashable, Tensor] | None = None, inputs: Inputs | None = None
    ) -> tuple[FactorGroup, ...]:
        """Lower the network to groups; conditionals with large tables are not written down."""
        seen, hidden = observed or {}, self._hidden_reals(observed or {})
        whole: list[FactorGroup] = []
        tables = []
        for conditional, unseen in self._lowered(seen, hidden):
            if unseen is None and is_large(conditional, seen):
                scope = [
                    int(self.elements.numbers(v.name))
                    for v in conditional.scope
                    if v.name not in seen
                ]
                whole.append(ConditionalGroup(conditional, scope, observed, inputs))
            else:
                tables.append(self._factor(conditional, unseen, observed, inputs))
        for component in hidden.components:
            group = GaussianGroup.of(component, self.elements, seen)
            if group.is_large:
                whole.append(group)
            else:
                tables += group.factors(self.elements)
        known: deque[Grouping] = self.cached("groupings", lambda: deque(maxlen=4))
        return (*grouped(tables, self.elements, known), *whole)

    @property
    def _reals(self) -> frozenset[Hashable]:
        """Names of the real variables."""
        names: frozenset[Hashable] = self.cached(
            "reals", lambda: frozenset(n for n, v in self._variables.items() if not v.is_discrete)
        )
        return names

    def _hidden_reals(self, observed: Mapping[Hashable, Tensor]) -> HiddenReals:
        """What becomes of real variables that were not seen."""
        seen = self._reals.intersection(observed)
        partly = {n for n in seen if has_nan(observed[n])}
        known: RememberedReals = self.cached("hidden reals", RememberedReals)
        return known.of(self._conditionals, seen, partly)

    def _lowered(
        self, observed: Mapping[Hashable, Tensor], hidden: HiddenReals
    ) -> list[tuple[Conditional, Tensor | None]]:
        """The conditionals with tables of their own, with the rows that did not see the child."""
        gone = hidden.left_out | hidden.integrated
        made: list[tuple[Conditional, Tensor | None]] = []
        for name, c in self._conditionals.items():
            if name in gone:
                continue
            unseen = None
            # conditionals that integrate out what is missing of a vector are left to do so
            known = name in observed and name in self._reals
            if known and not c.integrates_missing and has_nan(observed[name]):
                missing = observed[name].detach().isnan().unsqueeze(1).flatten(start_dim=1)
                unseen = missing.any(dim=1)
            made.append((c, unseen))
        return made

    @staticmethod
    def _factor(
        conditional: Conditional,
        unseen: Tensor | None,
        observed: Mapping[Hashable, Tensor] | None,
        inputs: Inputs | None,
    ) -> Factor:
        """A conditional's table; a density of what was not seen integrates to one."""
        name = conditional.child.name
        if unseen is not None and observed:
            observed = {**observed, name: observed[name].nan_to_num()}
        f = conditional.factor(observed, inputs)
        table = f.log_values
        if unseen is not None:
            rows = unseen.to(table.device)
            table = table.masked_fill(rows.reshape(-1, *[1] * (table.dim() - 1)), 0.0)
        return Factor(f.variables, table, None if observed and name in observed else name)

    def fit(
        self,
        data: Any,
        *,
        learner: Learner | None = None,
        weights: Any = None,
        inputs: Inputs | None = None,
        seed: int | None = None,
        progress: bool = True,
    ) -> Self:
        """Fit the parameters to data, which also tells states that were not declared.

        See :meth:`Model.fit`.

        Raises:
            ModelError: If states are not known and the data does not tell them.
        """
        rest: dict[str, Any] = {"inputs": inputs, "seed": seed, "progress": progress}
        with self._declared_by(data):
            return super().fit(data, learner=learner, weights=weights, **rest)

    def partial_fit(
        self,
        data: Any,
        *,
        learner: Learner | None = None,
        weights: Any = None,
        inputs: Inputs | None = None,
        seed: int | None = None,
    ) -> Self:
        """Go on learning from one batch more; see :meth:`Model.partial_fit`."""
        rest: dict[str, Any] = {"inputs": inputs, "seed": seed}
        with self._declared_by(data):
            return super().partial_fit(data, learner=learner, weights=weights, **rest)

    @contextmanager
    def _declared_by(self, data: Any) -> Iterator[None]:
        """Have data tell what was not declared; it stays so if all goes well.

        Raises:
            ModelError: If the data does not tell it.
        """
        undeclared = self._undeclared
        if undeclared is not None:
            columns = self._columns(data)
            hidden = [n for n in undeclared.unknown if n not in columns]
            if hidden:
                raise ModelError(
                    f"the states of {hidden[0]!r} are not known and the data has no such column; "
                    f"give states={{{hidden[0]!r}: ...}}"
                )
            from_data = self._found_in({n: columns[n] for n in undeclared.unknown})
            known = {**undeclared.states, **from_data}
            self._declare(undeclared.given, known, undeclared.normalise)
        try:
            yield
        except BaseException:
            self._undeclared = undeclared
            raise

    def _found_in(self, columns: Mapping[Hashable, Any]) -> Mapping[Hashable, Variable]:
        """The variables that were not declared, as their columns tell them."""
        given = {} if self._undeclared is None else self._undeclared.given
        reals = {n: x for n, x in columns.items() if makes_reals(given.get(n))}
        states = states_of({n: x for n, x in columns.items() if n not in reals})
        return {**states, **{n: Variable(n, None, event_shape(x)) for n, x in reals.items()}}

    def with_conditionals(self, conditionals: Mapping[Hashable, Conditional]) -> BayesianNetwork:
        """Return the network with other conditionals on the same graph; see the base class."""
        return BayesianNetwork(self.graph, conditionals)

    def do(self, interventions: Mapping[Hashable, Any] | Iterable[Hashable]) -> BayesianNetwork:
        r"""Return the model in which some variables are set from outside (Pearl 2009, 3.2 and 4.2).

        The edges into each set variable are cut and it gets another conditional, a point mass for
        a state, so that ``model.do({"x": 1}).query("y")`` is :math:`p(y \mid \mathrm{do}(x = 1))`.
        The other conditionals are shared with this model, not copied.

        Args:
            interventions: By name of a variable a state of it (label or index); a distribution, as
                a mapping from labels to probabilities or as ``(K,)`` floats; or a policy, a
                conditional of it given other variables of the model. Or names alone: these are set
                at random, each state as likely as the others, as in a randomised trial. What they
                were set to is then evidence like any other, for a state in each row:
                ``model.do(["x"]).query("y", {"x": [0, 1, 1]})``.

        Raises:
            EvidenceError: If a variable or state is unknown, or several states are given.
            ModelError: If a variable is real and is given no conditional, a distribution does not
                sum to one, or a policy makes a cycle.

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
        """Log probabilities of rows of state indices, ``(B, V)`` in the order of the variables."""
        return self.log_prob(state_indices(codes))

    def extra_repr(self) -> str:
        """Sizes, for printing."""
        return f"{len(self.graph)} variables, {self.graph.number_of_edges()} edges"

    def __repr__(self) -> str:
        return f"BayesianNetwork({self.extra_repr()})"
