"""Logistic units against the formula written out."""

import itertools
import math

import pytest
import torch

from pgnn.errors import ModelError
from pgnn.factors import Sigmoid, Variable

Y = Variable("y", 2)
PARENTS = [Variable(name, 2) for name in "abc"]
WEIGHT, BIAS = [2.0, -1.5, 0.25], -0.5


def test_table_is_the_formula() -> None:
    probs = Sigmoid(Y, PARENTS, WEIGHT, BIAS).factor().values
    for x in itertools.product(range(2), repeat=3):
        score = BIAS + sum(w * v for w, v in zip(WEIGHT, x, strict=True))
        assert probs[x][1].item() == pytest.approx(1 / (1 + math.exp(-score)), rel=1e-14)


def test_far_tails_are_exact() -> None:
    log_values = Sigmoid(Y, PARENTS[:1], [900.0], 0.0).factor().log_values
    assert log_values[1].tolist() == [-900.0, 0.0]


def test_gradient_of_the_likelihood_is_residual_times_input() -> None:
    unit = Sigmoid(Y, PARENTS, WEIGHT, BIAS).requires_grad_()
    x = torch.tensor([1, 0, 1])
    dist = unit.distribution({v.name: x[k] for k, v in enumerate(PARENTS)})
    grads = torch.autograd.grad(dist.log_prob(torch.tensor(1)), [unit.weight, unit.bias])
    residual = 1 - dist.probs[1].detach()
    torch.testing.assert_close(grads[0], residual * x)
    torch.testing.assert_close(grads[1], residual)


@pytest.mark.parametrize(
    ("weight", "bias", "message"),
    [
        ([1.0], 0.0, r"weight of 'y' must have shape \(3,\), got \(1,\)"),
        (WEIGHT, [0.0], r"bias of 'y' must have shape \(\), got \(1,\)"),
        ([1.0, 2.0, math.inf], 0.0, "weight of 'y' must be finite, got inf"),
        (["a", "b", "c"], 0.0, "weight of 'y' must be a rectangular array of numbers"),
        (torch.zeros(3, requires_grad=True), 0.0, "weight of 'y' requires grad"),
    ],
)
def test_wrong_numbers(weight: object, bias: object, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        Sigmoid(Y, PARENTS, weight, bias)


def test_only_binary_variables() -> None:
    with pytest.raises(ModelError, match="'d' has 3; use Softmax or Tabular"):
        Sigmoid(Y, [Variable("d", 3)])
    with pytest.raises(ModelError, match="'y' has 3"):
        Sigmoid(Variable("y", 3), PARENTS)
