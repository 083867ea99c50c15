"""Recurrent cells against their equations, written out for two steps."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import pgnn
from pgnn import neural
from pgnn.errors import ModelError

D, H = 3, 4


@pytest.fixture
def steps() -> tuple[Tensor, Tensor]:
    torch.manual_seed(0)
    first, second = torch.randn(2, 5, D)
    return first, second


def sigma(z: Tensor) -> Tensor:
    return 1 / (1 + (-z).exp())


def run(cell: nn.Module, steps: tuple[Tensor, Tensor]) -> Tensor:
    """What a cell shows after the second step."""
    shown = neural.Recurrent(cell, H)(torch.stack(steps, 1))
    assert shown.shape == (5, 2, H)
    return shown[:, 1]


def test_elman_is_torchs(steps):
    cell = nn.RNNCell(D, H)
    w, u, b = cell.weight_ih, cell.weight_hh, cell.bias_ih + cell.bias_hh
    h = torch.zeros(5, H)
    for x in steps:
        h = torch.tanh(x @ w.T + h @ u.T + b)
    assert torch.allclose(run(cell, steps), h, atol=1e-6)


def test_jordan(steps):
    cell = neural.JordanCell(D, 6, H)
    w, u = cell.inner.weight[:, :D], cell.inner.weight[:, D:]
    y = torch.zeros(5, H)
    for x in steps:
        h = torch.tanh(x @ w.T + y @ u.T + cell.inner.bias)
        y = sigma(h @ cell.outer.weight.T + cell.outer.bias)
    assert torch.allclose(run(cell, steps), y, atol=1e-6)


def test_narx(steps):
    network = nn.Linear(3 * D + 2 * H, H)
    cell = neural.NARXCell(D, H, input_delays=2, output_delays=2, network=network)
    x1, x2 = steps
    none_x, none_y = torch.zeros(5, D), torch.zeros(5, H)
    y1 = network(torch.cat([x1, none_x, none_x, none_y, none_y], 1))
    y2 = network(torch.cat([x2, x1, none_x, y1, none_y], 1))
    assert torch.allclose(run(cell, steps), y2, atol=1e-6)
    y3 = network(torch.cat([x1, x2, x1, y2, y1], 1))
    longer = neural.Recurrent(cell)(torch.stack([x1, x2, x1], 1))
    assert torch.allclose(longer[:, 2], y3, atol=1e-6)


def test_time_delay():
    layer, x = neural.TimeDelay(D, H, delays=3), torch.randn(5, 6, D)
    w = layer.convolution.weight  # (H, D, delays), newest last
    expected = layer.convolution.bias + sum(x[:, 4 - k] @ w[:, :, 2 - k].T for k in range(3))
    assert torch.allclose(layer(x)[:, 4], expected, atol=1e-6)
    first = layer.convolution.bias + x[:, 0] @ w[:, :, 2].T
    assert torch.allclose(layer(x)[:, 0], first, atol=1e-6)


def test_residual_recurrences(steps):
    sums, residual = neural.AccumulatingCell(D, H), neural.ResidualCell(D, H)
    memory = neural.MemoryCell(D, H)
    a = b = c = torch.zeros(5, H)
    w, u = residual.linear.weight[:, :D], residual.linear.weight[:, D:]
    for x in steps:
        a = a + torch.tanh(x @ sums.linear.weight.T + sums.linear.bias)
        b = b + torch.tanh(x @ w.T + b @ u.T + residual.linear.bias)
        inner = torch.tanh(x @ memory.inner.weight.T + memory.inner.bias)
        c = c + inner @ memory.weight.weight.T
    assert torch.allclose(run(sums, steps), a, atol=1e-6)
    assert torch.allclose(run(residual, steps), b, atol=1e-6)
    assert torch.allclose(run(memory, steps), torch.tanh(c), atol=1e-6)


@pytest.mark.parametrize(
    "form",
    [
        {},
        {"late_output": False, "bias": False},
        {"diagonal": False, "bias": False},
    ],
    ids=["diagonal", "early", "full"],
)
def test_peepholes(form, steps):
    cell = neural.PeepholeLSTMCell(D, H, **form)
    w, u = cell.inputs.weight.chunk(4), cell.recurrent.weight.chunk(4)
    b = cell.inputs.bias.chunk(4) if form.get("bias", True) else [0.0] * 4
    v = [x if x.dim() == 2 else x.diag() for x in cell.peepholes]
    h = c = torch.zeros(5, H)
    for x in steps:
        before = c
        i = sigma(x @ w[0].T + h @ u[0].T + before @ v[0].T + b[0])
        f = sigma(x @ w[1].T + h @ u[1].T + before @ v[1].T + b[1])
        c = f * before + i * torch.tanh(x @ w[3].T + h @ u[3].T + b[3])
        observed = c if form.get("late_output", True) else before
        o = sigma(x @ w[2].T + h @ u[2].T + observed @ v[2].T + b[2])
        h = o * torch.tanh(c)
    assert torch.allclose(run(cell, steps), h, atol=1e-6)


def test_without_peepholes_it_is_torchs(steps):
    cell, theirs = neural.PeepholeLSTMCell(D, H), nn.LSTMCell(D, H)
    order = [0, 1, 3, 2]  # torch has the candidate before the output gate
    with torch.no_grad():
        cell.peepholes.zero_()
        for name, part in (("weight_ih", cell.inputs.weight), ("weight_hh", cell.recurrent.weight)):
            pieces = getattr(theirs, name).chunk(4)
            part.copy_(torch.cat([pieces[k] for k in order]))
        pieces = (theirs.bias_ih + theirs.bias_hh).chunk(4)
        cell.inputs.bias.copy_(torch.cat([pieces[k] for k in order]))
    assert torch.allclose(run(cell, steps), run(theirs, steps), atol=1e-6)


def test_coupled_gates(steps):
    cell = neural.CoupledLSTMCell(D, H)
    w, u, b = cell.inputs.weight.chunk(3), cell.recurrent.weight.chunk(3), cell.inputs.bias.chunk(3)
    h = c = torch.zeros(5, H)
    for x in steps:
        i, o, new = (x @ w[k].T + h @ u[k].T + b[k] for k in range(3))
        c = (1 - sigma(i)) * c + sigma(i) * torch.tanh(new)
        h = sigma(o) * torch.tanh(c)
    assert torch.allclose(run(cell, steps), h, atol=1e-6)


@pytest.mark.parametrize("keeps_old", [True, False])
def test_reset_before_the_matrix(keeps_old, steps):
    cell = neural.ResetGRUCell(D, H, keeps_old=keeps_old)
    wr, wz, wh = cell.inputs.weight.chunk(3)
    br, bz, bh = cell.inputs.bias.chunk(3)
    ur, uz = cell.gates.weight.chunk(2)
    h = torch.zeros(5, H)
    for x in steps:
        r, z = sigma(x @ wr.T + h @ ur.T + br), sigma(x @ wz.T + h @ uz.T + bz)
        new = torch.tanh(x @ wh.T + (r * h) @ cell.recurrent.weight.T + bh)
        h = z * h + (1 - z) * new if keeps_old else (1 - z) * h + z * new
    assert torch.allclose(run(cell, steps), h, atol=1e-6)


def test_it_is_not_torchs_gated_unit(steps):
    cell, theirs = neural.ResetGRUCell(D, H), nn.GRUCell(D, H)
    with torch.no_grad():
        cell.inputs.weight.copy_(theirs.weight_ih)
        cell.inputs.bias.copy_(theirs.bias_ih + theirs.bias_hh)
        cell.gates.weight.copy_(theirs.weight_hh[: 2 * H])
        cell.recurrent.weight.copy_(theirs.weight_hh[2 * H :])
        theirs.bias_ih += theirs.bias_hh
        theirs.bias_hh.zero_()
    first = steps[:1] + steps[:1]
    assert torch.allclose(cell(steps[0]), theirs(steps[0]), atol=1e-6)  # nothing to reset
    assert (run(cell, first) - run(theirs, first)).abs().max() > 1e-3


def test_both_directions_as_torchs():
    theirs = nn.RNN(D, H, batch_first=True, bidirectional=True)
    cells = nn.RNNCell(D, H), nn.RNNCell(D, H)
    with torch.no_grad():
        for cell, end in zip(cells, ("", "_reverse"), strict=True):
            for name, parameter in cell.named_parameters():
                parameter.copy_(getattr(theirs, f"{name}_l0{end}"))
    x = torch.randn(5, 7, D)
    assert torch.allclose(neural.Bidirectional(*cells)(x), theirs(x)[0], atol=1e-6)


def test_layers_are_stacked_as_torchs():
    theirs = nn.RNN(D, H, num_layers=2, batch_first=True)
    cells = nn.RNNCell(D, H), nn.RNNCell(H, H)
    with torch.no_grad():
        for layer, cell in enumerate(cells):
            for name, parameter in cell.named_parameters():
                parameter.copy_(getattr(theirs, f"{name}_l{layer}"))
    x = torch.randn(5, 7, D)
    stacked = nn.Sequential(*map(neural.Recurrent, cells))
    assert torch.allclose(stacked(x), theirs(x)[0], atol=1e-6)


def test_trees():
    network, leaves = neural.Recursive(H), torch.randn(5, 4, H)
    w, b = network.linear.weight, network.linear.bias

    def node(left: Tensor, right: Tensor) -> Tensor:
        return torch.tanh(torch.cat([left, right], 1) @ w.T + b)

    a, c, d, e = leaves.unbind(1)
    expected = node(node(a, c), node(d, e))
    assert torch.allclose(network(leaves, ((0, 1), (2, 3))), expected, atol=1e-6)
    turned = node(e, node(node(c, a), d))
    assert torch.allclose(network(leaves, (3, ((1, 0), 2))), turned, atol=1e-6)
    deep = 0
    for _ in range(3000):
        deep = (deep, 1)
    assert network(leaves, deep).isfinite().all()
    with pytest.raises(ModelError, match="index below 4, got 4"):
        network(leaves, (0, 4))
    with pytest.raises(ModelError, match=r"2 children, got .0, 1, 2."):
        network(leaves, (0, 1, 2))


CELLS = {
    "elman": lambda: nn.RNNCell(D, H),
    "jordan": lambda: neural.JordanCell(D, 5, H),
    "peephole": lambda: neural.PeepholeLSTMCell(D, H),
    "reset": lambda: neural.ResetGRUCell(D, H),
    "narx": lambda: neural.NARXCell(D, H, 2, 2),
    "memory": lambda: neural.MemoryCell(D, H),
}


@pytest.mark.parametrize("name", CELLS)
def test_real_time_learning_is_propagation_through_time(name):
    torch.manual_seed(0)
    cell = CELLS[name]().double()
    x, y = torch.randn(6, D).double(), torch.randn(6, H).double()
    shown = neural.Recurrent(cell, H)(x[None])[0]
    loss = (shown - y).square().sum()
    expected = torch.autograd.grad(loss, [*cell.parameters()])
    online = neural.RealTimeGradient(cell)
    total: dict[str, Tensor] = {}
    for step in range(6):
        assert torch.allclose(online.step(x[step]), shown[step].detach(), atol=1e-12)
        for n, g in online.gradient(lambda h, t=step: (h - y[t]).square().sum()).items():
            total[n] = total.get(n, 0.0) + g
    for (n, _), g in zip(cell.named_parameters(), expected, strict=True):
        assert torch.allclose(total[n], g, atol=1e-10), n
    assert all(p.grad is None for p in cell.parameters())


def test_gradients_of_a_linear_network_grow_by_powers():
    """By how much the state k steps ago counts: the k-th power of the matrix."""
    cell = nn.RNNCell(1, 1, bias=False).double()
    layer = neural.Recurrent(neural.AccumulatingCell(1, 1).double())
    with torch.no_grad():
        cell.weight_ih.fill_(1.0)
        cell.weight_hh.fill_(0.9)
    x = torch.zeros(1, 40, 1, dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(neural.Recurrent(cell)(x)[0, -1], x)
    assert np.allclose(slope[0, :, 0], 0.9 ** np.arange(39, -1, -1))
    (slope,) = torch.autograd.grad(layer(x)[0, -1], x)
    assert float(slope.std()) == pytest.approx(0.0, abs=1e-12)  # a sum forgets nothing


def test_a_recurrent_body_is_a_conditional():
    """Whether a sequence has an odd number of ones, of which the first steps are learnt."""
    torch.manual_seed(0)
    x = torch.tensor([[a, b, c] for a in (0, 1) for b in (0, 1) for c in (0, 1)])
    odd = x.sum(1) % 2
    body = nn.Sequential(
        neural.Recurrent(neural.ResetGRUCell(1, 8)), neural.LastStep(), nn.Linear(8, 2)
    )
    parity = pgnn.Variable("parity", ["even", "odd"])
    model = pgnn.BayesianNetwork([], [pgnn.Neural(parity, [], body, inputs=["x"])])
    learner = pgnn.Gradient(optimizer=lambda p: torch.optim.Adam(p, lr=0.05), max_iterations=150)
    inputs = {"x": x.float().unsqueeze(2)}
    model.fit({"parity": pgnn.codes(odd)}, inputs=inputs, learner=learner, seed=0)
    found = model.query("parity", inputs=inputs)["parity"].probs.argmax(1)
    assert torch.equal(found, odd)


def test_parity_as_a_network_and_as_a_deterministic_chain():
    """Two units count to two: the parity is h1 - 2 h2 where h = relu(x + parity - (0, 1))."""
    cell = nn.RNNCell(1, 2, nonlinearity="relu")
    with torch.no_grad():
        cell.weight_ih.copy_(torch.tensor([[1.0], [1.0]]))
        cell.weight_hh.copy_(torch.tensor([[1.0, -2.0], [1.0, -2.0]]))
        cell.bias_ih.copy_(torch.tensor([0.0, -1.0]))
        cell.bias_hh.zero_()
    x = torch.tensor([[0, 1, 1, 0, 1, 0, 0, 1, 1, 1]])
    shown = neural.Recurrent(cell)(x.float().unsqueeze(2))
    parity = shown[0, :, 0] - 2 * shown[0, :, 1]
    # a state is the parity so far and the last symbol; symbols are equally likely, and observed
    moves, show = np.zeros((4, 4)), np.zeros((4, 2))
    for p in (0, 1):
        for last in (0, 1):
            show[2 * p + last, last] = 1.0
            for symbol in (0, 1):
                moves[2 * p + last, 2 * (p ^ symbol) + symbol] = 0.5
    chain = pgnn.HiddenMarkovModel(4, {"x": show}, [0.5, 0.0, 0.0, 0.5], moves)
    probs = chain.filter({"x": x[0]})["state"].probs
    odd = probs[..., 2:].sum(-1).flatten()
    assert odd.tolist() == parity.tolist() == (x[0].cumsum(0) % 2).tolist()


def test_wrong_sequences_are_told():
    layer = neural.Recurrent(nn.RNNCell(D, H))
    with pytest.raises(ModelError, match=r"sequences must be \(B, T, D\) with T > 0, got \(5, 3\)"):
        layer(torch.zeros(5, 3))
    with pytest.raises(ModelError, match=r"got \(5, 0, 3\)"):
        layer(torch.zeros(5, 0, 3))
    with pytest.raises(ModelError, match="output size of Identity is unknown"):
        neural.Recurrent(nn.Identity())
    online = neural.RealTimeGradient(nn.RNNCell(D, H))
    with pytest.raises(ModelError, match="before the first step"):
        online.gradient(torch.sum)
    with pytest.raises(ModelError, match=r"must be \(D,\), got \(2, 3\)"):
        online.step(torch.zeros(2, 3))
