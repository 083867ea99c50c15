"""Graph networks."""

from __future__ import annotations

from typing import NamedTuple

import networkx as nx
import torch
from torch import Tensor, nn

from pgnn.errors import ModelError
from pgnn.limits import whole_number


class GraphState(NamedTuple):
    """Features of the nodes, the edges and the whole of a graph.

    Attributes:
        nodes: ``(B, N, V)`` features of the nodes, in the order of the graph.
        edges: ``(B, E, F)`` features of the arcs, in the order of :func:`arcs`.
        whole: ``(B, U)`` features of the graph.
    """

    nodes: Tensor
    edges: Tensor
    whole: Tensor


class GraphNetwork(nn.Module):
    r"""A block that updates the edges, then the nodes, then the global features of a graph.

    .. math:: e' = \phi_e(e, v_s, v_t, u), \qquad
        v' = \phi_v\Big(\sum_{e \to v} e', v, u\Big), \qquad
        u' = \phi_u\Big(\sum_e e', \sum_v v', u\Big)

    The block is equivariant to permutations of the nodes. An undirected edge counts as two arcs.
    Repeated application is learned message passing.

    Args:
        graph: A networkx graph.
        edge: Maps concatenated features, in the order of the formula, to features of an arc.
        node: Maps concatenated features to features of a node.
        whole: Maps concatenated features to features of the graph, which are constant by default.

    Raises:
        ModelError: If the graph has no edges.

    References:
        Battaglia et al. (2018), Relational inductive biases, deep learning, and graph networks,
        section 3.2.

    Example:
        >>> graph = nx.path_graph(4)  # 4 nodes, 6 arcs
        >>> layer = GraphNetwork(graph, nn.Linear(1 + 2 + 2 + 3, 5), nn.Linear(5 + 2 + 3, 7))
        >>> state = GraphState(torch.zeros(8, 4, 2), torch.zeros(8, 6, 1), torch.zeros(8, 3))
        >>> layer(state).nodes.shape
        torch.Size([8, 4, 7])
    """

    source: Tensor
    target: Tensor

    def __init__(
        self, graph: nx.Graph, edge: nn.Module, node: nn.Module, whole: nn.Module | None = None
    ) -> None:
        super().__init__()
        source, target = arcs(graph)
        self.register_buffer("source", source)
        self.register_buffer("target", target)
        self.num_nodes = len(graph)
        self.edge, self.node, self.whole = edge, node, whole

    def forward(self, state: GraphState) -> GraphState:
        """Return the updated features.

        Raises:
            ModelError: If the numbers of nodes or arcs do not fit.
        """
        nodes, edges, whole = state
        if nodes.shape[-2] != self.num_nodes or edges.shape[-2] != len(self.source):
            raise ModelError(
                f"the graph has {self.num_nodes} nodes and {len(self.source)} arcs, got features "
                f"of shape {tuple(nodes.shape)} for nodes and {tuple(edges.shape)} for arcs"
            )
        beside = [edges, nodes[:, self.source], nodes[:, self.target]]
        edges = self.edge(torch.cat([*beside, _each(whole, edges)], -1))
        received = edges.new_zeros(len(edges), self.num_nodes, edges.shape[-1])
        received = received.index_add(1, self.target, edges)
        nodes = self.node(torch.cat([received, nodes, _each(whole, nodes)], -1))
        if self.whole is not None:
            whole = self.whole(torch.cat([edges.sum(1), nodes.sum(1), whole], -1))
        return GraphState(nodes, edges, whole)


