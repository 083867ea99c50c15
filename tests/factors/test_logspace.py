"""Logs at the edges: empty sums, equal differences, tails below the rounding of one."""

import numpy as np
import pytest
import torch

from pgnn.factors.logspace import log1mexp, log_cdf, logdiffexp, logsumexp

INF = float("inf")


def test_logsumexp_is_smooth_on_empty_slices() -> None:
    x = torch.tensor([[-INF, -INF], [-INF, 1.0]], dtype=torch.float64, requires_grad=True)
    out = logsumexp(x, [1])
    assert out.tolist() == [-INF, 1.0]
    (grad,) = torch.autograd.grad(out.sum(), x)
    assert grad.tolist() == [[0, 0], [0, 1]]


def test_logsumexp_gradients() -> None:
    x = torch.tensor([[0.1, -2.0], [0.3, 5.0], [-1.0, 0.0]], dtype=torch.float64)
    x.requires_grad_()
    assert torch.autograd.gradcheck(lambda t: logsumexp(t, [0]), x)
    assert torch.autograd.gradgradcheck(lambda t: logsumexp(t, [0]), x)


def test_log1mexp_keeps_tiny_gaps() -> None:
    x = torch.tensor([-1e-300, -1e-20, -0.1, -0.7, -25.0, -INF, 0.0], dtype=torch.float64)
    x.requires_grad_()
    out = log1mexp(x)
    expected = [np.log(1e-300), np.log(1e-20), np.log(-np.expm1(-0.1)), np.log(-np.expm1(-0.7))]
    np.testing.assert_allclose(out[:4].tolist(), expected, rtol=1e-12)
    assert out[4:].tolist() == [np.log1p(-np.exp(-25.0)), 0.0, -INF]
    (grad,) = torch.autograd.grad(out.sum(), x)
    assert torch.isfinite(grad).all()


def test_logdiffexp() -> None:
    a = torch.tensor([-INF, 0.0, -1.0, -1.0], dtype=torch.float64, requires_grad=True)
    b = torch.tensor([-INF, -INF, -1.0, -2.0], dtype=torch.float64, requires_grad=True)
    out = logdiffexp(a, b)
    np.testing.assert_allclose(
        out.tolist(), [-INF, 0, -INF, np.log(np.exp(-1) - np.exp(-2))], rtol=1e-12
    )
    for grad in torch.autograd.grad(out[1:].sum(), (a, b)):
        assert torch.isfinite(grad).all()


def test_log_cdf_keeps_tiny_tails() -> None:
    rows = [[0.25, 0.75, 0.0], [1.0, 1e-30, 1e-40], [0.0, 1.0, 0.0]]
    out = log_cdf(torch.tensor(rows, dtype=torch.float64).log())
    assert out[0].exp().tolist() == pytest.approx([0.25, 1.0])
    assert out[1].tolist() == pytest.approx([-1e-30, -1e-40], rel=1e-12)
    assert out[2].tolist() == [-INF, 0.0]
