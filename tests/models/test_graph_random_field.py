"""Fields of labels over graphs, against enumeration and the chain."""

import itertools
import math
from typing import Any

import networkx as nx
import numpy as np
import pytest
import torch

import pgnn
from pgnn.errors import EvidenceError, ModelError
from pgnn.inference.learning.pseudo_likelihood import PseudoObjective
from pgnn.inference.learning.training_data import read_rows


def graph(directed: bool = False) -> nx.Graph:
    """Four nodes in a ring, with a chord of another kind."""
    made: nx.Graph = nx.DiGraph() if directed else nx.Graph()
    made.add_edges_from([("a", "b"), ("b", "c"), ("d", "c"), ("a", "d")])
    made.add_edge("a", "c", kind="far")
    return made


def field(directed: bool = False) -> pgnn.GraphRandomField:
    made = pgnn.GraphRandomField(graph(directed), ["u", "v", "w"], features=2, edge_features=2)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for p in made.parameters():
            p.copy_(torch.randn(p.shape, generator=generator))
    return made


INPUTS = {
    "x": torch.randn(3, 4, 2, generator=torch.Generator().manual_seed(1)),
    "y": torch.randn(3, 5, 2, generator=torch.Generator().manual_seed(2)),
}


def enumerated(made: pgnn.GraphRandomField, row: int) -> dict[tuple[int, ...], float]:
    """Scores of all labellings, by the formula."""
    unary, *tables, agree = [p.weights.detach().numpy() for p in made.potentials]
    names = {n: i for i, n in enumerate(made.node_names)}
    pairs = [(a, b) for a in range(3) for b in range(3)]
    if not made._drawn.is_directed():
        pairs = [(a, b) for a, b in pairs if a <= b]
    scores = {}
    for z in itertools.product(range(3), repeat=4):
        total = sum(INPUTS["x"][row, i].numpy() @ unary[:, k] for i, k in enumerate(z))
        for m, (a, b) in enumerate(made.edge_names):
            ends = z[names[a]], z[names[b]]
            if not made._drawn.is_directed():
                ends = tuple(sorted(ends))
            kind = made._drawn.edges[a, b].get("kind")
            total += tables[made.edge_kinds.index(kind)][pairs.index(ends)]
            total += (ends[0] == ends[1]) * (INPUTS["y"][row, m].numpy() @ agree)
        scores[z] = float(total)
    return scores


@pytest.mark.parametrize("directed", [False, True])
def test_every_verb_equals_enumeration(directed: bool) -> None:
    made = field(directed)
    best = made.most_probable(inputs=INPUTS)["label"]
    marginals = made.query(inputs=INPUTS)["label"].probs.detach()
    for row in range(3):
        scores = enumerated(made, row)
        top = max(scores, key=scores.__getitem__)
        log_z = math.log(sum(map(math.exp, scores.values())))
        assert best[row].tolist() == list(top)
        one = {n: x[row : row + 1] for n, x in INPUTS.items()}
        log_prob = made.log_prob({"label": torch.tensor([top])}, inputs=one)
        assert float(log_prob.detach()) == pytest.approx(scores[top] - log_z, abs=1e-6)
        for i, k in itertools.product(range(4), range(3)):
            expected = sum(math.exp(s - log_z) for z, s in scores.items() if z[i] == k)
            assert float(marginals[row, i, k]) == pytest.approx(expected, abs=1e-6)


def test_missing_labels_are_summed_out_while_it_learns() -> None:
    made = field()
    observed = {"label": np.array([[0, -1, 2, 1], [-1, -1, -1, -1], [1, 1, 0, 0]])}
    partial = made.log_prob(observed, inputs=INPUTS).detach()
    scores = enumerated(made, 0)
    log_z = math.log(sum(map(math.exp, scores.values())))
    total = sum(math.exp(scores[0, k, 2, 1] - log_z) for k in range(3))
    assert float(partial[0]) == pytest.approx(math.log(total), abs=1e-6)
    before = float(partial.sum())
    made.fit(observed, inputs=INPUTS, learner=pgnn.Gradient(l2=0.01), seed=0, progress=False)
    assert float(made.log_prob(observed, inputs=INPUTS).sum()) > before


