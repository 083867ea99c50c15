"""Sums over alignments: beside torch's own, beside chains, beside enumeration."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import ctc_loss

from pgnn.errors import ModelError
from pgnn.inference.chains.alignments import Alignments


def rows(
    number: int, steps: int, symbols: int, most: int, dtype: torch.dtype = torch.float64
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    rng = torch.Generator().manual_seed(number + steps)
    logs = torch.randn(number, steps, symbols, dtype=dtype, generator=rng).log_softmax(-1)
    lengths = torch.randint(1, steps + 1, (number,), generator=rng)
    sizes = torch.randint(0, most + 1, (number,), generator=rng)
    return logs, lengths, torch.randint(1, symbols, (number, most), generator=rng), sizes


def collapsed(path: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(s for k, s in enumerate(path) if s and (k == 0 or s != path[k - 1]))


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
def test_values_and_gradients_are_those_of_torch(dtype: torch.dtype, tolerance: float) -> None:
    logs, lengths, labels, sizes = rows(60, 20, 4, 8, dtype)
    ours, theirs = (logs.clone().requires_grad_() for _ in range(2))
    log_z = Alignments(ours, lengths, labels, sizes).log_partition()
    loss = ctc_loss(theirs.log_softmax(-1).transpose(0, 1), labels, lengths, sizes,
                    reduction="none")  # fmt: skip
    possible = log_z.isfinite()
    assert log_z.dtype == dtype
    assert 0 < possible.sum() < 60
    assert torch.equal(possible, loss.isfinite())
    torch.testing.assert_close(log_z[possible], -loss[possible], rtol=tolerance, atol=tolerance)
    # torch's gradient is that of scores before a softmax, whatever it was given
    weights = torch.arange(60.0, dtype=dtype).masked_fill(~possible, 0.0)
    (own,) = torch.autograd.grad((weights * log_z.masked_fill(~possible, 0.0)).sum(), ours)
    (other,) = torch.autograd.grad((weights * loss.masked_fill(~possible, 0.0)).sum(), theirs)
    inside = torch.arange(20) < lengths[:, None]
    by_scores = own - logs.exp() * own.sum(-1, keepdim=True)
    kept = inside & possible[:, None]  # elsewhere torch's is NaN
    torch.testing.assert_close(by_scores[kept], -other[kept], rtol=1e-4, atol=60 * tolerance)
    assert own[~possible].eq(0).all()
    assert own[~inside].eq(0).all()


def test_all_paths() -> None:
    logs, *_ = rows(1, 5, 3, 3)
    total: dict[tuple[int, ...], float] = {}
    share: dict[tuple[int, ...], np.ndarray] = {}
    best: dict[tuple[int, ...], tuple[float, tuple[int, ...]]] = {}
    for path in itertools.product(range(3), repeat=5):
        weight = math.exp(sum(float(logs[0, t, s]) for t, s in enumerate(path)))
        z = collapsed(path)
        total[z] = total.get(z, 0.0) + weight
        share[z] = share.get(z, 0.0) + weight * np.eye(3)[list(path)]
        best[z] = max(best.get(z, (0.0, path)), (weight, path))
    assert math.isclose(sum(total.values()), 1.0)
    steps = torch.tensor([5])
    for z, weight in total.items():
        own = Alignments(logs, steps, torch.tensor([z or (1,)]), torch.tensor([len(z)]))
        assert math.isclose(float(own.log_partition()), math.log(weight), rel_tol=1e-12)
        np.testing.assert_allclose(own.posterior()[0].numpy(), share[z] / weight, atol=1e-12)
        paths, scores = own.best()
        assert math.isclose(float(scores), math.log(best[z][0]))
        assert tuple(paths[0].tolist()) == best[z][1]
        assert {collapsed(tuple(p)) for p in own.sample(20, 0)[:, 0].tolist()} == {z}


def test_draws_have_the_posterior() -> None:
    logs, *_ = rows(2, 6, 3, 2)
    own = Alignments(
        logs, torch.tensor([6, 4]), torch.tensor([[1, 1], [2, 0]]), torch.tensor([2, 1])
    )
    drawn = own.sample(4000, 1)
    assert (drawn[:, 1, 4:] == -1).all()
    shares = torch.nn.functional.one_hot(drawn.clamp_min(0), 3).double().mean(0)
    # five standard deviations of a share of 4,000 draws
    assert (shares - own.posterior())[0].abs().max() < 5 * 0.5 / 4000**0.5
    assert (shares - own.posterior())[1, :4].abs().max() < 5 * 0.5 / 4000**0.5


def test_kernel_and_chain_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    logs, lengths, labels, sizes = rows(40, 12, 5, 7)
    lengths[0] = sizes[0] = 0
    lengths[1], sizes[1] = 0, 2
    fast = Alignments(logs, lengths, labels, sizes)
    log_z, posterior = fast.log_partition(), fast.posterior()
    assert log_z[0] == 0
    assert log_z[1] == -math.inf
    monkeypatch.setattr("pgnn.inference.chains.alignments.has_numba", lambda: False)
    monkeypatch.setattr("pgnn.inference.chains.chain.has_numba", lambda: False)
    slow = Alignments(logs, lengths, labels, sizes)
    torch.testing.assert_close(slow.log_partition(), log_z, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(slow.posterior(), posterior, rtol=1e-9, atol=1e-12, equal_nan=True)


def test_derivatives_of_any_order() -> None:
    labels, sizes, lengths = torch.tensor([[1, 1], [2, 1]]), torch.tensor([2, 1]), [5, 4]
    logs = torch.randn(2, 5, 3, dtype=torch.float64, requires_grad=True)

    def value(x: Tensor) -> Tensor:
        return Alignments(x, torch.tensor(lengths), labels, sizes).log_partition()

    assert torch.autograd.gradcheck(value, logs)
    assert torch.autograd.gradgradcheck(value, logs)


def test_numbers_far_apart() -> None:
    """Paths of which a double holds nothing: these rows are computed from logs."""
    logs, _, labels, _ = rows(2, 300, 10, 120)
    wild = (200 * logs).log_softmax(-1)
    steps, sizes = torch.tensor([300, 300]), torch.tensor([120, 120])
    own = Alignments(wild, steps, labels, sizes).log_partition()
    loss = ctc_loss(wild.transpose(0, 1), labels, steps, sizes, reduction="none")
    torch.testing.assert_close(own, -loss, rtol=1e-10, atol=0.0)
    assert own.max() < -1e4


def test_symbols_of_probability_zero() -> None:
    logs = torch.tensor([[[0.0, -math.inf], [-math.inf, 0.0]]], dtype=torch.float64)
    logs.requires_grad_()
    steps, labels = torch.tensor([2]), torch.tensor([[1, 1]])
    assert Alignments(logs, steps, labels, torch.tensor([1])).log_partition() == 0.0
    lost = Alignments(logs, steps, labels, torch.tensor([0]))
    assert lost.log_partition() == -math.inf
    (gradient,) = torch.autograd.grad(lost.log_partition().sum(), logs)
    assert gradient.eq(0).all()
    assert lost.posterior().isnan().all()
    assert (lost.best()[0] == -1).all()


def test_nothing_at_all() -> None:
    none = torch.zeros(0, dtype=torch.int64)
    empty = Alignments(torch.zeros(0, 3, 2), none, torch.zeros(0, 1, dtype=torch.int64), none)
    assert empty.log_partition().shape == (0,)
    one = torch.zeros(1, dtype=torch.int64)
    stepless = Alignments(torch.zeros(1, 0, 2), one, torch.zeros(1, 0, dtype=torch.int64), one)
    assert stepless.log_partition().tolist() == [0.0]


def test_bad_scores_are_named() -> None:
    logs = torch.zeros(2, 3, 2)
    logs[1, 2, 0] = math.nan
    labels, sizes = torch.ones(2, 1, dtype=torch.int64), torch.ones(2, dtype=torch.int64)
    with pytest.raises(ModelError, match="row 1, step 2"):
        Alignments(logs, torch.tensor([3, 3]), labels, sizes)
    assert Alignments(logs, torch.tensor([3, 2]), labels, sizes).log_partition().isfinite().all()
