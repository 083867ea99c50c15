"""Adjustment sets: the formula is evaluated in NumPy for every set of covariates."""

from __future__ import annotations

import itertools
import math

import networkx as nx
import numpy as np
import pytest

import pgnn
from pgnn.errors import ModelError
from pgnn.graphs import adjustment_set, is_adjustment_set

LETTERS = "abcdef"


def random_graph(rng: np.random.Generator, size: int) -> nx.DiGraph:
    graph = nx.DiGraph()
    graph.add_nodes_from(LETTERS[:size])
    order = rng.permutation(size)
    for i, j in itertools.combinations(range(size), 2):
        if rng.random() < 0.5:
            graph.add_edge(LETTERS[order[i]], LETTERS[order[j]])
    return graph


def factors(graph: nx.DiGraph, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Random conditionals, each as an array over all nodes of which others have length one."""
    tables = {}
    for node in graph:
        scope = {node, *graph.predecessors(node)}
        shape = [2 if n in scope else 1 for n in graph]
        table = rng.uniform(0.1, 1.0, shape)
        tables[node] = table / table.sum(axis=[*graph].index(node), keepdims=True)
    return tables


def holds(graph: nx.DiGraph, tables: dict, causes: set, effects: set, covariates: set) -> bool:
    """Whether the sum over covariates is the distribution after the intervention."""
    nodes = [*graph]
    joint = math.prod(tables.values())
    after = math.prod(t for n, t in tables.items() if n not in causes)

    def over(table: np.ndarray, kept: set) -> np.ndarray:
        gone = tuple(k for k, n in enumerate(nodes) if n not in kept)
        return table.sum(axis=gone, keepdims=True)

    whole = np.broadcast_to(after, joint.shape)
    truth = over(whole, causes | effects)
    both = over(joint, causes | effects | covariates)
    given = both / over(joint, causes | covariates)
    adjusted = over(given * over(joint, covariates), causes | effects)
    return bool(np.allclose(adjusted, truth, atol=1e-9))


def subsets(nodes: set[str]) -> list[set[str]]:
    ordered = sorted(nodes)
    sizes = range(len(ordered) + 1)
    return [set(c) for k in sizes for c in itertools.combinations(ordered, k)]


@pytest.mark.parametrize("seed", range(40))
def test_sets_are_those_for_which_the_formula_holds(seed: int) -> None:
    rng = np.random.default_rng(seed)
    graph = random_graph(rng, 5 if seed % 2 else 6)
    tables, order = factors(graph, rng), [*nx.topological_sort(graph)]
    early, late = rng.permutation(order[:3]).tolist(), rng.permutation(order[2:]).tolist()
    causes = set(early[: 1 + seed % 3 // 2])
    effects = set(late[: 1 + seed % 5 // 4]) - causes or {order[-1]}
    if seed % 8 == 7:
        causes, effects = effects, causes
    hidden = {n for n in graph if rng.random() < 0.25} - causes - effects
    rest = set(graph) - causes - effects
    valid = [z for z in subsets(rest) if holds(graph, tables, causes, effects, z)]
    for z in subsets(rest):
        assert is_adjustment_set(graph, causes, effects, z) == (z in valid)
    usable = [z for z in valid if z.isdisjoint(hidden)]
    found = adjustment_set(graph, causes, effects, latent=hidden)
    if found is None:
        assert not usable
    else:
        assert found in usable
        assert not any(z < found for z in usable)


def test_effects_of_a_fitted_model_from_its_covariates() -> None:
    """Only the covariate of a latent common cause is adjusted for."""
    edges = [("u", "z"), ("u", "y"), ("z", "x"), ("x", "y")]
    rng = np.random.default_rng(0)
    rows = {n: rng.integers(0, 2, 400) for n in "uzxy"}
    model = pgnn.BayesianNetwork(edges).fit(rows)
    assert adjustment_set(model, "x", "y", latent="u") == {"z"}
    truth = model.do({"x": 1}).query("y")["y"].probs
    given = [model.query("y", {"x": 1, "z": z})["y"].probs for z in range(2)]
    weights = model.query("z")["z"].probs
    assert (weights[0] * given[0] + weights[1] * given[1]).tolist() == pytest.approx(truth.tolist())


def test_more_than_the_back_door_criterion() -> None:
    """A descendant of the cause that is on no causal path may be adjusted for."""
    graph = nx.DiGraph([("x", "w"), ("u", "w"), ("u", "y")])
    assert adjustment_set(graph, "x", "y") == set()
    assert is_adjustment_set(graph, "x", "y", {"u", "w"})
    assert not is_adjustment_set(graph, "x", "y", "w")


def test_nodes_on_causal_paths_are_never_adjusted_for() -> None:
    graph = nx.DiGraph([("u", "x"), ("u", "m"), ("x", "m"), ("m", "y")])
    assert adjustment_set(graph, "x", "y") == {"u"}
    assert adjustment_set(graph, "x", "y", latent="u") is None


def test_wrong_arguments() -> None:
    graph = nx.DiGraph([("x", "y"), ("u", "y")])
    with pytest.raises(ModelError, match="'x' is both a cause and an effect"):
        adjustment_set(graph, "x", ["x", "y"])
    with pytest.raises(ModelError, match="'y' is both an effect and latent"):
        adjustment_set(graph, "x", "y", latent=["y"])
    with pytest.raises(ModelError, match="'x' is both a cause and a covariate"):
        is_adjustment_set(graph, "x", "y", "x")
    with pytest.raises(ModelError, match="cause 'z' is not in the graph"):
        adjustment_set(graph, "z", "y")
    with pytest.raises(ModelError, match="undirected"):
        adjustment_set(nx.Graph([("x", "y")]), "x", "y")
    with pytest.raises(ModelError, match="cycle"):
        is_adjustment_set(nx.DiGraph([("x", "y"), ("y", "x")]), "x", "y")
