"""Dynamic Bayesian networks."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, TypeGuard

import networkx as nx

from pgnn.errors import ModelError, closest
from pgnn.factors.conditionals.conditional import Conditional
from pgnn.factors.piece import Settings
from pgnn.factors.time_steps import has_lag, lagged, lagged_name, without_lag
from pgnn.factors.variable import Variable
from pgnn.models.directed_declaration import (
    Edges,
    by_name,
    conditional_of,
    declare,
    listed_edges,
    read_graph,
)
from pgnn.models.repeated_slice import RepeatedSlice

if TYPE_CHECKING:
    from pgnn.inference.learner import Learner


class DynamicBayesianNetwork(RepeatedSlice):
    r"""Dynamic Bayesian network: a directed network whose time slice is repeated.

    .. math:: p(x_{1:T}) = \prod_i p_1(x_{1,i} \mid \mathrm{pa})
        \prod_{t=2}^T \prod_i p(x_{t,i} \mid \mathrm{pa}(x_{t,i}))

    Args:
        graph: ``nx.DiGraph``, or edges. Nodes are the variables of a slice, and ``(name, -1)``
            those of the previous slice; or all nodes are ``(name, 0)`` and ``(name, 1)``. Node
            attributes ``states``, ``shape`` and ``conditional`` are read as in a
            :class:`BayesianNetwork`.
        conditionals: Conditionals of each variable given its parents in its own slice and the one
            before: a conditional, a table (parents in the order of the graph's edges, child last)
            or a callable. Missing ones are learnable tables.
        initial: Conditionals of the first slice, given the parents in it; only for variables with
            parents in the previous slice. Missing ones are learnable tables.
        states: Numbers or labels of states by name, unless they are node attributes.
        normalise: Whether rows of the tables are weights (rounded numbers, percentages, counts),
            each to be divided by its sum.

    Inference is exact: by a chain over the joint states of the interface, the variables with
    children in the next slice; if these are too many, in the unrolled network. If unobserved real
    variables have children, as in a state-space model, the default is a particle filter
    (:class:`SequentialMonteCarlo`); for linear Gaussian ones the exact Kalman filter, and with
    switching discrete states an approximation by few normal distributions
    (:class:`SwitchingKalmanFilter`). ``engine=BoyenKoller()`` filters with factorised beliefs.
    :meth:`fit` counts complete data, and uses :class:`EM` for hidden variables or missing values.

    Raises:
        ModelError: If a slice has a cycle, an edge goes back in time or over more than one step, a
            conditional has wrong variables, or states are unknown.

    References:
        Dean & Kanazawa (1989), A model for reasoning about persistence and causation; Murphy
        (2002), Dynamic Bayesian networks.

    Example:
        >>> model = DynamicBayesianNetwork(
        ...     [(("rain", -1), "rain"), ("rain", "umbrella")],
        ...     {"rain": [[0.7, 0.3], [0.3, 0.7]], "umbrella": [[0.8, 0.2], [0.1, 0.9]]},
        ...     initial={"rain": [0.5, 0.5]},
        ...     states={"rain": ["no", "yes"], "umbrella": ["no", "yes"]},
        ... )
        >>> model.filter({"umbrella": ["yes", "yes"]})["rain"].probs[:, 1]
        tensor([0.8182, 0.8834], dtype=torch.float64)
        >>> model.decode({"umbrella": ["yes", "yes", "no"]})["rain"].tolist()
        ['yes', 'yes', 'no']
    """

    def __init__(
        self,
        graph: nx.DiGraph | Edges,
        conditionals: Mapping[Hashable, Any] | None = None,
        initial: Mapping[Hashable, Any] | None = None,
        states: Mapping[Hashable, int | Iterable[Hashable]] | None = None,
        *,
        normalise: bool = False,
    ) -> None:
        declared, declared_states = by_name(conditionals, "conditionals"), by_name(states, "states")
        first = by_name(initial, "initial conditionals")
        edges = listed_edges(graph)
        drawn = read_graph(edges, [])
        if len(drawn) and all(_is_numbered(n) for n in drawn):
            graph = _renamed(drawn)
            first |= {n[0]: c for n, c in declared.items() if _is_numbered(n) and not n[1]}
            declared = {
                n[0] if _is_numbered(n) else n: c for n, c in declared.items() if _is_late(n)
            }
            declared_states = {
                n[0] if _is_numbered(n) else n: s for n, s in declared_states.items()
            }
        else:
            graph = read_graph(edges, [*declared_states, *declared])
        names = _check(graph)
        for what, mapping in (
            ("a conditional", declared),
            ("states", declared_states),
            ("an initial conditional", first),
        ):
            for name in mapping:
                if name not in names:
                    hint = closest(name, names)
                    raise ModelError(
                        f"{what} is given for {name!r}, which is not a variable of the slice{hint}"
                    )
        for name in names:
            if "conditional" in graph.nodes[name]:
                declared.setdefault(name, graph.nodes[name]["conditional"])
        variables = {n: declare(n, graph, declared, declared_states) for n in names}
        scope: dict[Hashable, Variable] = dict(variables)
        scope.update({lagged_name(n): lagged(v) for n, v in variables.items()})
        in_slice = {n: conditional_of(n, graph, scope, declared.get(n), normalise) for n in names}
        super().__init__(in_slice, _initial(graph, names, variables, first, normalise))

    def settings(self) -> Settings:
        """Return the edges and the conditionals, including those of the first slice."""
        in_slice = self._conditionals.values()
        edges = tuple((v.name, c.child.name) for c in in_slice for v in c.parents)
        return {"graph": edges, "conditionals": self._conditionals, "initial": self._initial}

    @property
    def hidden(self) -> list[Hashable]:
        """The variables with children; for discrete ones their own next step counts as a child."""
        edges = [(without_lag(n), child) for n, child in self.graph.edges]
        inner, others = {n for n, _ in edges}, {n for n, child in edges if n != child}
        pieces = self._conditionals.items()
        return [n for n, c in pieces if n in (inner if c.child.is_discrete else others)]

    def default_learner(self, data: Any) -> Learner:
        """Return ``EM()``, or for complete data ``MaximumLikelihood()``.

        If unobserved real variables have children it is ``Gradient()``.
        """
        from pgnn.evidence.sequence_evidence import SequenceEvidence
        from pgnn.inference.learning.complete_sequences import fully_observed
        from pgnn.inference.learning.em import EM
        from pgnn.inference.learning.gradient import Gradient
        from pgnn.inference.learning.maximum_likelihood import MaximumLikelihood
        from pgnn.inference.time.engine_over_time import hidden_reals

        observed = SequenceEvidence.of(self, data)
        if fully_observed(self.variables, observed):
            return MaximumLikelihood()
        return Gradient() if hidden_reals(self, observed) else EM()

    def __repr__(self) -> str:
        size = len(self._conditionals)
        return f"DynamicBayesianNetwork({size} variables, {self.graph.number_of_edges()} edges)"


def _check(graph: nx.DiGraph) -> list[Hashable]:
    """Return the names of a slice's variables, in order.

    Raises:
        ModelError: If the graph is undirected, or an edge goes back in time or too far.
    """
    if not graph.is_directed():
        raise ModelError("a dynamic Bayesian network needs a directed graph", "use nx.DiGraph")
    for node in graph:
        if isinstance(node, tuple) and len(node) == 2 and isinstance(node[1], int):
            if node[1] != -1:
                raise ModelError(
                    f"{node!r}: edges come from the same slice, {node[0]!r}, or from the one "
                    f"before, {lagged_name(node[0])!r}",
                    "store earlier values in an additional variable",
                )
            into = next(iter(graph.predecessors(node)), None)
            if into is not None:
                raise ModelError(f"the edge {into!r} -> {node!r} goes back in time")
    names = dict.fromkeys(n for n in graph if not has_lag(n))
    for node in graph:
        if has_lag(node) and node[0] not in names:
            hint = closest(node[0], names)
            raise ModelError(f"{node!r} is not a variable of the previous slice{hint}")
    return [*names]


def _initial(
    graph: nx.DiGraph,
    names: Iterable[Hashable],
    variables: Mapping[Hashable, Variable],
    values: Mapping[Hashable, Any],
    normalise: bool,
) -> dict[Hashable, Conditional]:
    """Return the conditionals of the first slice that differ."""
    first = nx.DiGraph()
    first.add_nodes_from(names)
    for name in names:
        first.add_edges_from((p, name) for p in graph.predecessors(name) if not has_lag(p))
    initial = {}
    for name in names:
        value = values.get(name)
        late = any(has_lag(p) for p in graph.predecessors(name))
        if value is None and late and not variables[name].is_discrete:
            raise ModelError(
                f"{name!r} is real and depends on the previous slice",
                f"give its initial conditional in initial={{{name!r}: ...}}",
            )
        if value is not None or late:
            initial[name] = conditional_of(name, first, variables, value, normalise)
    return initial


def _is_numbered(name: object) -> TypeGuard[tuple[Hashable, int]]:
    return isinstance(name, tuple) and len(name) == 2 and name[1] in (0, 1)


def _is_late(name: object) -> bool:
    return not _is_numbered(name) or name[1] == 1


def _renamed(graph: nx.DiGraph) -> nx.DiGraph:
    """Convert a graph over ``(name, 0)`` and ``(name, 1)`` to one over names and ``(name, -1)``."""
    renamed = nx.DiGraph()
    names = dict.fromkeys(n for n, _ in graph)
    for name in names:
        later, first = graph.nodes.get((name, 1), {}), graph.nodes.get((name, 0), {})
        renamed.add_node(name, **{**first, **later})
    for b, t in sorted(graph, key=lambda node: -node[1]):  # the edges into the later step first
        for a, s in graph.pred[b, t]:  # the order of the parents is that of a table's axes
            if s > t:
                raise ModelError(f"the edge {(a, s)!r} -> {(b, t)!r} goes back in time")
            renamed.add_edge(lagged_name(a) if s < t else a, b)
    return renamed
