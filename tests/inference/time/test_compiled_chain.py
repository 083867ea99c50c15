"""Kernels of the Kalman filter and smoother against the batched passes that torch makes."""

import numpy as np
import pytest
import torch

from pgnn.errors import ModelError
from pgnn.factors.conditionals.regression import Regression
from pgnn.inference.time.compiled_chain import CompiledChain
from pgnn.inference.time.gaussian_chain import GaussianChain


def parts(size: int, width: int, rows: int = 4, steps: int = 6) -> tuple:
    rng = np.random.default_rng(size)

    def regression(n: int, m: int) -> Regression:
        scale = np.tril(rng.normal(size=(n, n))) + 2 * np.eye(n)
        numbers = (0.5 * rng.normal(size=(n, m)), rng.normal(size=n), scale)
        return Regression(*(torch.from_numpy(x) for x in numbers))

    y = rng.normal(size=(rows, steps, width))
    y[rng.random(y.shape) < 0.3] = np.nan
    y[1] = np.where(np.isnan(y[0]), np.nan, y[1])  # two rows of one pattern
    y[0] = np.where(np.isnan(y[1]), np.nan, y[0])
    y[2, 3:] = np.nan
    return regression(size, 0), regression(size, size), regression(width, size), torch.from_numpy(y)


@pytest.mark.parametrize(("size", "width"), [(1, 1), (3, 2), (2, 4)])
def test_moments_are_those_of_the_slow_twin(size: int, width: int) -> None:
    own = parts(size, width)
    slow, fast = GaussianChain(*own), CompiledChain(*own)
    assert fast._compiled
    found, expected = fast.filtered(), slow.filtered()
    for got, right in zip(
        (*found.ahead, *found.now, found.increments),
        (*expected.ahead, *expected.now, expected.increments),
        strict=True,
    ):
        torch.testing.assert_close(got, right, rtol=1e-10, atol=1e-10)
    ends, right_ends = fast.smoothed(found), slow.smoothed(expected)
    for got, right in zip(
        (*ends.states, ends.gain), (*right_ends.states, right_ends.gain), strict=True
    ):
        torch.testing.assert_close(got, right, rtol=1e-10, atol=1e-10)


def test_gradients_are_left_to_torch() -> None:
    start, move, emit, y = parts(2, 2)
    weight = move.weight.requires_grad_()
    chain = CompiledChain(start, move, emit, y)
    total = chain.filtered().increments.sum()
    assert torch.autograd.grad(total, weight)[0].isfinite().all()


def test_a_covariance_that_is_none_is_an_error() -> None:
    start, move, emit, y = parts(2, 1)
    nothing = Regression(emit.weight * 0.0, emit.bias, emit.scale * 0.0)
    with pytest.raises(ModelError, match="positive definite"):
        CompiledChain(start, move, nothing, y).filtered()
