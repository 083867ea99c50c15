"""Fields of labels over graphs, against enumeration and the chain."""

import itertools
import math
from typing import Any

import networkx as nx
import numpy as np
import pytest
import torch

import pgnn
from pgnn.errors import DataError, EvidenceError, ModelError
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
    after = made.log_prob(observed, inputs=INPUTS)
    assert not after.requires_grad  # answers of a fitted model are numbers
    complete = made.log_prob({"label": np.zeros((3, 4), dtype=int)}, inputs=INPUTS)
    assert not complete.requires_grad
    assert float(after.sum()) > before


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
    with pytest.raises(ModelError, match="has a self-loop"):
        pgnn.GraphRandomField(nx.Graph([(0, 0)]), 2, features=1)
    with pytest.raises(ModelError, match="all directed or all undirected"):
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


# --- named attributes -----------------------------------------------------------------------

NODES = [
    {"a": ["p", "q"], "b": {"q": 2.0}, "c": [], "d": {"r": True}},
    {"d": ["p"], "c": ["r", "q"], "b": ["p"], "a": ["q"]},
]
EDGES = [
    {("a", "b"): ["s"], ("c", "b"): ["t"], ("d", "c"): [], ("a", "d"): ["s"], ("a", "c"): ["t"]},
    {("a", "b"): ["t"], ("b", "c"): ["s"], ("d", "c"): ["s"], ("d", "a"): ["t"], ("a", "c"): []},
]
LABELS = [{"a": "u", "b": "v", "c": "w", "d": "u"}, {"a": "v", "b": "u", "d": "w"}]


def named(directed: bool = False, **settings: Any) -> pgnn.GraphRandomField:
    nodes, edges = pgnn.AttributeScores("words"), pgnn.AttributeScores("links")
    return pgnn.GraphRandomField(graph(directed), ["u", "v", "w"], nodes, edges, **settings)


def test_attributes_are_features_by_name() -> None:
    made = named()
    rows, inputs = made.observed(LABELS), {"words": NODES, "links": EDGES}
    made.fit(rows, inputs=inputs, learner=pgnn.Gradient(l2=0.1), progress=False)
    nodes, edges = (p.attributes for p in (made.potentials[0], made.potentials[-1]))
    assert sorted(nodes.names) == ["p", "q", "r"]
    assert sorted(edges.names) == ["s", "t"]
    # the same features as numbers, in the order of nodes
    twin = pgnn.GraphRandomField(graph(), ["u", "v", "w"], features=3)
    x = torch.zeros(2, 4, 3)
    for row, i in itertools.product(range(2), range(4)):
        given = NODES[row][made.node_names[i]]
        for name in given:
            value = given[name] if isinstance(given, dict) else 1.0
            x[row, i, nodes.names.index(name)] = float(value)
    with torch.no_grad():
        for ours, theirs in zip(twin.potentials, made.potentials, strict=False):
            next(ours.parameters()).copy_(next(theirs.parameters()).reshape_as(
                next(ours.parameters())))  # fmt: skip
        edges.weights.zero_()
    torch.testing.assert_close(
        made.log_prob(rows, inputs=inputs), twin.log_prob(rows, inputs={"x": x})
    )
    torch.testing.assert_close(
        made.query(inputs=inputs)["label"].probs, twin.query(inputs={"x": x})["label"].probs
    )


@pytest.mark.parametrize("directed", [False, True])
def test_attributes_of_edges_weigh_pairs_of_labels(directed: bool) -> None:
    made = named(directed)
    links = [dict(row) for row in EDGES]
    if directed:
        links = [{e: row.get(e, row.get(e[::-1])) for e in made.edge_names} for row in EDGES]
    inputs = {"words": NODES, "links": links}
    made.fit(made.observed(LABELS), inputs=inputs, progress=False)
    with torch.no_grad():
        for p in made.parameters():
            p.zero_()
        edges: Any = made.potentials[-1]
        weights = torch.randn(
            len(edges.attributes.weights), generator=torch.Generator().manual_seed(0)
        )
        edges.attributes.weights.copy_(weights)
    table = weights.reshape(2, -1).tolist()
    pairs = [(a, b) for a in range(3) for b in range(0 if directed else a, 3)]
    z = {"a": 0, "b": 2, "c": 1, "d": 2}
    total = 0.0
    for edge, given in zip(made.edge_names, made._in_order(inputs)["links"][0], strict=True):
        ends = (z[edge[0]], z[edge[1]])
        ends = ends if directed else (min(ends), max(ends))
        total += sum(table[edges.attributes.names.index(a)][pairs.index(ends)] for a in given)
    row = made.observed([{n: "uvw"[k] for n, k in z.items()}])
    one = {n: x[:1] for n, x in inputs.items()}
    assert float(made.log_score(row, inputs=one)) == pytest.approx(total, abs=1e-6)


