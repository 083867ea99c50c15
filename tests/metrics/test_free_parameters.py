"""Numbers of free parameters of every kind of conditional, from their definitions."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch.distributions as dist

import pgnn
from pgnn import Diagonal, Spherical, Tied, Variable
from pgnn.factors.conditionals.conditional import Conditional
from pgnn.metrics import num_learnable_parameters
from tests.zoo import ZOO

A, B, C = Variable("a", 2), Variable("b", 3), Variable("c", 2)
Y2, Y3, R, S = Variable("y", 2), Variable("y", 3), Variable("r"), Variable("s")
V = Variable("v", shape=(3,))
BITS = Variable("bits", 2, shape=(4,))

KINDS: dict[str, tuple[Callable[[], Conditional], int]] = {
    "table": (lambda: pgnn.Tabular(Y3, [A, B]), 6 * 2),
    "or without leak": (lambda: pgnn.NoisyOr(Y2, [A, C]), 2),
    "or": (lambda: pgnn.NoisyOr(Y2, [A, C], [0.5, 0.3], leak=0.1), 3),
    "or, learned leak": (lambda: pgnn.NoisyOr(Y2, [A, C], leak=None), 3),
    "or, zero effect": (lambda: pgnn.NoisyOr(Y2, [A, C], [0.5, 0.0]), 1),
    "and": (lambda: pgnn.NoisyAnd(Y2, [A, C], leak=None), 3),
    "max": (lambda: pgnn.NoisyMax(Y3, [A, B], leak=None), 2 * (1 + 2 + 1)),
    "min": (lambda: pgnn.NoisyMin(Y3, [A, B], leak=None), 2 * (1 + 2 + 1)),
    "max with zeros": (
        lambda: pgnn.NoisyMax(Y3, [A], [[[0.8, 0.2, 0.0]]], leak=[0.5, 0.5, 0.0]),
        1 + 1,
    ),
    "sigmoid": (lambda: pgnn.Sigmoid(Y2, [A, C]), 2 + 1),
    "softmax": (lambda: pgnn.Softmax(Y3, [A, B]), 2 * (1 + 2 + 1)),
    "softmax of a real": (lambda: pgnn.Softmax(Y2, [A, R]), 1 + 1 + 1),
    "normal": (lambda: pgnn.Gaussian(R, [A]), 2 * 2),
    "full": (lambda: pgnn.Gaussian(V, [A]), 2 * (3 + 6)),
    "diagonal": (lambda: pgnn.Gaussian(V, [A], form=Diagonal()), 2 * (3 + 3)),
    "spherical": (lambda: pgnn.Gaussian(V, [A], form=Spherical()), 2 * (3 + 1)),
    "tied": (lambda: pgnn.Gaussian(V, [A], form=Tied()), 2 * 3 + 6),
    "linear": (lambda: pgnn.LinearGaussian(R, [S, A]), 2 * (1 + 1 + 1)),
    "linear, spherical": (
        lambda: pgnn.LinearGaussian(V, [A, S], form=Spherical()),
        2 * (3 + 3 + 1),
    ),
    "poisson": (lambda: pgnn.Poisson(R, [A]), 2),
    "bernoulli": (lambda: pgnn.Bernoulli(BITS, [A]), 2 * 4),
    "multinomial": (lambda: pgnn.Multinomial(V, [A]), 2 * 2),
    "mixture": (lambda: pgnn.GaussianMixture(R, [A], num_components=3), 2 * (2 + 3 * 2)),
    "histogram": (lambda: pgnn.Histogram(R, [A], bins=[0.0, 1.0, 2.0, 3.0]), 2 * 2),
    "torch normal": (lambda: pgnn.Distributional(R, [A], dist.Normal), 2 * 2),
    "torch simplex": (lambda: pgnn.Distributional(V, [A], dist.OneHotCategorical), 2 * 2),
    "torch dirichlet": (lambda: pgnn.Distributional(V, [A], dist.Dirichlet), 2 * 3),
    "torch full": (lambda: pgnn.Distributional(V, [A], dist.MultivariateNormal), 2 * (3 + 6)),
}


@pytest.mark.parametrize("name", KINDS)
def test_each_free_number_counts_once(name: str) -> None:
    make, expected = KINDS[name]
    assert num_learnable_parameters(make().requires_grad_()) == expected


def test_constants_do_not_count() -> None:
    states = {"a": 2, "b": 2, "n": 2}
    edges = [("a", "n"), ("b", "n")]
    model = pgnn.BayesianNetwork(edges, {"n": pgnn.NoisyOr}, states=states)
    assert num_learnable_parameters(model) == 1 + 1 + 2  # no leak


WITH_DECLARED_ZEROS = {"structural_zeros", "single", "unrolled", "noisy_max", "noisy_min"}


@pytest.mark.parametrize("name", ZOO)
def test_all_are_learnable_but_declared_zeros(name: str) -> None:
    model = ZOO[name].make().requires_grad_()
    learnable = num_learnable_parameters(model)
    if name in WITH_DECLARED_ZEROS:
        assert learnable < model.num_free_parameters
    else:
        assert learnable == model.num_free_parameters


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda: pgnn.ChowLiuTree({"a": 3, "b": 3, "c": 4}), 2 + 2 + 3),
        (lambda: pgnn.ChowLiuTree({"a": 3, "b": 3, "c": 4}, parents=[-1, 0, 1]), 2 + 6 + 9),
        (lambda: pgnn.ChowLiuTree({"a": 3, "b": 3, "c": 4}, given="a"), 2 + 3 * (2 + 3)),
        (lambda: pgnn.ModelMixture([pgnn.ChowLiuTree({"a": 3}) for _ in range(2)]), 1 + 2 * 2),
        (lambda: pgnn.MarkovRandomField.grid((2, 2)), 1),
        (lambda: pgnn.Hopfield(5), 5 + 10),
        (lambda: pgnn.BoltzmannMachine(4, 3), 4 + 3 + 6 + 12 + 3),
        (lambda: pgnn.FactorAnalysis(2, features=6), 6 + 6 * 2 - 1 + 6),
    ],
)
def test_models_with_parameters_of_their_own(make: Callable[[], pgnn.Model], expected: int) -> None:
    model = make().requires_grad_()
    assert num_learnable_parameters(model) == model.num_free_parameters == expected
