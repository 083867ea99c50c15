"""Trees whose edges are found: against enumeration of all trees, counts, and their own network."""

import itertools
from pathlib import Path

import networkx as nx
import numpy as np
import pytest
import torch

import pgnn
from pgnn.errors import DataError, ModelError
from pgnn.graphs.spanning_tree import maximum_spanning_tree

SIZES = {"a": 2, "b": 3, "c": 2, "d": 4}


def rows(seed: int, n: int = 300) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    a = rng.integers(0, 2, n)
    b = np.where(rng.random(n) < 0.7, a, rng.integers(0, 3, n))
    return {"a": a, "b": b, "c": rng.integers(0, 2, n), "d": (b + rng.integers(0, 2, n)) % 4}


def log_likelihood(edges: list[tuple[str, str]], data: dict[str, np.ndarray]) -> float:
    """Of the best tables on given edges, by a network of plain counts."""
    graph = nx.DiGraph(edges)
    graph.add_nodes_from(SIZES)
    model = pgnn.BayesianNetwork(graph, states=SIZES).fit(data, progress=False)
    return float(model.log_prob(data).sum())


def test_no_other_tree_is_more_likely() -> None:
    data = rows(0)
    tree = pgnn.ChowLiuTree(SIZES, pseudo_count=0.0).fit(data, progress=False)
    every = [
        g
        for pairs in itertools.combinations(itertools.combinations(SIZES, 2), 3)
        if nx.is_tree(g := nx.Graph(pairs)) and len(g) == 4
    ]
    assert len(every) == 16  # Cayley: 4^2
    best = max(log_likelihood(list(nx.bfs_tree(g, "a").edges), data) for g in every)
    assert tree.history["log_likelihood"] == pytest.approx(best, rel=1e-12)
    assert float(tree.log_prob(data).sum()) == pytest.approx(best, rel=1e-12)


@pytest.mark.parametrize("given", [None, "c"])
@pytest.mark.parametrize("pseudo", [0.0, 1.5])
def test_equals_its_network_and_sums_to_one(given: str | None, pseudo: float) -> None:
    data = rows(1)
    tree = pgnn.ChowLiuTree(SIZES, given=given, pseudo_count=pseudo).fit(
        data, weights=np.random.default_rng(2).random(300), progress=False
    )
    network = tree.network()
    assert set(network.graph.edges) == set(tree.graph.edges)
    every = np.array(list(itertools.product(*map(range, SIZES.values()))))
    cells = {n: every[:, k] for k, n in enumerate(SIZES)}
    own = tree.log_prob(cells)
    torch.testing.assert_close(own, network.log_prob(cells))
    codes = torch.from_numpy(np.stack([cells[n] for n in tree.variables], axis=1))
    torch.testing.assert_close(tree.log_density(codes), own)
    assert float(own.exp().sum()) == pytest.approx(1.0, abs=1e-12)
    found = tree.query("a", {"d": 2, "c": 1})["a"].probs
    torch.testing.assert_close(found, network.query("a", {"d": 2, "c": 1})["a"].probs)


def test_a_class_is_told_by_the_augmented_tree() -> None:
    """Two features that are informative together alone: naive Bayes sees nothing in them."""
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 2, (2, 2000))
    data = {"x": x, "y": y, "class": x ^ y}
    tree = pgnn.ChowLiuTree({"x": 2, "y": 2, "class": 2}, given="class").fit(data, progress=False)
    right = tree.most_probable({"x": x, "y": y}, "class")["class"].numpy() == (x ^ y)
    assert right.mean() == 1.0
    naive = pgnn.NaiveBayes(2, {"x": 2, "y": 2}).fit(data, progress=False)
    assert (naive.most_probable({"x": x, "y": y}, "class")["class"].numpy() == (x ^ y)).mean() < 0.7


def test_the_tree_spans_where_nothing_tells_variables_apart() -> None:
    constant = {n: np.zeros(5, dtype=int) for n in SIZES}
    tree = pgnn.ChowLiuTree(SIZES, pseudo_count=0.0).fit(constant, progress=False)
    assert nx.is_tree(tree.graph.to_undirected())
    assert float(tree.log_prob(constant).sum()) == 0.0


def test_spanning_trees_are_the_heaviest() -> None:
    rng = np.random.default_rng(0)
    for size in range(1, 8):
        w = rng.normal(size=(size, size)).round(1)
        w = w + w.T
        parents = maximum_spanning_tree(w)
        mine = sum(w[p, v] for v, p in enumerate(parents) if p >= 0)
        graph = nx.Graph()
        graph.add_nodes_from(range(size))
        pairs = itertools.combinations(range(size), 2)
        graph.add_weighted_edges_from((i, j, w[i, j]) for i, j in pairs)
        other = nx.maximum_spanning_tree(graph).size(weight="weight")
        assert mine == pytest.approx(other)


