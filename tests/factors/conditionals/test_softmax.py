"""Logistic regression against its formula, and against the logistic unit."""

import numpy as np
import pytest
import torch

from pgnn.errors import ModelError
from pgnn.factors import Sigmoid, Softmax, Variable

Y = Variable("y", 3)
A, T = Variable("a", 2), Variable("t", 3)
R = Variable("r", shape=(2, 2))


def softmax(score: np.ndarray) -> np.ndarray:
    weights = np.exp(score - score.max(-1, keepdims=True))
    return np.asarray(weights / weights.sum(-1, keepdims=True))


def test_features_in_their_documented_order() -> None:
    rng = np.random.default_rng(0)
    weight, bias = rng.normal(size=(2 + 4 + 1 + 3, 3)), rng.normal(size=3)
    p = Softmax(Y, [T, R, A], weight, bias, inputs={"u": 3})
    t, a = np.array([0, 2, 1]), np.array([1, 0, 1])
    r, u = rng.normal(size=(3, 2, 2)), rng.normal(size=(3, 3))
    features = np.column_stack([t == 1, t == 2, r.reshape(3, 4), a == 1, u])
    given = {"t": torch.tensor(t), "a": torch.tensor(a), "r": torch.tensor(r)}
    dist = p.distribution(given, {"u": torch.tensor(u)})
    np.testing.assert_allclose(dist.probs, softmax(features @ weight + bias), rtol=1e-12)
    assert p.num_free_parameters == 2 * 11


def test_inputs_with_a_shape_are_flattened() -> None:
    weight = np.arange(12.0).reshape(4, 3)
    flat = Softmax(Y, [], weight, inputs={"u": 4})
    square = Softmax(Y, [], weight, inputs={"u": (2, 2)})
    u = torch.tensor([[0.1, 0.2, 0.3, 0.4]], dtype=torch.float64)
    torch.testing.assert_close(
        flat.factor(inputs={"u": u}).values, square.factor(inputs={"u": u.reshape(1, 2, 2)}).values
    )


def test_binary_softmax_is_the_logistic_unit() -> None:
    y, b = Variable("y", 2), Variable("b", 2)
    unit = Sigmoid(y, [A, b], weight=[1.5, -2.0], bias=0.25)
    weight = np.column_stack([np.zeros(2), [1.5, -2.0]])
    general = Softmax(y, [A, b], weight, bias=[0.0, 0.25])
    torch.testing.assert_close(general.factor().log_values, unit.factor().log_values)
    assert general.num_free_parameters == unit.num_free_parameters == 3


def test_wrong_declarations() -> None:
    with pytest.raises(ModelError, match=r"weight of 'y' must have shape \(3, 3\), got \(2, 3\)"):
        Softmax(Y, [A, T], np.zeros((2, 3)))
    with pytest.raises(ModelError, match="single discrete child, 'r' is not"):
        Softmax(R, [A])
    with pytest.raises(ModelError, match=r"'s' has shape \('T',\); use Neural"):
        Softmax(Y, [Variable("s", shape=("T",))])  # type: ignore[arg-type]
    with pytest.raises(ModelError, match=r"'grid' has shape \(4,\); use Neural"):
        Softmax(Y, [Variable("grid", 2, shape=(4,))])