def test_graphs_of_a_data_set_share_their_weights() -> None:
    chains = [nx.path_graph(n, create_using=nx.DiGraph) for n in (3, 5)]
    made = pgnn.GraphRandomField(chains, ["a", "b"], features=1)
    assert made.node_names[3] == (1, 0)
    x = torch.tensor([1.0, -1.0, 1.0, -1.0, 1.0, -1.0, 1.0, 1.0]).reshape(1, 8, 1)
    z = (x[..., 0] < 0).long()
    learner = pgnn.Gradient(l2=0.1)
    made.fit({"label": z}, inputs={"x": x}, learner=learner, progress=False)
    # the same as a chain of labels with a network and transitions
    network = torch.nn.Linear(1, 2, bias=False, dtype=torch.float64)
    chain = pgnn.ConditionalRandomField(["a", "b"], pgnn.NeuralScores(network, "x"))
    rows = [["ab"[k] for k in part] for part in (z[0, :3].tolist(), z[0, 3:].tolist())]
    parts = {"x": [x[0, :3].double(), x[0, 3:].double()]}
    chain.fit(rows, inputs=parts, learner=pgnn.Gradient(l2=0.05), progress=False)
    whole = float(made.log_prob({"label": z}, inputs={"x": x}).detach())
    assert whole == pytest.approx(
        float(chain.log_prob(rows, inputs=parts).detach().sum()), abs=1e-4
    )
    one = made.on(chains[1])
    best = one.most_probable(inputs={"x": x[:, 3:]})["label"]
    assert best.tolist() == z[:, 3:].tolist()


@pytest.mark.parametrize(
    "learner",
    [pgnn.PseudoLikelihood(l2=0.01), pgnn.Perceptron(), pgnn.MaxMargin()],
    ids=lambda x: type(x).__name__,
)
def test_learners_without_a_partition_function(learner: Any) -> None:
    truth = pgnn.GraphRandomField(nx.grid_2d_graph(4, 4), 2, features=1)
    with torch.no_grad():
        truth.potentials[0].weights.copy_(torch.tensor([[-0.5, 0.5]]))
        truth.potentials[1].weights.copy_(torch.tensor([1.0, 0.0, 1.0]))
    x = torch.randn(80, 16, 1, generator=torch.Generator().manual_seed(0))
    z = truth.sample(1, inputs={"x": x}, seed=0)["label"][0]
    made = pgnn.GraphRandomField(nx.grid_2d_graph(4, 4), 2, features=1)
    made.fit({"label": z}, inputs={"x": x}, learner=learner, seed=0, progress=False)
    best = made.most_probable(inputs={"x": x})["label"]
    right = float((best == z).double().mean())
    optimal = float((truth.most_probable(inputs={"x": x})["label"] == z).double().mean())
    alone = float(((x[..., 0] > 0) == z).double().mean())
    assert right > max(alone, optimal - 0.03)


def test_files_and_wrong_calls(tmp_path: Any) -> None:
    made = field(directed=True)
    made.save(tmp_path / "field")
    again = pgnn.load(tmp_path / "field")
    assert again.node_names == made.node_names
    assert again.edge_kinds == made.edge_kinds
    torch.testing.assert_close(
        again.query(inputs=INPUTS)["label"].probs, made.query(inputs=INPUTS)["label"].probs
    )
    with pytest.raises(EvidenceError, match=r"'x' must be \(B, 4, 2\), got \(3, 4, 1\)"):
        made.query(inputs={**INPUTS, "x": torch.zeros(3, 4, 1)})
    with pytest.raises(EvidenceError, match="'y' has values that are not finite"):
        made.query(inputs={**INPUTS, "y": torch.full((3, 5, 2), torch.nan)})
    with pytest.raises(ModelError, match="at least one node"):
        pgnn.GraphRandomField([], 2, features=1)
    with pytest.raises(ModelError, match="joined to itself"):
        pgnn.GraphRandomField(nx.Graph([(0, 0)]), 2, features=1)
    with pytest.raises(ModelError, match="either all graphs are directed"):
        pgnn.GraphRandomField([nx.Graph([(0, 1)]), nx.DiGraph([(0, 1)])], 2, features=1)
    with pytest.raises(ModelError, match="networkx graph"):
        pgnn.GraphRandomField([3], 2, features=1)
    with pytest.raises(ModelError, match="features"):
        pgnn.GraphRandomField(nx.path_graph(2), 2, features=0)


@pytest.mark.parametrize("compiled", [True, False])
def test_the_pseudo_likelihood_is_that_of_each_node_given_the_others(compiled: bool) -> None:
    made = field()
    z = [(0, 1, 2, 1), (2, 2, 0, 0), (1, 1, 1, 0)]
    rows = read_rows(made, {"label": torch.tensor(z)}, inputs=INPUTS)
    found = PseudoObjective(made, compiled)(rows)()
    expected = 0.0
    for row, path in enumerate(z):
        scores = enumerated(made, row)
        for i in range(4):
            around = [scores[(*path[:i], k, *path[i + 1 :])] for k in range(3)]
            expected += scores[path] - math.log(sum(map(math.exp, around)))
    assert float(found.detach()) == pytest.approx(expected / 3, abs=1e-6)
