"""Logistic and softmax conditionals are learned equally well in any units of their features."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import pgnn
from pgnn import Variable

RNG = np.random.default_rng(0)
Z = RNG.normal(size=400)
Y = np.digitize(Z + 0.7 * RNG.normal(size=400), [-0.5, 0.6])
U = RNG.normal(size=400)
X = Variable("x")
MOVES = [(2000.0, 10.0), (300.0, 1.0), (0.0, 1e-8), (0.0, 1e8), (1e6, 1.0), (0.0, 1e-100)]


def log_likelihood(model: Any, data: Any, name: str) -> float:
    rest = {n: x for n, x in data.items() if n != name}
    probs = model.query(name, rest)[name].probs
    return float(torch.log(probs)[range(len(Y)), data[name]].sum())


def fitted(kind: Any, offset: float, unit: float, learner: Any) -> float:
    states = 2 if kind is pgnn.Logistic else 3
    y = np.minimum(Y, states - 1)
    child = kind(Variable("y", states), [X, Variable("u")])
    pieces = [pgnn.Gaussian(X), pgnn.Gaussian(Variable("u")), child]
    model = pgnn.BayesianNetwork([("x", "y"), ("u", "y")], pieces)
    data = {"x": offset + unit * Z, "u": U, "y": y}
    model.fit(data, learner=learner, progress=False)
    return log_likelihood(model, data, "y")


@pytest.mark.parametrize(("offset", "unit"), MOVES)
@pytest.mark.parametrize("kind", [pgnn.Logistic, pgnn.Softmax])
def test_fits_reach_the_same_maximum(kind: Any, offset: float, unit: float) -> None:
    for learner in (pgnn.MaximumLikelihood(), pgnn.EM()):
        expected = fitted(kind, 0.0, 1.0, learner)
        assert fitted(kind, offset, unit, learner) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize(("offset", "unit"), MOVES)
def test_regressions_and_inputs(offset: float, unit: float) -> None:
    y = np.minimum(Y, 1)
    x = {"x": offset + unit * Z, "u": U}
    model = pgnn.LogisticRegression("y").fit({**x, "y": y}, progress=False)
    found = log_likelihood(model, {**x, "y": y}, "y")
    expected = fitted(pgnn.Logistic, 0.0, 1.0, pgnn.MaximumLikelihood())
    assert found == pytest.approx(expected, abs=1e-6)
    child = pgnn.Logistic(Variable("y", 2), [], inputs={"f": 2})
    network = pgnn.BayesianNetwork([], [child])
    features = torch.from_numpy(np.stack([x["x"], U], axis=1))
    network.fit({"y": y}, inputs={"f": features}, progress=False)
    found = float(network.log_prob({"y": y}, inputs={"f": features}).sum())
    assert found == pytest.approx(expected, abs=1e-6)


def test_constants_are_not_changed() -> None:
    child = pgnn.Logistic(Variable("y", 2), [X], weight=[0.1 + 0.2], bias=0.7)
    child.weight.requires_grad_(False)
    model = pgnn.BayesianNetwork([("x", "y")], [pgnn.Gaussian(X), child])
    child.bias.requires_grad_(True)
    model.fit({"x": 3.0 * Z, "y": np.minimum(Y, 1)}, progress=False)
    assert child.weight.tolist() == [0.1 + 0.2]
    assert child.bias.item() != 0.7


def test_constant_features_have_small_weights() -> None:
    y = np.minimum(Y, 1)
    for value in (0.1, 1e6 + 0.1, -3e-7):
        data = {"x": np.full(400, value), "u": U, "y": y}
        child = pgnn.Logistic(Variable("y", 2), [X, Variable("u")])
        pieces = [pgnn.Gaussian(X, mean=0.0, covariance=1.0), pgnn.Gaussian(Variable("u")), child]
        model = pgnn.BayesianNetwork([("x", "y"), ("u", "y")], pieces)
        model.fit(data, progress=False)
        shift = child.weight.detach()[0] * value * 1e-6
        assert abs(float(shift)) < 1e-3  # a tiny change of the feature changes little


def test_whole_numbers_are_features_like_others() -> None:
    counts, y = np.random.default_rng(1).integers(0, 9, 400), np.minimum(Y, 1)
    found = []
    for kind in (torch.int64, torch.float64):
        child = pgnn.Logistic(Variable("y", 2), [], inputs={"n": 1})
        model = pgnn.BayesianNetwork([], [child])
        features = torch.from_numpy(counts[:, None]).to(kind)
        model.fit({"y": y}, inputs={"n": features}, progress=False)
        found.append(float(child.weight.detach()))
    assert found[0] == pytest.approx(found[1], abs=1e-9)
