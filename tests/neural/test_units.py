"""Feed-forward units against their formulas."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from pgnn import neural
from pgnn.errors import ModelError

XOR = torch.tensor([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])


def test_maxout_is_the_largest_linear_function():
    layer, x = neural.Maxout(3, 4, pieces=5), torch.randn(7, 3)
    w, b = layer.linear.weight.reshape(4, 5, 3), layer.linear.bias.reshape(4, 5)
    expected = (torch.einsum("ikd,nd->nik", w, x) + b).max(-1).values
    assert torch.allclose(layer(x), expected, atol=1e-6)


def test_two_radial_units_solve_xor():
    layer = neural.RadialBasis(2, 2, beta=2.0)
    with torch.no_grad():
        layer.centres.copy_(torch.tensor([[0.0, 0.0], [1.0, 1.0]]))
    near = layer(XOR)
    assert near[0].tolist() == pytest.approx([1.0, torch.tensor(-4.0).exp().item()])
    assert (near.sum(1) < 0.5).tolist() == [False, True, True, False]


def test_gaussian_classes_are_bayes_rule():
    codes, x = torch.randn(3, 4), torch.randn(5, 4)
    likelihood = torch.distributions.Normal(codes, 1.5**0.5).log_prob(x[:, None]).sum(-1)
    found = neural.GaussianClasses(codes, 1.5)(x).softmax(1)
    assert torch.allclose(found, likelihood.softmax(1), atol=1e-6)


def test_highway_mixes_input_and_transform():
    layer, x = neural.Highway(3), torch.randn(5, 3)
    gate = layer.gate(x).sigmoid()
    assert torch.allclose(layer(x), layer.transform(x) * gate + x * (1 - gate), atol=1e-6)


def test_a_perceptron_solves_xor():
    torch.manual_seed(0)
    network = neural.mlp(2, 8, 1, activation=nn.Tanh)
    steps = torch.optim.Adam(network.parameters(), lr=0.05)
    labels = torch.tensor([[0.0], [1.0], [1.0], [0.0]])
    for _ in range(200):
        steps.zero_grad()
        nn.functional.binary_cross_entropy_with_logits(network(XOR), labels).backward()
        steps.step()
    assert torch.equal(network(XOR) > 0, labels > 0)


def gate(x: torch.Tensor, weights: list[float], bias: float) -> torch.Tensor:
    """A threshold unit on the last axis."""
    return (x @ torch.tensor(weights) + bias > 0).float()


@pytest.mark.parametrize("n", [2, 3, 4, 5])
def test_parity_by_threshold_logic_flat_and_deep(n):
    """Flat it takes an And for each of the 2^(n-1) odd rows and an Or; deep three gates a step."""
    rows = torch.cartesian_prod(*[torch.tensor([0.0, 1.0])] * n)
    odd = rows.sum(1) % 2
    patterns = rows[odd == 1]
    assert len(patterns) == 2 ** (n - 1)
    ands = [gate(rows, (2 * p - 1).tolist(), 0.5 - float(p.sum())) for p in patterns]
    flat = gate(torch.stack(ands, 1), [1.0] * len(ands), -0.5)
    deep, gates = rows[:, 0], 0
    for k in range(1, n):
        pair = torch.stack([deep, rows[:, k]], 1)
        either, both = gate(pair, [1.0, 1.0], -0.5), gate(pair, [1.0, 1.0], -1.5)
        deep, gates = gate(torch.stack([either, both], 1), [1.0, -1.0], -0.5), gates + 3
    assert torch.equal(flat, odd)
    assert torch.equal(deep, odd)
    assert gates == 3 * (n - 1)


def test_derivatives_of_units():
    """As tabulated: of the logistic function, tanh, ReLU, ELU and softplus."""
    x = torch.tensor([-1.5, -0.2, 0.3, 2.0], dtype=torch.float64, requires_grad=True)
    s, t = x.detach().sigmoid(), x.detach().tanh()
    above = (x.detach() > 0).double()
    table = [
        (torch.sigmoid, s * (1 - s)),
        (torch.tanh, 1 - t**2),
        (torch.relu, above),
        (nn.functional.elu, above + (1 - above) * x.detach().exp()),
        (nn.functional.softplus, s),
    ]
    for f, expected in table:
        (slope,) = torch.autograd.grad(f(x).sum(), x)
        assert torch.allclose(slope, expected, atol=1e-12), f
    jacobian = torch.autograd.functional.jacobian(lambda z: z.softmax(0), x.detach())
    p = x.detach().softmax(0)
    assert torch.allclose(jacobian, p.diag() - torch.outer(p, p), atol=1e-12)


def test_batch_features_tell_rows_that_are_alike():
    layer, x = neural.MinibatchDiscrimination(3, 2, size=4), torch.randn(5, 3)
    compared = layer.tensor(x).reshape(5, 2, 4)
    for i in range(5):
        others = [j for j in range(5) if j != i]
        expected = sum((-(compared[i] - compared[j]).abs().sum(-1)).exp() for j in others)
        assert torch.allclose(layer(x)[i, 3:], expected, atol=1e-6)


def test_wrong_networks_are_told():
    with pytest.raises(ModelError, match="the body must have out_features"):
        neural.Readout(nn.ReLU(), 3)
    with pytest.raises(ModelError, match="at least two sizes"):
        neural.mlp(3)
    with pytest.raises(ModelError, match=r"codes must have shape \(K, D\)"):
        neural.GaussianClasses(torch.zeros(3))
    with pytest.raises(ModelError, match="multiples of 4"):
        neural.dcgan_generator(10, (1, 30, 28))


def test_layers_of_a_body():
    body = neural.mlp(2, 8, 3)
    assert isinstance(body[:2], nn.Sequential)
    assert body[:2](torch.zeros(5, 2)).shape == (5, 8)
    assert body[-1].out_features == 3
