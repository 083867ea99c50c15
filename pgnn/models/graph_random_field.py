"""Conditional random fields over the nodes of graphs."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Any, Self

import networkx as nx
import numpy as np
import torch
from torch import Tensor

from pgnn.errors import ModelError
from pgnn.factors.piece import Settings
from pgnn.factors.potentials.linear_potential import LinearPotential
from pgnn.factors.potentials.log_linear import LogLinear
from pgnn.factors.potentials.potential import Potential
from pgnn.factors.variable import Variable
from pgnn.models.markov_random_field import MarkovRandomField

EDGE_KIND = "kind"
"""Attribute of edges: those of one kind share a table."""


class GraphRandomField(MarkovRandomField):
    r"""Labels of the nodes of a graph, given features of nodes and of edges.

    .. math:: p(z \mid x) = \frac{1}{Z(x)} \exp \Big( \sum_i w_{z_i}^\top x_i
        + \sum_{(i, j)} A_{k(i, j)}(z_i, z_j) + v^\top y_{ij} [z_i = z_j] \Big)

    All nodes share :math:`w`, all edges of one kind the table :math:`A_k`; an edge's attribute
    ``kind`` tells it. Trees and narrow graphs are answered exactly, grids by propagation. It is a
    :class:`MarkovRandomField`, with every verb, engine and learner of these: missing labels are
    summed out by ``Gradient``, which takes ``PseudoLikelihood``, ``Perceptron`` and ``MaxMargin``
    in its place where that is too slow; nodes that are never observed are hidden.

    Args:
        graph: ``nx.Graph``, or a directed one, whose tables tell the ends of an edge apart; or a
            list of them, the instances of a data set, as one graph of nodes ``(instance, node)``.
        labels: Number or names of the labels.
        features: Number of features of each node; the input ``"x"`` is ``(B, N, D)`` in the order
            of ``node_names``.
        edge_features: Number of features of each edge; the input ``"y"`` is ``(B, M, E)`` in the
            order of ``edge_names``. None if zero.
        name: Of the labels, an array of ``N``.

    Attributes:
        node_names: Nodes in the order of the array.
        edge_names: Edges, pairs of nodes, in the order of their features.

    Raises:
        ModelError: If there is no node, or an edge joins a node to itself.

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
    """

    def __init__(
        self,
        graph: nx.Graph | Sequence[nx.Graph],
        labels: int | Iterable[Hashable],
        features: int,
        edge_features: int = 0,
        *,
        name: Hashable = "label",
    ) -> None:
        whole = graph if isinstance(graph, nx.Graph) else _joined(graph)
        self._told: dict[str, Any] = {
            "features": features,
            "edge_features": edge_features,
            "name": name,
        }
        node_names, edge_names = tuple(whole.nodes), tuple(whole.edges)
        if not node_names:
            raise ModelError("a field over a graph needs at least one node")
        number = {n: i for i, n in enumerate(node_names)}
        pairs = [[number[a], number[b]] for a, b in edge_names]
        loops = [a for a, b in edge_names if a == b]
        if loops:
            raise ModelError(f"node {loops[0]!r} is joined to itself; leave such edges out")
        scopes = np.array(pairs, dtype=np.int64).reshape(-1, 2)
        kinds = [kind for *_, kind in whole.edges(data=EDGE_KIND)]
        array = Variable(name, labels, shape=(len(node_names),))
        parts: list[Potential] = [LinearPotential(array, features, "x")]
        shared = _pair_features(array.num_states, whole.is_directed())
        for kind in dict.fromkeys(kinds):
            chosen = np.array([k == kind for k in kinds])
            parts.append(LogLinear([array], shared, scopes=scopes[chosen]))
        if edge_features and len(scopes):
            parts.append(LinearPotential(array, edge_features, "y", edges=scopes))
        super().__init__(parts)
        self.node_names, self.edge_names = node_names, edge_names
        self.edge_kinds = tuple(dict.fromkeys(kinds))
        self._drawn = nx.freeze(whole.copy())

    def settings(self) -> Settings:
        """Return the graph, the labels, and numbers of features."""
        return {
            "nodes": self.node_names,
            "edges": tuple(self._drawn.edges(data=EDGE_KIND)),
            "directed": self._drawn.is_directed(),
            "labels": self.variables[self._told["name"]].states,
            **self._told,
        }

    @classmethod
    def from_settings(cls, settings: Settings, numbers: Mapping[str, Tensor]) -> Self:
        """Make a field over the graph; its numbers are put in afterwards."""
        graph = nx.DiGraph() if settings.pop("directed") else nx.Graph()
        graph.add_nodes_from(settings.pop("nodes"))
        for a, b, kind in settings.pop("edges"):
            graph.add_edge(a, b, **({} if kind is None else {EDGE_KIND: kind}))
        return cls(graph, **settings)

    def on(self, graph: nx.Graph | Sequence[nx.Graph]) -> GraphRandomField:
        """Return a field over other graphs with the same weights, a copy of them.

        Args:
            graph: See the class; kinds of edges that are new to the field score zero.
        """
        name = self._told["name"]
        other = GraphRandomField(graph, self.variables[name].states or (), **self._told)
        known = self._parts()
        with torch.no_grad():
            for part, weights in other._parts().items():
                if part in known:
                    weights.copy_(known[part])
        return other

    def _parts(self) -> dict[Hashable, Tensor]:
        """The weights of nodes, of the kinds of edges, and of edges' features."""
        kinds = [(EDGE_KIND, kind) for kind in self.edge_kinds]
        weights = [next(p.parameters()) for p in self.potentials]
        return dict(zip(["nodes", *kinds, "edges"], weights, strict=False))

    def extra_repr(self) -> str:
        """What ``print`` shows between the brackets."""
        return f"{len(self.node_names)} nodes, {len(self.edge_names)} edges"


def _joined(graphs: Sequence[nx.Graph]) -> nx.Graph:
    """Several graphs as one."""
    if not isinstance(graphs, list | tuple) or not all(isinstance(g, nx.Graph) for g in graphs):
        raise ModelError(f"expected a networkx graph, or a list of them, got {graphs!r}")
    if len({g.is_directed() for g in graphs}) > 1:
        raise ModelError("either all graphs are directed, or none")
    named = [nx.relabel_nodes(g, {n: (i, n) for n in g}) for i, g in enumerate(graphs)]
    return nx.union_all(named) if named else nx.Graph()


def _pair_features(k: int, directed: bool) -> Any:
    """``(D, K, K)`` indicators of pairs of labels, of both orders at once if undirected."""
    pairs = [(a, b) for a in range(k) for b in range(0 if directed else a, k)]
    features = np.zeros((len(pairs), k, k))
    for d, (a, b) in enumerate(pairs):
        features[d, a, b] = 1.0
        if not directed:
            features[d, b, a] = 1.0
    return features
