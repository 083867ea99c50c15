"""Hard EM fills in all discrete states of a row, those that enumeration finds most probable."""

import copy
import itertools
from typing import Any

import numpy as np
import pytest
import torch

import pgnn

RANDOM = np.random.default_rng(3)
ROWS = {n: RANDOM.integers(0, 2, 24) for n in ("k", "a", "b", "c")}
ROWS = {
    n: np.where(RANDOM.random(24) < (0.8 if n == "k" else 0.35), -1, x) for n, x in ROWS.items()
}
REALS = np.where(RANDOM.random(24) < 0.3, np.nan, RANDOM.normal(size=24))


def probs(*shape: int) -> np.ndarray:
    return RANDOM.dirichlet(np.ones(2), shape)


def model_of(kind: str) -> Any:
    if kind in ("classes", "network"):
        k = pgnn.Variable("k", 2)
        normal = pgnn.Gaussian(pgnn.Variable("x"), [k], [-0.5, 0.5], [1.0, 2.0])
        features = {"a": probs(2), "b": probs(2), "c": probs(2), "x": normal}
        if kind == "classes":
            return pgnn.NaiveBayes(2, features, [0.45, 0.55], name="k", smoothing=0.0)
        edges = [("k", "a"), ("k", "b"), ("k", "x"), ("b", "c")]
        return pgnn.BayesianNetwork(edges, {**features, "k": probs()})
    if kind == "models":
        edges = [[("a", "b"), ("b", "c")], [("c", "b"), ("b", "a")]]
        parts: list[pgnn.Model] = [
            pgnn.BayesianNetwork(e, {n: probs(*[2 for _, child in e if child == n]) for n in "abc"})
            for e in edges
        ]
    elif kind == "fields":
        a, b, c = (pgnn.Variable(n, 2) for n in "abc")
        scopes = ([a, b], [b, c])
        parts = [
            pgnn.MarkovRandomField([pgnn.TabularPotential(s, np.exp(probs(2))) for s in scopes])
            for _ in range(2)
        ]
    else:
        parts = [pgnn.ChowLiuTree(dict.fromkeys("abc", 2)) for _ in range(2)]
        for part in parts:
            part.fit({n: RANDOM.integers(0, 2, 30) for n in "abc"}, progress=False)
    return pgnn.ModelMixture(parts, [0.45, 0.55], name="k")


def filled_in(model: Any, rows: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The most probable rows, by the log probabilities of all ways to fill them in."""
    names = [n for n in rows if n != "x"]
    ways = np.array([*itertools.product(range(2), repeat=len(names))])
    logs = []
    for way in ways:
        codes = {n: np.full(24, s) for n, s in zip(names, way, strict=True)}
        x = model.log_prob(pgnn.codes({**rows, **codes})).detach().numpy()
        agrees = [(rows[n] < 0) | (rows[n] == codes[n]) for n in names]
        logs.append(np.where(np.all(agrees, axis=0), x, -np.inf))
    best = ways[np.argmax(logs, axis=0)]
    return {**rows, **{n: best[:, k] for k, n in enumerate(names)}}


@pytest.mark.parametrize("kind", ["classes", "network", "models", "trees", "fields"])
@pytest.mark.filterwarnings("ignore::pgnn.errors.NotConverged")  # after one step
def test_a_step_is_that_of_the_rows_filled_in(kind: str) -> None:
    model = model_of(kind).requires_grad_()
    reals = {"x": REALS} if kind in ("classes", "network") else {}
    expected, whole = copy.deepcopy(model), filled_in(model, {**ROWS, **reals})
    assert any((whole[n] != np.where(ROWS[n] < 0, 0, ROWS[n])).any() for n in "kabc")
    settings = {"max_iterations": 1, "initialize": False, "accelerate": False}
    model.fit(pgnn.codes(ROWS | reals), learner=pgnn.EM(hard=True, **settings), progress=False)
    expected.fit(pgnn.codes(whole), learner=pgnn.EM(**settings), progress=False)
    trace = [m.history["trace"]["log_likelihood"][0] for m in (model, expected)]
    assert trace[0] == pytest.approx(trace[1], abs=1e-9)
    cells = pgnn.codes({n: [0, 0, 1, 1, 0, 1] for n in "ka"} | {n: [0, 1] * 3 for n in "bc"} | (
        {"x": [0.0] * 6} if reals else {}
    ))  # fmt: skip
    torch.testing.assert_close(model.log_prob(cells), expected.log_prob(cells))


@pytest.mark.parametrize("kind", ["classes", "models", "trees", "fields"])
def test_completed_rows_never_become_less_probable(kind: str) -> None:
    model = model_of(kind).requires_grad_()
    rows = pgnn.codes(ROWS | ({"x": REALS} if kind == "classes" else {}))
    learner = pgnn.EM(hard=True, accelerate=False, initialize=False)
    model.fit(rows, learner=learner, progress=False)
    trace = model.history["trace"]["log_likelihood"]
    assert (np.diff(trace) > -1e-8).all()
    assert trace[-1] > trace[0] + 1.0


@pytest.mark.filterwarnings("ignore::pgnn.errors.NotConverged")  # after one step
def test_a_step_is_that_of_the_best_paths_of_sequences() -> None:
    def chain() -> pgnn.HiddenMarkovModel:
        return pgnn.HiddenMarkovModel(2, {"x": probs(2)}, probs(), probs(2))

    model: Any = pgnn.SequenceMixture([chain(), chain()], [0.5, 0.5]).requires_grad_()
    expected, rows = copy.deepcopy(model), RANDOM.integers(0, 2, (6, 4)).tolist()
    labels, paths = [], []
    for x in rows:
        ways = [*itertools.product(range(2), itertools.product(range(2), repeat=4))]
        scores = [model.log_prob({"component": k, "state": [*z], "x": x}) for k, z in ways]
        best = ways[int(torch.stack(scores).argmax())]
        labels.append(best[0])
        paths.append([*best[1]])
    settings = {"max_iterations": 1, "initialize": False, "accelerate": False}
    model.fit({"x": rows}, learner=pgnn.EM(hard=True, **settings), progress=False)
    whole = {"component": labels, "state": paths, "x": rows}
    expected.fit(whole, learner=pgnn.EM(**settings), progress=False)
    torch.testing.assert_close(model.log_prob({"x": rows}), expected.log_prob({"x": rows}))
    assert len(set(labels)) == 2
