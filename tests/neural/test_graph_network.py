"""Networks along edges: written out, in another order, and on papers that cite each other."""

from __future__ import annotations

import networkx as nx
import pytest
import torch
from torch import Tensor, nn

import pgnn
from pgnn import neural
from pgnn.errors import ModelError
from pgnn.neural import GraphState

GRAPH = nx.Graph([(0, 1), (1, 2), (2, 0), (2, 3)])


def layer(graph: nx.Graph) -> neural.GraphNetwork:
    torch.manual_seed(0)
    parts = (neural.mlp(1 + 2 + 2 + 3, 4), neural.mlp(4 + 2 + 3, 5), neural.mlp(4 + 5 + 3, 6))
    return neural.GraphNetwork(graph, *parts).double()


def state(graph: nx.Graph) -> GraphState:
    torch.manual_seed(1)
    arcs = neural.arcs(graph).shape[1]
    shapes = (2, len(graph), 2), (2, arcs, 1), (2, 3)
    return GraphState(*(torch.randn(s).double() for s in shapes))


def test_updates_written_out() -> None:
    network, (nodes, edges, whole) = layer(GRAPH), state(GRAPH)
    after = network(GraphState(nodes, edges, whole))
    pairs = neural.arcs(GRAPH).T.tolist()
    assert len(pairs) == 8
    for b in range(2):
        messages = [
            network.edge(torch.cat([edges[b, k], nodes[b, s], nodes[b, t], whole[b]]))
            for k, (s, t) in enumerate(pairs)
        ]
        shown = []
        for v in range(4):
            received = sum(m for m, (_, t) in zip(messages, pairs, strict=True) if t == v)
            shown.append(network.node(torch.cat([received, nodes[b, v], whole[b]])))
        total = torch.cat([sum(messages), sum(shown), whole[b]])
        torch.testing.assert_close(after.edges[b], torch.stack(messages))
        torch.testing.assert_close(after.nodes[b], torch.stack(shown))
        torch.testing.assert_close(after.whole[b], network.whole(total))


def test_the_order_of_nodes_does_not_matter() -> None:
    other = nx.Graph()
    other.add_nodes_from([3, 0, 2, 1])
    other.add_edges_from([(3, 2), (1, 0), (2, 0), (1, 2)])
    before = state(GRAPH)
    order = [*other]
    pairs = [tuple(p) for p in neural.arcs(GRAPH).T.tolist()]
    where = [pairs.index((order[s], order[t])) for s, t in neural.arcs(other).T.tolist()]
    renamed = GraphState(before.nodes[:, order], before.edges[:, where], before.whole)
    ours, theirs = layer(GRAPH)(before), layer(other)(renamed)
    torch.testing.assert_close(theirs.nodes, ours.nodes[:, order])
    torch.testing.assert_close(theirs.whole, ours.whole)


def test_graph_convolution_is_its_dense_formula() -> None:
    graph = nx.Graph([("a", "b"), ("b", "c")])
    graph.add_edge("c", "d", weight=2.0)
    x = torch.randn(4, 3)
    convolution = neural.GraphConvolution(graph, 3, 2)
    a = torch.from_numpy(nx.to_numpy_array(graph)).float() + torch.eye(4)
    root = a.sum(1).rsqrt()
    expected = root[:, None] * a * root @ x @ convolution.linear.weight.T + convolution.bias
    torch.testing.assert_close(convolution(x), expected, atol=1e-6, rtol=1e-5)


def test_clubs_from_two_labels() -> None:
    """Zachary's club: the instructor's and the president's labels tell nearly all others."""
    graph = nx.karate_club_graph()
    side = torch.tensor([int(graph.nodes[v]["club"] != "Mr. Hi") for v in graph])
    torch.manual_seed(0)
    network = nn.Sequential(
        neural.GraphConvolution(graph, 34, 8), nn.Tanh(), neural.GraphConvolution(graph, 8, 2)
    )
    asked = neural.AtNodes(network, torch.eye(34))
    model = pgnn.BayesianNetwork(
        [], [pgnn.Neural(pgnn.Variable("side", 2), [], asked, inputs=["node"])]
    )
    learner = pgnn.Gradient(optimizer=lambda p: torch.optim.Adam(p, lr=0.02), max_iterations=60)
    labelled = torch.tensor([0, 33])
    model.fit(
        {"side": side[labelled]}, inputs={"node": labelled}, learner=learner, seed=0, progress=False
    )
    probs = model.query("side", inputs={"node": torch.arange(34)})["side"].probs
    assert int((probs.argmax(-1) == side).sum()) >= 31


def test_messages_learn_the_marginals_of_a_chain() -> None:
    """Rounds of the same layer, as many as the chain is long, trained on exact marginals."""
    graph = nx.path_graph(4)
    torch.manual_seed(0)
    fields = torch.randn(200, 4)
    marginals = chain_marginals(fields, 0.8)
    network = neural.GraphNetwork(
        graph, nn.Sequential(nn.Linear(1 + 9 + 9 + 1, 16), nn.Tanh()),
        nn.Sequential(nn.Linear(16 + 9 + 1, 8), nn.Tanh()),
    )  # fmt: skip
    out = nn.Linear(8, 1)
    steps = torch.optim.Adam([*network.parameters(), *out.parameters()], lr=0.01)
    x = fields[..., None]
    for _ in range(150):
        hidden = torch.zeros(len(x), 4, 8)
        for _ in range(3):
            before = GraphState(torch.cat([x, hidden], -1), torch.ones(len(x), 6, 1),
                                torch.zeros(len(x), 1))  # fmt: skip
            hidden = network(before).nodes
        own = out(hidden).squeeze(-1).sigmoid()
        loss = (own - marginals).square().mean()
        steps.zero_grad()
        loss.backward()
        steps.step()
    alone = (x.squeeze(-1) * 2).sigmoid()
    assert float(loss.detach()) < 0.1 * float((alone - marginals).square().mean())


def chain_marginals(fields: Tensor, coupling: float) -> Tensor:
    """``(B, 4)`` probabilities of +1 of spins, by all sixteen states."""
    spins = torch.cartesian_prod(*[torch.tensor([-1.0, 1.0])] * 4)
    energy = coupling * (spins[:, :-1] * spins[:, 1:]).sum(1)
    weights = (fields @ spins.T + energy).softmax(-1)
    return weights @ (spins > 0).float()


def test_bad_graphs() -> None:
    empty = nx.empty_graph(3)
    with pytest.raises(ModelError, match="at least one edge"):
        neural.GraphNetwork(empty, nn.Identity(), nn.Identity())
    network, before = layer(GRAPH), state(GRAPH)
    with pytest.raises(ModelError, match=r"4 nodes and 8 arcs, got features of shape \(2, 3, 2\)"):
        network(before._replace(nodes=before.nodes[:, :3]))
    with pytest.raises(ModelError, match=r"4 nodes, got \(3, 2\)"):
        neural.GraphConvolution(GRAPH, 2, 2)(torch.zeros(3, 2))
