"""Densities outside of supports, and supports that are told apart."""

import math
import warnings

import pytest
import torch
from torch import distributions as d
from torch.distributions import constraints

import pgnn
from pgnn.factors.support import inside_of, is_fixed, log_density


def t(*x):
    return torch.tensor(x, dtype=torch.float64)


ONE = t(1.0)[0]
CASES = [
    (d.Exponential(ONE), 0.5, -3.0),
    (d.Gamma(2 * ONE, ONE), 0.5, -0.1),
    (d.Beta(2 * ONE, 3 * ONE), 0.5, 3.0),
    (d.Poisson(ONE), 2.0, 1.5),
    (d.Poisson(ONE), 0.0, -1.0),
    (d.Bernoulli(0.3 * ONE), 1.0, 0.5),
    (d.Binomial(4, 0.3 * ONE), 4.0, 5.0),
    (d.Geometric(0.3 * ONE), 2.0, 0.5),
    (d.NegativeBinomial(3 * ONE, 0.5 * ONE), 2.0, -1.0),
    (d.Uniform(0 * ONE, ONE), 0.5, 1.5),
    (d.LogNormal(0 * ONE, ONE), 1.0, -1.0),
    (d.HalfNormal(ONE), 1.0, -1.0),
    (d.Pareto(ONE, ONE), 2.0, 0.5),
    (d.Weibull(ONE, ONE), 2.0, -0.5),
    (d.Normal(0 * ONE, ONE), 2.0, math.nan),
]


@pytest.mark.parametrize("checked", [True, False])
@pytest.mark.parametrize(("distribution", "inside", "outside"), CASES)
def test_densities_outside_of_the_support_are_zero(distribution, inside, outside, checked):
    before = d.Distribution._validate_args
    d.Distribution.set_default_validate_args(checked)
    try:
        found = log_density(distribution, t(inside, outside))
    finally:
        d.Distribution.set_default_validate_args(before)
    assert found[0] == distribution.log_prob(t(inside)[0])
    assert found[1] == -math.inf


@pytest.mark.parametrize(("distribution", "inside", "outside"), CASES[:-1])
def test_quick_checks_are_those_of_torch(distribution, inside, outside):
    value = t(inside, outside)
    assert inside_of(distribution.support, value).tolist() == [True, False]
    several = d.Independent(distribution.expand((2,)), 1)
    assert inside_of(several.support, value).tolist() is False


def test_simplexes_and_vectors_without_bounds():
    rows = t(0.2, 0.8), t(0.5, 0.6), t(-0.5, 1.5)
    assert inside_of(constraints.simplex, torch.stack(rows)).tolist() == [True, False, False]
    assert inside_of(constraints.real_vector, torch.zeros(2)) is None
    assert inside_of(constraints.real, torch.zeros(2)) is None


def test_derivatives_stay_finite_beside_impossible_values():
    rate = t(1.0)[0].requires_grad_()
    found = log_density(d.Gamma(rate + 1, rate), t(1.0, -1.0))
    found[0].backward()
    assert rate.grad.isfinite()


def test_bounds_that_are_tensors_are_told_apart():
    assert is_fixed(constraints.positive)
    assert is_fixed(d.Beta(ONE, ONE).support)
    assert not is_fixed(d.Uniform(0 * ONE, ONE).support)
    assert not is_fixed(d.Independent(d.Uniform(t(0.0), t(1.0)), 1).support)


def poisson(child, parents):
    class Rate(torch.nn.Module):
        def forward(self, values):
            return d.Poisson(values["k"].double() + 1.0)

    return pgnn.Neural(child, parents, Rate(), features=pgnn.ByName())


def exponential(child, parents):
    return pgnn.Distributional(child, parents, d.Exponential, rate=[1.0, 2.0])


@pytest.mark.parametrize(("make", "value"), [(poisson, 1.5), (exponential, -3.0)])
def test_models_call_impossible_values_impossible(make, value):
    model = pgnn.BayesianNetwork(
        [("k", "x")], {"k": [0.5, 0.5], "x": make}, states={"x": pgnn.Variable("x")}
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert model.log_prob({"x": [value, 1.0]}).isneginf().tolist() == [True, False]
    with pytest.raises(pgnn.ImpossibleEvidence):
        model.query("k", {"x": value})