def test_answers_and_files_by_name(tmp_path: Any) -> None:
    made, inputs = named(), {"words": NODES, "links": EDGES}
    made.fit(made.observed(LABELS), inputs=inputs, learner=pgnn.Gradient(l2=0.01), progress=False)
    best = made.by_node(made.most_probable(made.observed(LABELS), inputs=inputs))
    assert best[0] == LABELS[0]
    assert {n: k for n, k in best[1].items() if n != "c"} == LABELS[1]
    lone = {n: x[0] for n, x in inputs.items()}
    given = made.most_probable(made.observed({"a": "w"}), inputs=lone)
    assert made.by_node(given)[0]["a"] == "w"
    unknown = {**inputs, "words": [{**NODES[0], "a": ["never", "p"]}, NODES[1]]}
    assert made.query(inputs=unknown)["label"].probs.isfinite().all()
    made.save(tmp_path / "field")
    again = pgnn.load(tmp_path / "field")
    rows = made.observed(LABELS)
    torch.testing.assert_close(
        again.log_prob(rows, inputs=inputs), made.log_prob(rows, inputs=inputs)
    )
    other = made.on(nx.path_graph(3))
    three = {"words": [[["p"], ["q"], []]], "links": [[["s"], []]]}
    assert other.by_node(other.most_probable(inputs=three))[0].keys() == {0, 1, 2}
    assert repr(made) == (
        "GraphRandomField(4 nodes, 5 edges, 'label' with 3 labels: 'u', 'v', 'w')"
    )
    # data told other attributes: what was kept about the old ones is gone
    made.fit(rows, inputs={**inputs, "words": [NODES[1], NODES[1]]}, progress=False)
    assert made.query(inputs=inputs)["label"].probs.isfinite().all()


def test_a_failed_fit_leaves_the_attributes_alone() -> None:
    made, inputs = named(), {"words": NODES, "links": EDGES}
    made.fit(made.observed(LABELS), inputs=inputs, progress=False)
    before = [p.clone() for p in made.parameters()]
    with pytest.raises(DataError):
        made.fit({"label": [["u", "v", "w", "never"]] * 2}, inputs=inputs, progress=False)
    for p, q in zip(made.parameters(), before, strict=True):
        assert torch.equal(p, q)


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"words": [{**NODES[0], "z": ["p"]}], "links": EDGES[:1]}, "has 'z'"),
        ({"words": [{"a": ["p"]}], "links": EDGES[:1]}, "has no value for 'b'"),
        (
            {"words": [[["p"]] * 3], "links": EDGES[:1]},
            "4 nodes, but row 0 has attributes for 3",
        ),
        ({"words": NODES[:1], "links": [[["s"]]]}, "each of the 5 edges"),
        ({"words": NODES[:1]}, "'links'"),
        ({"words": [[[math.nan]] * 4], "links": EDGES[:1]}, "NaN|nan"),
    ],
)
def test_wrong_attributes_are_told(inputs: Any, message: str) -> None:
    made = named()
    labels = made.observed(LABELS[:1])
    with pytest.raises(DataError, match=message):
        made.fit(labels, inputs=inputs, progress=False)
    made.fit(made.observed(LABELS), inputs={"words": NODES, "links": EDGES}, progress=False)
    with pytest.raises(EvidenceError, match=message):
        made.query(inputs=inputs)


def test_wrong_names_are_told() -> None:
    with pytest.raises(EvidenceError, match="no node 'z'"):
        named().observed({"z": "u"})
    with pytest.raises(ModelError, match="not known yet"):
        named().query(inputs={"words": NODES, "links": EDGES})
    with pytest.raises(DataError, match="needs the input 'words'"):
        named().fit(named().observed(LABELS), progress=False)
    numbers = field()
    some = numbers.most_probable(targets=[("label", 0)], inputs=INPUTS)
    with pytest.raises(EvidenceError, match="by_node needs the labels of all nodes"):
        numbers.by_node(some)
    both = pgnn.AttributeScores("x"), pgnn.AttributeScores("x")
    with pytest.raises(ModelError, match="the same input 'x'"):
        pgnn.GraphRandomField(graph(), 2, *both)