def test_is_kept(tmp_path: Path) -> None:
    data = rows(3)
    tree = pgnn.ChowLiuTree(SIZES, given="a", pseudo_count=0.5).fit(data, progress=False)
    tree.save(tmp_path / "m")
    again = pgnn.load(tmp_path / "m")
    assert set(again.graph.edges) == set(tree.graph.edges)
    assert again.log_prob(data).equal(tree.log_prob(data))
    again.fit(rows(4), progress=False)  # other edges, other factors
    assert again.log_prob(data).ne(tree.log_prob(data)).any()
    torch.testing.assert_close(again.network().log_prob(data), again.log_prob(data))


def test_wrong_declarations_and_holes() -> None:
    with pytest.raises(ModelError, match="'x' is none"):
        pgnn.ChowLiuTree({"x": pgnn.Variable("x")})
    with pytest.raises(ModelError, match="without a cycle"):
        pgnn.ChowLiuTree(SIZES, parents=[1, 0, -1, -1])
    with pytest.raises(ModelError, match="given='z'"):
        pgnn.ChowLiuTree(SIZES, given="z")
    tree = pgnn.ChowLiuTree(SIZES)
    before = tree.log_prob(rows(0))
    holes = {**{n: [0, 1, 1] for n in "abc"}, "d": [0, None, 1]}
    with pytest.raises(DataError, match="'d' has missing values"):
        tree.fit(holes, learner=pgnn.MaximumLikelihood(), progress=False)
    assert tree.log_prob(rows(0)).equal(before)


@pytest.mark.parametrize("given", [None, "a"])
def test_expected_counts_of_rows_with_holes(given: str | None) -> None:
    tree = pgnn.ChowLiuTree(SIZES, given=given).fit(pgnn.codes(rows(3, 60)), progress=False)
    names = [*tree.variables]
    random = np.random.default_rng(0)
    full = np.stack([np.asarray(rows(4, 12)[n]) for n in names], axis=1)
    codes = np.where(random.random(full.shape) < 0.4, -1, full).astype(np.int32)
    codes[0] = -1
    weights = random.random(len(codes)) + 0.5
    expected, logs = 0.0, []
    sizes = [tree.variables[n].num_states for n in names]
    for row, weight in zip(codes, weights, strict=True):
        states = [range(k) if x < 0 else [x] for x, k in zip(row, sizes, strict=True)]
        every = torch.tensor(list(itertools.product(*states)), dtype=torch.int32)
        log_p = tree.log_density(every)
        logs.append(float(log_p.logsumexp(0)))
        expected = expected + tree.statistics(every, weight * log_p.softmax(0))[0]
    found = tree.statistics(torch.from_numpy(codes), torch.from_numpy(weights))[0]
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(tree.log_density(torch.from_numpy(codes)), logs, atol=1e-10)


def test_em_of_rows_with_holes_never_falls_and_finds_the_edges() -> None:
    whole = pgnn.ChowLiuTree(SIZES, pseudo_count=0.5).fit(pgnn.codes(rows(5, 400)), progress=False)
    data = whole.sample(600, seed=0)
    holes = {}
    for k, n in enumerate(SIZES):
        gone = np.random.default_rng(k).random(600) < 0.2
        holes[n] = np.where(gone, -1, data[n].numpy())
    tree = pgnn.ChowLiuTree(SIZES).fit(pgnn.codes(holes), progress=False, seed=0)
    assert (np.diff(tree.history["trace"]["objective"]) > -1e-8).all()
    assert tree.history["converged"]
    assert set(map(frozenset, tree.graph.edges)) == set(map(frozenset, whole.graph.edges))


def test_classes_may_be_missing_from_tree_augmented_naive_bayes() -> None:
    random = np.random.default_rng(0)
    y = random.integers(0, 2, 400)
    first = np.where(random.random(400) < 0.9, y, 1 - y)
    data = {"y": y, "u": first, "v": np.where(random.random(400) < 0.9, first, 1 - first),
            "w": np.where(random.random(400) < 0.9, y, 1 - y)}  # fmt: skip
    told = {**data, "y": np.where(np.arange(400) < 40, y, -1)}
    model = pgnn.ChowLiuTree(dict.fromkeys(data, 2), given="y")
    model.fit(pgnn.codes(told), progress=False, seed=0)
    features = pgnn.codes({n: x for n, x in data.items() if n != "y"})
    right = (model.most_probable(features, "y")["y"].numpy() == y).mean()
    assert right > 0.85