class GraphConvolution(nn.Module):
    r"""A linear layer of the normalised sum over a node and its neighbours.

    .. math:: H' = D^{-1/2} (A + I) D^{-1/2} H W + b

    where :math:`D` are the row sums of :math:`A + I`.

    Args:
        graph: A networkx graph; edges are weighted by their attribute ``weight``, 1 by default.
        in_features: Number of input features of a node.
        out_features: Number of output features of a node.

    References:
        Kipf and Welling (2017), Semi-supervised classification with graph convolutional networks,
        section 2.

    Example:
        >>> GraphConvolution(nx.path_graph(4), 3, 5)(torch.zeros(4, 3)).shape
        torch.Size([4, 5])
    """

    where: Tensor
    weight: Tensor

    def __init__(self, graph: nx.Graph, in_features: int, out_features: int) -> None:
        super().__init__()
        self.out_features = whole_number("out_features", out_features, 1, ModelError)
        self.linear = nn.Linear(in_features, out_features, bias=False)
        nn.init.xavier_uniform_(self.linear.weight)
        self.bias = nn.Parameter(torch.zeros(out_features))
        where, weight = _normalised(graph)
        self.num_nodes = len(graph)
        self.register_buffer("where", where, persistent=False)
        self.register_buffer("weight", weight, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(N, in_features)`` to ``(N, out_features)``; nodes are in the graph's order."""
        if x.dim() != 2 or len(x) != self.num_nodes:
            raise ModelError(
                f"the input must be (N, D) with N = {self.num_nodes} nodes, got {tuple(x.shape)}"
            )
        shown: Tensor = self.linear(x)
        sent = self.weight.to(shown)[:, None] * shown[self.where[1]]
        return self.bias + torch.zeros_like(shown).index_add(0, self.where[0], sent)


class AtNodes(nn.Module):
    """A network over all nodes of a graph, as a body whose input is node indices.

    Unlabelled nodes contribute to the features of labelled ones.

    Args:
        network: Maps ``(N, D)`` features of all nodes to ``(N, K)``.
        x: ``(N, D)`` constant features of all nodes.

    Example:
        >>> import pgnn
        >>> layer = AtNodes(GraphConvolution(nx.path_graph(4), 3, 2), torch.randn(4, 3))
        >>> kind = pgnn.Neural(pgnn.Variable("kind", 2), [], layer, inputs=["node"])
        >>> kind.factor(inputs={"node": torch.tensor([0, 3])})
        Factor('kind', batch=(2,))
    """

    x: Tensor

    def __init__(self, network: nn.Module, x: Tensor) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("x", x, persistent=False)

    def forward(self, nodes: Tensor) -> Tensor:
        """Return ``(B, K)`` outputs at the nodes ``(B,)``."""
        every: Tensor = self.network(self.x)
        return every[nodes.long().reshape(-1)]


def arcs(graph: nx.Graph) -> Tensor:
    """Return ``(2, E)`` indices of the source and target nodes of arcs.

    Args:
        graph: A networkx graph; an undirected edge becomes two consecutive arcs.

    Raises:
        ModelError: If the graph has no edges.

    Example:
        >>> arcs(nx.path_graph(3)).tolist()
        [[0, 1, 1, 2], [1, 0, 2, 1]]
    """
    place = {node: k for k, node in enumerate(graph)}
    pairs = [(place[a], place[b]) for a, b in graph.edges()]
    if not pairs:
        raise ModelError("a graph network needs a graph with at least one edge, got none")
    if not graph.is_directed():
        pairs = [pair for a, b in pairs for pair in ((a, b), (b, a))]
    return torch.tensor(pairs).T.contiguous()


def _each(whole: Tensor, parts: Tensor) -> Tensor:
    """Repeat the global features for each node or arc."""
    return whole[:, None].expand(-1, parts.shape[1], -1)


def _normalised(graph: nx.Graph) -> tuple[Tensor, Tensor]:
    """Return the indices ``(2, E)`` and the values of the entries of the normalised matrix."""
    place = {node: k for k, node in enumerate(graph)}
    weights = {(k, k): 1.0 for k in range(len(graph))}
    for a, b, weight in graph.edges(data="weight", default=1.0):
        for arc in {(place[a], place[b]), (place[b], place[a])}:
            weights[arc] = weights.get(arc, 0.0) + float(weight)
    where, value = torch.tensor([*weights]).T, torch.tensor([*weights.values()])
    degree = torch.zeros(len(graph)).index_add(0, where[0], value)
    return where, value / (degree[where[0]] * degree[where[1]]).sqrt()
