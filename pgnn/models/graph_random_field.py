"""Conditional random fields over the nodes of graphs."""

from __future__ import annotations

import copy
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Self

import networkx as nx
import numpy as np
import torch
from torch import Tensor, nn

from pgnn.abilities import Inputs
from pgnn.errors import Advice, DataError, EvidenceError, ModelError, closest
from pgnn.factors.piece import Settings
from pgnn.factors.potentials.linear_potential import LinearPotential
from pgnn.factors.potentials.log_linear import LogLinear
from pgnn.factors.potentials.potential import Potential
from pgnn.factors.variable import Variable
from pgnn.models.markov_random_field import MarkovRandomField
from pgnn.models.scores.attribute_potential import AttributePotential, pair_places
from pgnn.models.scores.attribute_scores import AttributeScores
from pgnn.models.structure_restored_on_failure import structure_restored_on_failure

if TYPE_CHECKING:
    from pgnn.inference.assignment import Assignment

EDGE_KIND = "kind"
"""Edge attribute; edges of the same kind share a table."""


class GraphRandomField(MarkovRandomField):
    r"""Labels of the nodes of a graph, given features of nodes and of edges.

    .. math:: p(z \mid x) = \frac{1}{Z(x)} \exp \Big( \sum_i w_{z_i}^\top x_i
        + \sum_{(i, j)} A_{k(i, j)}(z_i, z_j) + v^\top y_{ij} [z_i = z_j] \Big)

    All nodes share the weights :math:`w`; edges with the same attribute ``kind`` share a table
    :math:`A_k`. Inference is exact for trees and graphs of small treewidth, and by belief
    propagation for grids. The field is a :class:`MarkovRandomField` and supports all of its verbs,
    engines and learners. ``Gradient`` marginalises missing labels and hidden nodes;
    ``PseudoLikelihood``, ``Perceptron`` and ``MaxMargin`` are faster. A row of features is an
    array, or a mapping from nodes or edges to features; :meth:`observed` and :meth:`by_node`
    convert labels in the same way.

    Args:
        graph: ``nx.Graph``; or ``nx.DiGraph``, for which tables need not be symmetric; or a list of
            graphs, the instances of a data set, which are merged to one graph of nodes
            ``(instance, node)``.
        labels: Number or names of the labels.
        features: Number of features of each node; the input ``"x"`` is ``(B, N, D)`` in the order
            of ``node_names``. Or :class:`AttributeScores` for named attributes of nodes, see
            :class:`~pgnn.evidence.step_attributes.StepAttributes`; :meth:`fit` reads their names
            from the data.
        edge_features: Number of features of each edge; the input ``"y"`` is ``(B, M, E)`` in the
            order of ``edge_names``, and not needed if zero. Or :class:`AttributeScores`: each
            attribute of an edge has a weight for each pair of labels.
        name: Name of the array of ``N`` labels.

    Attributes:
        node_names: Nodes in the order of the array.
        edge_names: Edges, pairs of nodes, in the order of their features.

    Raises:
        ModelError: If the graph has no node, or a self-loop.

    References:
        Sutton and McCallum (2012), An introduction to conditional random fields, section 2.3.

    Example:
        >>> import pgnn
        >>> ring = nx.cycle_graph(6)
        >>> field = GraphRandomField(ring, ["low", "high"], features=1)
        >>> inputs = {"x": torch.tensor([[[-1.0], [1.0], [2.0], [1.0], [-1.0], [-2.0]]])}
        >>> rows = {"label": [["low", "high", "high", "high", "low", "low"]]}
        >>> _ = field.fit(rows, inputs=inputs, learner=pgnn.Gradient(l2=0.1))
        >>> field.most_probable(inputs=inputs)["label"]
        tensor([[0, 1, 1, 1, 0, 0]])

        >>> web = nx.Graph([("home", "blog"), ("home", "shop")])
        >>> pages = GraphRandomField(web, ["person", "firm"], pgnn.AttributeScores("words"))
        >>> words = {"home": ["our", "team"], "blog": ["my", "cat"], "shop": ["our", "price"]}
        >>> labels = pages.observed([{"home": "firm", "blog": "person", "shop": "firm"}])
        >>> _ = pages.fit(labels, inputs={"words": [words]}, progress=False)
        >>> pages.by_node(pages.most_probable(inputs={"words": [words]}))[0]["blog"]
        'person'
    """

    def __init__(
        self,
        graph: nx.Graph | Sequence[nx.Graph],
        labels: int | Iterable[Hashable],
        features: int | AttributeScores,
        edge_features: int | AttributeScores = 0,
        *,
        name: Hashable = "label",
    ) -> None:
        whole = graph if isinstance(graph, nx.Graph) else _joined(graph)
        self._arguments: dict[str, Any] = {
            "features": features,
            "edge_features": edge_features,
            "name": name,
        }
        node_names, edge_names = tuple(whole.nodes), tuple(whole.edges)
        if not node_names:
            raise ModelError("a field over a graph needs at least one node")
        number = {n: i for i, n in enumerate(node_names)}
        pairs = [[number[a], number[b]] for a, b in edge_names]
        input_names = [
            f.input_name for f in (features, edge_features) if isinstance(f, AttributeScores)
        ]
        if len(set(input_names)) < len(input_names):
            raise ModelError(
                f"nodes and edges use the same input {input_names[0]!r}",
                "give them different names",
            )
        loops = [a for a, b in edge_names if a == b]
        if loops:
            raise ModelError(f"node {loops[0]!r} has a self-loop", "remove such edges")
        scopes = np.array(pairs, dtype=np.int64).reshape(-1, 2)
        kinds = [kind for *_, kind in whole.edges(data=EDGE_KIND)]
        array = Variable(name, labels, shape=(len(node_names),))
        parts = [_potential(array, features, "x", None, whole.is_directed())]
        shared = _pair_features(array.num_states, whole.is_directed())
        for kind in dict.fromkeys(kinds):
            chosen = np.array([k == kind for k in kinds])
            parts.append(LogLinear([array], shared, scopes=scopes[chosen]))
        if edge_features and len(scopes):
            parts.append(_potential(array, edge_features, "y", scopes, whole.is_directed()))
        super().__init__(parts)
        self.node_names, self.edge_names = node_names, edge_names
        self.edge_kinds = tuple(dict.fromkeys(kinds))
        self._drawn = nx.freeze(whole.copy())

    def settings(self) -> Settings:
        """Return the graph, the labels and the features."""
        return {
            "nodes": self.node_names,
            "edges": tuple(self._drawn.edges(data=EDGE_KIND)),
            "directed": self._drawn.is_directed(),
            "labels": self.variables[self._arguments["name"]].states,
            **self._features(),
            "name": self._arguments["name"],
        }

    def _features(self) -> dict[str, Any]:
        """Return numbers of features, or attributes, by argument."""
        ends = {"features": self.potentials[0], "edge_features": self.potentials[-1]}
        return {
            key: part.attributes
            if isinstance(self._arguments[key], AttributeScores)
            and isinstance(part, AttributePotential)
            else self._arguments[key]
            for key, part in ends.items()
        }

    @classmethod
    def from_settings(cls, settings: Settings, numbers: Mapping[str, Tensor]) -> Self:
        """Create a field over the graph; its parameters are loaded afterwards."""
        graph = nx.DiGraph() if settings.pop("directed") else nx.Graph()
        graph.add_nodes_from(settings.pop("nodes"))
        for a, b, kind in settings.pop("edges"):
            graph.add_edge(a, b, **({} if kind is None else {EDGE_KIND: kind}))
        return cls(graph, **settings)

    def on(self, graph: nx.Graph | Sequence[nx.Graph]) -> GraphRandomField:
        """Return a field over other graphs with a copy of the weights.

        Args:
            graph: See the class; edges of a new kind have a score of zero.
        """
        name = self._arguments["name"]
        settings = copy.deepcopy(self._features())
        other = GraphRandomField(graph, self.variables[name].states or (), **settings, name=name)
        known = self._parts()
        with torch.no_grad():
            for part, weights in other._parts().items():
                if part in known:
                    weights.copy_(known[part])
        return other

    def _parts(self) -> dict[Hashable, Tensor]:
        """Return the weights of nodes, of the kinds of edges, and of the features of edges."""
        kinds = [(EDGE_KIND, kind) for kind in self.edge_kinds]
        weights = [next(p.parameters()) for p in self.potentials]
        return dict(zip(["nodes", *kinds, "edges"], weights, strict=False))

    # --- names --------------------------------------------------------------------------------

    def observed(
        self, labels: Mapping[Hashable, Any] | Sequence[Mapping[Hashable, Any]]
    ) -> dict[Hashable, Any]:
        """Return evidence from labels by node; other nodes are not observed.

        Args:
            labels: A mapping from nodes to labels, or a list of mappings, one for each row.

        Raises:
            EvidenceError: If a node or a label is unknown.
        """
        name, number = self._arguments["name"], {n: i for i, n in enumerate(self.node_names)}
        rows = [labels] if isinstance(labels, Mapping) else labels
        for row in rows:
            for node, label in row.items():
                if node not in number:
                    hint = closest(node, self.node_names)
                    raise EvidenceError(f"the graph has no node {node!r}{hint}")
                if label is not None and isinstance(label, Hashable):
                    self.variables[name].index(label)
        if isinstance(labels, Mapping):
            return {(name, number[node]): label for node, label in labels.items()}
        return {name: [[row.get(node) for node in self.node_names] for row in rows]}

    def by_node(self, answer: Assignment | Tensor) -> Any:
        """Return the labels of an answer as a mapping from nodes, or a list of mappings per row.

        Args:
            answer: Result of :meth:`most_probable` for all nodes.

        Raises:
            EvidenceError: If the answer is not for all nodes.
        """
        if isinstance(answer, Tensor):
            raise EvidenceError(
                "by_node needs the result of most_probable, got the tensor of one variable"
            )
        if [v.name for v in answer.variables] != [self._arguments["name"]]:
            raise EvidenceError(
                f"the answer is for {[v.name for v in answer.variables]}; by_node needs the labels "
                f"of all nodes, {self._arguments['name']!r}"
            )
        codes = answer.codes.reshape(-1, len(self.node_names)).tolist()
        label = self.variables[self._arguments["name"]]
        rows = [
            dict(zip(self.node_names, (None if k < 0 else label.decode([k])[0] for k in row),
                     strict=True))
            for row in codes
        ]  # fmt: skip
        return rows if answer.batched else rows[0]

    def read_inputs(self, inputs: Mapping[Hashable, Any]) -> Mapping[Hashable, Any]:
        """Return covariates as arrays in the order of nodes and edges."""
        return super().read_inputs(self._in_order(inputs))

    def _in_order(self, inputs: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Convert inputs that are mappings from nodes or edges to arrays."""
        first, last = self.potentials[0], self.potentials[-1]
        ordered = dict(inputs)
        for part, names in ((first, self.node_names), (last, self.edge_names)):
            name = part.inputs[0] if part.inputs else None
            if name in inputs and (part is first) == (names is self.node_names):
                either = part is last and part is not first and not self._drawn.is_directed()
                ordered[name] = _by_name(name, inputs[name], names, either)
        return ordered

    @contextmanager
    def _declared_by(
        self, data: Any, weights: Any, inputs: Inputs | None
    ) -> Iterator[tuple[Any, Inputs | None]]:
        """See :class:`LearningVerbs`; attributes are read from the data.

        Raises:
            DataError: If there are no attributes, or they are invalid.
        """
        if not any(isinstance(p, AttributePotential) for p in self.potentials):
            yield data, inputs
            return
        with structure_restored_on_failure(self):
            try:
                ordered = self._in_order(inputs or {})
                parts = [_prepared(p, ordered) for p in self.potentials]
            except EvidenceError as error:
                raise DataError(error.reason, error.advice) from None
            self._potentials = nn.ModuleList(parts)
            yield data, ordered

    def extra_repr(self) -> str:
        """Return the contents of the parentheses of ``repr``."""
        label = self.variables[self._arguments["name"]]
        shown = ", ".join(map(repr, (label.states or ())[:4]))
        more = ", ..." if label.num_states > 4 else ""
        return (
            f"{len(self.node_names)} nodes, {len(self.edge_names)} edges, {label.name!r} with "
            f"{label.num_states} labels: {shown}{more}"
        )


def _potential(
    array: Variable, features: int | AttributeScores, name: str, edges: Any, directed: bool
) -> Potential:
    """Return a potential of numeric features or of named attributes."""
    if isinstance(features, AttributeScores):
        return AttributePotential(array, features, edges, directed)
    return LinearPotential(array, features, name, edges=edges)


def _prepared(potential: Potential, inputs: Mapping[Hashable, Any]) -> Potential:
    """Return the potential with weights for the attributes in the data, if it has attributes."""
    if not isinstance(potential, AttributePotential):
        return potential
    name = potential.attributes.input_name
    if name not in inputs:
        advice = Advice(f"give inputs={{{name!r}: ...}}", "inputs")
        raise EvidenceError(f"the field needs the input {name!r}", advice)
    return potential.prepared(inputs[name])


def _by_name(name: Hashable, raw: Any, names: tuple[Any, ...], either: bool) -> Any:
    """Return rows in the order of names if they are mappings; ``either`` ignores edge direction."""
    rows = [raw] if isinstance(raw, Mapping) else raw
    known = {*names, *(pair[::-1] for pair in names if either)}
    if not isinstance(rows, list | tuple) or not all(isinstance(r, Mapping) for r in rows):
        return raw
    if not isinstance(raw, Mapping) and not any(k in known for row in rows for k in row):
        return raw
    for row in rows:
        for key in row:
            if key not in known:
                raise EvidenceError(f"the input {name!r} has {key!r}{closest(key, names)}")
    return [[_value(name, row, key, either) for key in names] for row in rows]


def _value(name: Hashable, row: Mapping[Any, Any], key: Any, either: bool) -> Any:
    for way in (key, key[::-1]) if either else (key,):
        if way in row:
            value = row[way]
            return value.tolist() if isinstance(value, Tensor) else value
    raise EvidenceError(f"the input {name!r} has no value for {key!r}")


def _joined(graphs: Sequence[nx.Graph]) -> nx.Graph:
    """Return the disjoint union of several graphs."""
    if not isinstance(graphs, list | tuple) or not all(isinstance(g, nx.Graph) for g in graphs):
        raise ModelError(f"expected a networkx graph, or a list of them, got {graphs!r}")
    if len({g.is_directed() for g in graphs}) > 1:
        raise ModelError("graphs must be all directed or all undirected")
    named = [nx.relabel_nodes(g, {n: (i, n) for n in g}) for i, g in enumerate(graphs)]
    return nx.union_all(named) if named else nx.Graph()


def _pair_features(k: int, directed: bool) -> Any:
    """Return ``(D, K, K)`` indicators of pairs of labels, which are unordered if undirected."""
    pairs, places = pair_places(k, directed)
    return (np.arange(len(pairs))[:, None, None] == places).astype(float)
