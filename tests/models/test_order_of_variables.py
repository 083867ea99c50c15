"""Components of a mixture may have their variables in any order: columns are matched by name."""

import itertools
import warnings
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np
import pandas as pd
import pytest
import torch

import pgnn
from pgnn.errors import ModelError

STATES = {"a": 2, "b": 3, "c": 2, "d": pgnn.Variable("d", 2, shape=(2,))}
EDGES = [[("a", "b"), ("b", "c"), ("a", "d")], [("c", "b"), ("b", "a"), ("c", "d")]]


def tables(k: int) -> dict[str, np.ndarray]:
    random = np.random.default_rng(k)
    sizes = {"a": 2, "b": 3, "c": 2}
    found = {}
    for name in "abc":
        parents = [p for p, child in EDGES[k] if child == name]
        found[name] = random.dirichlet(np.ones(sizes[name]), [sizes[p] for p in parents])
    return found


def network(k: int, order: str) -> pgnn.BayesianNetwork:
    """A component with its variables in an order: "x" is normal given b, d an array."""
    graph = nx.DiGraph()
    graph.add_nodes_from([*order])
    graph.add_edges_from([*EDGES[k], ("b", "x")])
    b, owner = pgnn.Variable("b", 3), pgnn.Variable("a" if k == 0 else "c", 2)
    normal = pgnn.Gaussian(pgnn.Variable("x"), [b], [-4.0 + k, k, 4.0], [1.0, 1.0, 2.0])
    probs = np.random.default_rng(k + 9).uniform(size=(2, 2))
    array = pgnn.Bernoulli(STATES["d"], [owner], probs)
    pieces = {**tables(k), "x": normal, "d": array}
    return pgnn.BayesianNetwork(graph, pieces, states=STATES)


def mixture(*orders: str) -> pgnn.ModelMixture:
    return pgnn.ModelMixture([network(k, o) for k, o in enumerate(orders)], [0.4, 0.6], name="k")


ROWS: dict[str, Any] = {
    "a": [0, None, 1, None],
    "b": [2, 1, None, None],
    "c": [None, 0, 1, None],
    "d": [[0, 1], [-1, 1], [-1, -1], [1, 0]],
    "x": [4.0, np.nan, np.nan, -3.5],
}


@pytest.fixture(scope="module")
def pair() -> list[pgnn.ModelMixture]:
    return [mixture("abcdx", "cxdba"), mixture("abcdx", "abcdx")]


def test_answers_are_those_of_components_in_one_order(pair: list[pgnn.ModelMixture]) -> None:
    soft = {**ROWS, "b": pgnn.likelihood([[0.2, 0.5, 1.0], [1.0, 0.0, 0.3]] * 2)}
    for rows in (ROWS, soft, {}):
        each = [m.query(None, rows) for m in pair]
        for name in ("k", "a", "b", "c", "d"):
            torch.testing.assert_close(each[0][name].probs, each[1][name].probs)
        log_probs = [m.log_prob(rows) for m in pair]
        torch.testing.assert_close(*log_probs)
        torch.testing.assert_close(each[0].log_evidence, log_probs[1])
    discrete = {n: x for n, x in ROWS.items() if n != "x"}
    for targets in (None, ["c", "k", "a", "b", ("d", 1), ("d", 0)], ["k"]):
        best = [m.most_probable(discrete, targets) for m in pair]
        assert best[0].codes.equal(best[1].codes)
        torch.testing.assert_close(best[0].log_prob, best[1].log_prob)


def test_draws_keep_what_was_observed(pair: list[pgnn.ModelMixture]) -> None:
    drawn = [m.sample(6000, ROWS, seed=0) for m in pair]
    for name in ("a", "b", "c", "d"):
        known = torch.as_tensor(
            np.array([[-1 if x is None else x for x in np.ravel(row)] for row in ROWS[name]])
        ).reshape(drawn[0][name].shape[1:])
        assert ((drawn[0][name] == known) | (known < 0)).all()
        shares = [(x[name] == 1).double().mean(dim=0) for x in drawn]
        torch.testing.assert_close(*shares, rtol=0, atol=0.035)
    assert drawn[0]["x"][0, 0] == 4.0


def test_holes_are_filled(pair: list[pgnn.ModelMixture]) -> None:
    rows = pd.DataFrame({n: ROWS[n] for n in "abcx"}).astype("Float64")
    rows = rows.assign(**{n: rows[n].astype("Int64") for n in "abc"})
    pd.testing.assert_frame_equal(*(m.impute(rows) for m in without_arrays()))


