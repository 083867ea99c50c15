"""Mixtures of models with unobserved real variables, against the same distribution as a network."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import pgnn
from pgnn import Gaussian, Variable
from pgnn.errors import ImpossibleEvidence, Unsupported

B, X, Y, C = Variable("b", 2), Variable("x"), Variable("y", shape=(2,)), Variable("c", 2)
NAN = float("nan")


def numbers(seed: int) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    roots = rng.normal(size=(2, 2, 2, 2))
    return {
        "b": rng.dirichlet([1, 1], 2),
        "x": (rng.normal(size=(2, 2)), rng.uniform(0.3, 2.0, (2, 2))),
        "y": (rng.normal(size=(2, 2, 2)), roots @ roots.swapaxes(-1, -2) + 0.3 * np.eye(2)),
    }


def mixture(n: dict[str, Any]) -> pgnn.ModelMixture:
    parts = [
        pgnn.BayesianNetwork(
            [("b", "x"), ("b", "y")],
            {
                "b": n["b"][k],
                "x": Gaussian(X, [B], n["x"][0][k], n["x"][1][k]),
                "y": Gaussian(Y, [B], n["y"][0][k], n["y"][1][k]),
            },
        )
        for k in range(2)
    ]
    return pgnn.ModelMixture(parts, [0.4, 0.6], name="c")


def network(n: dict[str, Any]) -> pgnn.BayesianNetwork:
    pieces = {
        "c": [0.4, 0.6],
        "b": n["b"],
        "x": Gaussian(X, [C, B], *n["x"]),
        "y": Gaussian(Y, [C, B], *n["y"]),
    }
    return pgnn.BayesianNetwork([("c", "b"), *((p, r) for p in "cb" for r in "xy")], pieces)


ROWS = {
    "x": [NAN, 0.3, NAN, 1.0],
    "y": [[NAN, NAN], [0.1, NAN], [1.0, 2.0], [NAN, 0.0]],
    "b": [None, 1, None, 0],
    "c": [None, None, 1, None],
}


@pytest.mark.parametrize("seed", range(4))
def test_posteriors_are_those_of_the_network(seed: int) -> None:
    n = numbers(seed)
    names: Any
    for names in (["y", "x"], ["x", "b"], ["c", "y"], None):
        ours, theirs = mixture(n).query(names, ROWS), network(n).query(names, ROWS)
        assert {*ours} == {*theirs}
        np.testing.assert_allclose(ours.log_evidence, theirs.log_evidence, atol=1e-10)
        for name in ours:
            if name in ("x", "y"):
                for figure in ("mean", "variance"):
                    np.testing.assert_allclose(
                        getattr(ours[name], figure), getattr(theirs[name], figure), atol=1e-9
                    )
                levels = [ours[name].quantile(0.9), theirs[name].quantile(0.9)]
                np.testing.assert_allclose(*levels, atol=1e-8)
            else:
                np.testing.assert_allclose(ours.probs(name), theirs.probs(name), atol=1e-12)


def test_elements_and_single_rows() -> None:
    n = numbers(0)
    ours, theirs = (
        m.query(("y", 1), {"y": [0.2, NAN], "x": 1.0}) for m in (mixture(n), network(n))
    )
    assert ours["y", 1].mean.shape == ()
    np.testing.assert_allclose(ours["y", 1].mean, theirs["y", 1].mean, atol=1e-12)
    assert ours.frame().shape == theirs.frame().shape


@pytest.mark.parametrize("seed", range(4))
def test_modes_are_those_of_the_network(seed: int) -> None:
    n = numbers(seed)
    for names in (None, ["c", "b", "y", "x"], ["c", "b"]):
        ours = mixture(n).most_probable(ROWS, names)
        theirs = network(n).most_probable(ROWS, names)
        np.testing.assert_allclose(ours.log_prob, theirs.log_prob, atol=1e-9)
        assert ours.upper_bound is not None
        np.testing.assert_allclose(ours.upper_bound, theirs.log_prob, atol=1e-9)
        for name in ours:
            if name in ("x", "y"):
                np.testing.assert_allclose(ours[name], theirs[name], atol=1e-9)
            else:
                assert [*ours[name]] == [*theirs[name]]
    with pytest.raises(Unsupported, match="summed out"):
        mixture(n).most_probable(ROWS, ["b", "x"])


def test_impossible_rows_and_components() -> None:
    n = numbers(0)
    n["b"] = np.array([[1.0, 0.0], [1.0, 0.0]])
    rows = {"b": [0, 1], "x": [NAN, NAN], "y": [[NAN, NAN], [NAN, NAN]]}
    model = mixture(n)
    answer = model.query(["x", "y"], rows, errors="nan")
    assert answer["x"].mean.isnan().tolist() == [False, True]
    for name in ("x", "y"):
        assert answer[name].quantile(0.9).isnan().reshape(2, -1).all(1).tolist() == [False, True]
    best = model.most_probable(rows, errors="nan")
    assert best["x"].isnan().tolist() == [False, True]
    assert best["y"].isnan().all(1).tolist() == [False, True]
    with pytest.raises(ImpossibleEvidence, match=r"1 of 2 rows .*1"):
        model.query("x", rows)
    with pytest.raises(ImpossibleEvidence, match=r"1 of 2 rows .*1"):
        model.most_probable(rows)
    n["b"] = np.array([[1.0, 0.0], [0.0, 1.0]])  # one component excludes the evidence
    answer = mixture(n).query("x", {"b": 1})
    assert float(answer["x"].mean) == pytest.approx(n["x"][0][1, 1])


def test_means_are_differentiable() -> None:
    model = mixture(numbers(1)).requires_grad_()
    mean: Any = model.query("x", {"y": [0.1, 0.5]})["x"].mean
    mean.backward()
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    assert all(bool(g.isfinite().all()) for g in gradients)
    assert sum(float(g.abs().sum()) for g in gradients) > 0
    assert torch.is_grad_enabled()
