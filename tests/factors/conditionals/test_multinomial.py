"""Counts: sums in short floats are exact, and the likelihood that comes with them is the rows'."""

import numpy as np
import pytest
import scipy.sparse as sp
import torch

import pgnn
from pgnn.errors import EvidenceError
from pgnn.factors.sparse_rows import compressed

RNG = np.random.default_rng(0)
LABELS = torch.from_numpy(RNG.integers(0, 3, 4000))
FEW = RNG.poisson(0.7, size=(4000, 7)).astype(float)


def make() -> pgnn.Multinomial:
    child = pgnn.Variable("x", shape=(7,))
    return pgnn.Multinomial(child, [pgnn.Variable("class", 3)])


@pytest.mark.parametrize("scale", [1.0, 1e5, 1e9])
@pytest.mark.parametrize("fractional", [False, True])
def test_sums_are_those_of_numpy(scale: float, fractional: bool) -> None:
    x = torch.from_numpy(FEW * scale)
    weights = torch.nn.functional.one_hot(LABELS, 3).double()
    weights = weights * 0.3 + 0.1 if fractional else weights
    (total,) = make().statistics({"x": x}, weights)
    np.testing.assert_allclose(total, weights.numpy().T @ x.numpy(), rtol=1e-13)


def test_the_likelihood_that_learning_sums_is_that_of_the_rows() -> None:
    weights = torch.nn.functional.one_hot(LABELS, 3).double() * torch.arange(4000)[:, None]
    ones = weights.sum(dim=1)
    for x in (torch.from_numpy(FEW), compressed(sp.csr_array(FEW))):
        own = make()
        values = {"x": x, "class": LABELS}
        told = own.log_likelihood(own.learn(values, weights, pgnn.Laplace()), values, ones)
        rows = own.factor(values).log_values
        torch.testing.assert_close(told, (rows * ones).sum(), rtol=1e-12, atol=0.0)


def test_factorials_beyond_the_table() -> None:
    x = torch.from_numpy(FEW)
    x[7, 2] = 5000.0
    logs = make().factor({"x": x, "class": LABELS}).log_values
    expected = torch.lgamma(x.sum(1) + 1) - torch.lgamma(x + 1).sum(1) - x.sum(1) * np.log(7)
    torch.testing.assert_close(logs.detach(), expected)


@pytest.mark.parametrize("wrong", [-1.0, 0.5, np.inf])
def test_what_is_no_count(wrong: float) -> None:
    x = torch.from_numpy(FEW.copy())
    x[5] = torch.nan  # a row that was not observed is none
    x[9, 1], x[11, 1] = wrong, -wrong  # not even where the sum is whole
    weights = torch.nn.functional.one_hot(LABELS, 3).double()
    with pytest.raises(EvidenceError, match="'x' must hold counts"):
        make().statistics({"x": x}, weights)