def without_arrays() -> list[pgnn.ModelMixture]:
    """The pair, whose components have the variable d no longer."""

    def part(k: int, order: str) -> pgnn.BayesianNetwork:
        graph = nx.DiGraph()
        graph.add_nodes_from([*order])
        graph.add_edges_from([(p, c) for p, c in EDGES[k] if c != "d"] + [("b", "x")])
        whole = network(k, order + "d").conditionals
        return pgnn.BayesianNetwork(graph, {n: whole[n] for n in order})

    orders = [["abcx", "cxba"], ["abcx", "abcx"]]
    return [
        pgnn.ModelMixture([part(k, o) for k, o in enumerate(both)], [0.4, 0.6], name="k")
        for both in orders
    ]


@pytest.mark.parametrize("hard", [False, True])
def test_learning_takes_the_same_steps(hard: bool) -> None:
    rows = mixture("abcdx", "abcdx").sample(60, seed=1)
    data = {n: rows[n].clone() for n in "abcx"}
    data["b"][::7] = -1
    traces = []
    for model in without_arrays():
        model.requires_grad_()
        learner = pgnn.EM(hard=hard, max_iterations=6, accelerate=False, initialize=False)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", pgnn.NotConverged)
            model.fit(pgnn.codes(data), learner=learner, progress=False)
        traces.append(model.history["trace"]["log_likelihood"])
    np.testing.assert_allclose(*traces, rtol=1e-9)
    assert traces[0][-1] > traces[0][0] + 1.0


def test_orders_are_kept_in_files(pair: list[pgnn.ModelMixture], tmp_path: Path) -> None:
    pair[0].save(tmp_path / "m")
    assert pgnn.load(tmp_path / "m").log_prob(ROWS).equal(pair[0].log_prob(ROWS))


A = {"a": [0.3, 0.7], "b": [[0.9, 0.1], [0.5, 0.5]]}
B = {"b": [0.6, 0.4], "a": [[0.1, 0.9], [0.8, 0.2]]}


def test_arrows_in_both_directions() -> None:
    parts = [pgnn.BayesianNetwork([("a", "b")], A), pgnn.BayesianNetwork([("b", "a")], B)]
    assert [[*p.variables] for p in parts] == [["a", "b"], ["b", "a"]]
    model = pgnn.ModelMixture(parts, [0.5, 0.5])
    for engine in (None, pgnn.JunctionTree()):
        for a, b in itertools.product(range(2), repeat=2):
            p = 0.5 * A["a"][a] * A["b"][a][b] + 0.5 * B["b"][b] * B["a"][b][a]
            found = model.log_prob({"a": a, "b": b}, engine=engine)
            assert float(found.exp()) == pytest.approx(p)


def test_components_without_states_take_them_from_the_data() -> None:
    rows = {"a": ["u", "v", "v", "v"], "b": ["s", "s", "t", "t"]}
    parts = [pgnn.BayesianNetwork([("a", "b")]), pgnn.BayesianNetwork([("b", "a")])]
    model = pgnn.ModelMixture(parts).fit(rows, seed=0, progress=False)
    cells = {"a": ["u", "u", "v", "v"], "b": ["s", "t", "s", "t"]}
    np.testing.assert_allclose(
        model.log_prob(cells).exp().detach(), [0.25, 0, 0.25, 0.5], atol=1e-6
    )


def test_other_variables_are_named() -> None:
    def alone(*states: Any) -> pgnn.BayesianNetwork:
        return pgnn.BayesianNetwork([], {"a": [1 / len(states)] * len(states)}, {"a": [*states]})

    with pytest.raises(ModelError, match=r"same states in the same order: .*\[0, 1\]\) and .*4\]"):
        pgnn.ModelMixture([alone(0, 1), alone(0, 1, 2, 3, 4)])
    with pytest.raises(ModelError, match=r"in the same order: .*'no', 'yes'.* and .*'yes', 'no'"):
        pgnn.ModelMixture([alone("no", "yes"), alone("yes", "no")])


def test_chains_may_have_their_emissions_in_any_order() -> None:
    tables = {"x": [[0.9, 0.1], [0.2, 0.8]], "y": [[0.6, 0.3, 0.1], [0.1, 0.1, 0.8]]}

    def chain(*names: str) -> pgnn.HiddenMarkovModel:
        moves = [[0.9, 0.1], [0.2, 0.8]]
        return pgnn.HiddenMarkovModel(2, {n: tables[n] for n in names}, [0.5, 0.5], moves)

    known = {"x": [0, 1, 1], "y": [1, 2, 0]}
    mixed = pgnn.SequenceMixture([chain("x", "y"), chain("y", "x")], [0.5, 0.5])
    expected = float(chain("x", "y").log_prob(known))
    assert float(mixed.log_prob(known)) == pytest.approx(expected)
    steps = {(n, t): value for n, values in known.items() for t, value in enumerate(values)}
    assert float(mixed.unroll(3).log_prob(steps)) == pytest.approx(expected)
