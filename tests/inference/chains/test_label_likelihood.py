"""The likelihood of known labels, and sums of attributes, against torch's own operations."""

import numpy as np
import pytest
import torch

from pgnn.inference.chains.attribute_sums import AttributeSums
from pgnn.inference.chains.label_likelihood import LabelLikelihood
from pgnn.inference.chains.ragged_steps import RaggedSteps

LENGTHS = torch.tensor([3, 0, 11, 1, 2, 12])
N, K = int(LENGTHS.sum()), 4


def scores(dtype: torch.dtype = torch.float64) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [
        torch.randn(*shape, generator=generator, dtype=dtype).requires_grad_()
        for shape in ((N, K), (K,), (K, K))
    ]


def labels() -> torch.Tensor:
    return torch.randint(K, (N,), generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("equal", [True, False], ids=["equal weights", "weights"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_value_and_gradient_are_those_of_torch(dtype: torch.dtype, equal: bool) -> None:
    likelihood, parts = LabelLikelihood(LENGTHS, labels()), scores(dtype)
    weights = torch.full((6,), 0.5) if equal else torch.arange(6.0)
    weights = weights.to(dtype)
    found = [
        (value, *torch.autograd.grad((weights * value).sum(), parts))
        for value in (likelihood(*parts), likelihood.by_torch(*parts))
    ]
    tight = 1e-9 if dtype == torch.float64 else 1e-4
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=tight, atol=tight)
    assert found[0][0][1].item() == 0.0  # nothing to label


def test_derivatives_of_derivatives() -> None:
    likelihood, parts = LabelLikelihood(LENGTHS, labels()), scores()
    assert torch.autograd.gradcheck(likelihood, parts)
    assert torch.autograd.gradgradcheck(likelihood, parts, nondet_tol=1e-9)


def test_impossible_labels_have_no_gradient() -> None:
    z = labels()
    steps, begins, moves = scores()
    barred = torch.zeros(K, K, dtype=torch.bool)
    barred[z[0], z[1]] = True
    kept = moves.masked_fill(barred, -torch.inf)
    value = LabelLikelihood(LENGTHS, z)(steps, begins, kept)
    lost = value.isneginf()
    assert bool(lost[0])
    assert not bool(lost.all())
    (gradient,) = torch.autograd.grad(value[~lost].sum(), steps)
    assert bool(gradient.isfinite().all())
    assert not bool(gradient[:3].any())
    steps, begins, moves = scores()  # no path at all
    nowhere = torch.full((K, K), -torch.inf, dtype=torch.float64) + 0 * moves
    value = LabelLikelihood(LENGTHS, z)(steps, begins, nowhere)
    assert value[[1, 3]].isfinite().all()
    assert not bool(value.isposinf().any())


def test_steps_come_back_from_groups() -> None:
    ragged = RaggedSteps(LENGTHS)
    values = torch.arange(N * 2.0).reshape(N, 2)
    parts = ragged.padded(values)
    assert ragged.unpadded(parts).equal(values)
    assert sum(p.shape[0] * p.shape[1] for p in parts) <= 1.25 * N + 2 * len(LENGTHS)
    rows = ragged.joined([g.double() for g in ragged.groups])
    assert rows.tolist() == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("valued", [False, True], ids=["names", "values"])
def test_sums_of_attributes_are_those_of_torch(valued: bool, dtype: torch.dtype) -> None:
    rng = np.random.default_rng(0)
    numbers = torch.from_numpy(rng.integers(-1, 5, (20, 3)).astype(np.int32))
    values = torch.from_numpy(rng.normal(size=(20, 3))) if valued else None
    pairs = torch.tensor([[0, 0, 1, 3, 4], [0, 2, 1, 2, 0]])
    sums = AttributeSums(numbers, values, pairs, (5, 3))
    weights = torch.from_numpy(rng.normal(size=5)).to(dtype).requires_grad_()
    above = torch.from_numpy(rng.normal(size=(20, 3))).to(dtype)
    found = [
        (out, *torch.autograd.grad((above * out).sum(), weights))
        for out in (sums(weights), sums.by_torch(weights))
    ]
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs)
    for _ in range(2):  # tables are kept between calls
        torch.testing.assert_close(sums(2 * weights.detach()), 2 * found[0][0].detach())
    if dtype == torch.float64:
        assert torch.autograd.gradcheck(sums, (weights,))
        assert torch.autograd.gradgradcheck(lambda w: sums(w * w), (weights,))


def test_no_steps_at_all() -> None:
    nothing = torch.zeros((0, 3), dtype=torch.int32)
    sums = AttributeSums(nothing, None, torch.zeros((2, 0), dtype=torch.long), (0, 3))
    assert sums(torch.zeros(0)).shape == (0, 3)
    none = torch.zeros(0, dtype=torch.long)
    value = LabelLikelihood(none, none)(torch.zeros(0, 2), torch.zeros(2), torch.zeros(2, 2))
    assert value.shape == (0,)
