"""Reductions against NumPy, and their derivatives against finite differences."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pgnn.inference.semiring import (
    MAX,
    SUM,
    Draw,
    Reduction,
    contract,
    draw,
    log_sum_exp,
    maximum,
)

INF = math.inf


def table(*shape: int, seed: int = 0, zeros: float = 0.3) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(shape, dtype=torch.float64, generator=generator)
    hidden = torch.rand(shape, generator=generator) < zeros
    return values.masked_fill(hidden, -INF)


def numpy_log_sum_exp(x: np.ndarray, axis: int) -> np.ndarray:
    with np.errstate(divide="ignore"):
        return np.log(np.exp(x).sum(axis=axis))


@given(st.integers(0, 10_000), st.integers(-3, 2), st.integers(1, 4))
def test_values_equal_numpy(seed: int, dim: int, states: int) -> None:
    x = table(2, states, 3, seed=seed, zeros=0.6)
    expected = numpy_log_sum_exp(x.numpy(), dim)
    np.testing.assert_allclose(log_sum_exp(x, dim).numpy(), expected, atol=1e-12)
    np.testing.assert_array_equal(maximum(x, dim).numpy(), x.numpy().max(axis=dim))
    sampled = contract([x], Draw(torch.Generator().manual_seed(0)), dim)
    np.testing.assert_allclose(sampled.numpy(), expected, atol=1e-12)


def test_far_outside_the_range_of_exp() -> None:
    x = torch.tensor([[-5000.0, -5000.0], [3000.0, -INF]], dtype=torch.float64)
    expected = [-5000.0 + math.log(2.0), 3000.0]
    torch.testing.assert_close(log_sum_exp(x, 1).tolist(), expected)


@pytest.mark.parametrize("dim", [0, 1, -1])
def test_sum_is_twice_differentiable_with_zeros_and_empty_slices(dim: int) -> None:
    x = table(3, 4, 2, seed=5)
    x[1] = -INF
    x[:, :, 0] = -INF
    x.requires_grad_()

    # exp: gradcheck cannot subtract the -inf of an empty slice from itself
    def f(x: torch.Tensor) -> torch.Tensor:
        return log_sum_exp(x, dim).exp()

    assert torch.autograd.gradcheck(f, x)
    assert torch.autograd.gradgradcheck(f, x)


def test_gradient_of_empty_slices_is_zero_where_torch_gives_nan() -> None:
    x = torch.tensor([[-INF, -INF], [0.0, math.log(3.0)]], requires_grad=True)
    (gradient,) = torch.autograd.grad(log_sum_exp(x, 1).sum(), x)
    torch.testing.assert_close(gradient, torch.tensor([[0.0, 0.0], [0.25, 0.75]]))
    (other,) = torch.autograd.grad(torch.logsumexp(x, 1).sum(), x)
    assert bool(other.isnan().any()), "torch has mended its gradient: the own reduction may go"


def test_maximum_gives_the_gradient_to_the_first_of_ties() -> None:
    x = torch.tensor([[1.0, 2.0, 2.0], [-INF, -INF, -INF], [0.0, 0.0, 0.0]], requires_grad=True)
    (gradient,) = torch.autograd.grad(maximum(x, 1) @ torch.tensor([5.0, 1.0, 7.0]), x)
    assert gradient.tolist() == [[0, 5, 0], [1, 0, 0], [7, 0, 0]]


@pytest.mark.parametrize("reduction", [SUM, MAX])
def test_contract_is_the_reduction_of_the_broadcast_product(reduction: Reduction) -> None:
    tables = [table(3, 1, 2, seed=1), table(4, 2, seed=2), table(3, 4, 1, seed=3)]
    product = (tables[0] + tables[1] + tables[2]).clone().requires_grad_()
    out = contract(tables, reduction, 0)
    torch.testing.assert_close(out, contract([product], reduction, 0))
    for t in tables:
        t.requires_grad_()
    upstream = torch.arange(8.0, dtype=torch.float64).reshape(4, 2)
    (whole,) = torch.autograd.grad(contract([product], reduction, 0), product, upstream)
    parts = torch.autograd.grad(contract(tables, reduction, 0), tables, upstream)
    for t, part in zip(tables, parts, strict=True):
        torch.testing.assert_close(part, whole.sum_to_size(t.shape))


def test_contract_is_twice_differentiable_in_every_table() -> None:
    tables = [table(3, 1, 2, seed=1).requires_grad_(), table(4, 2, seed=2).requires_grad_()]

    def f(*tables: torch.Tensor) -> torch.Tensor:
        return contract(tables, SUM, -1).exp()

    assert torch.autograd.gradcheck(f, tables)
    assert torch.autograd.gradgradcheck(f, tables)


def test_only_asked_tables_get_a_gradient() -> None:
    a, b = table(3, 2, seed=1), table(3, 2, seed=2).requires_grad_()
    contract([a, b], SUM, 0).exp().sum().backward()
    assert a.grad is None
    assert b.grad is not None


def test_draw_frequencies_and_seed() -> None:
    n = 20_000
    p = torch.tensor([0.1, 0.0, 0.6, 0.3], dtype=torch.float64)
    x = (p.log() - 4000.0).expand(n, 4).clone().requires_grad_()

    def gradient(seed: int) -> torch.Tensor:
        out = contract([x], Draw(torch.Generator().manual_seed(seed)), 1)
        return torch.autograd.grad(out.sum(), x)[0]

    drawn = gradient(3)
    assert torch.equal(drawn.sum(1), torch.ones(n, dtype=torch.float64))
    assert drawn[:, 1].sum() == 0
    sigma = (p * (1 - p) / n).sqrt()
    assert bool(((drawn.mean(0) - p).abs() <= 4 * sigma).all())
    assert torch.equal(drawn, gradient(3))
    assert not torch.equal(drawn, gradient(4))


def test_draw_by_inversion() -> None:
    x = torch.tensor([0.0, 0.25, 0.0, 0.5, 0.25, 0.0], dtype=torch.float64).log()
    below_one = 1.0 - 2.0**-53
    uniform = torch.tensor([0.0, 0.2499, 0.25, 0.7499, 0.75, below_one], dtype=torch.float64)
    states = draw(x.expand(6, 6), uniform, 1)
    assert states.tolist() == [1, 1, 3, 3, 4, 4]
    assert draw(x[:, None].expand(6, 6), uniform, 0).tolist() == states.tolist()
    # were the goal not reached, by rounding, a possible state is still taken
    assert draw(x, torch.tensor(1.0), 0).item() == 1
    empty = torch.full((2, 3), -INF)
    assert draw(empty, uniform[:2], 1).tolist() == [0, 0]


def test_global_random_state_is_left_alone() -> None:
    before = torch.get_rng_state()
    x = torch.zeros(5, 3, requires_grad=True)
    contract([x], Draw(torch.Generator().manual_seed(0)), 1).sum().backward()
    assert torch.equal(before, torch.get_rng_state())
