"""Chains whose scores are sums over attributes, in one pass, against their parts."""

from collections.abc import Iterator

import numpy as np
import pytest
import torch

from pgnn.inference.chains import attribute_chain
from pgnn.inference.chains.attribute_chain import AttributeChain
from pgnn.inference.chains.attribute_sums import AttributeSums
from pgnn.inference.chains.label_likelihood import LabelLikelihood

LENGTHS = torch.tensor([3, 0, 11, 1, 2, 12])
N, NAMES = int(LENGTHS.sum()), 9


def chain(k: int, valued: bool = False) -> tuple[AttributeChain, list[torch.Tensor]]:
    """Attributes of which some have weights for several labels, some for one, and one for none."""
    rng = np.random.default_rng(k)
    numbers = torch.from_numpy(rng.integers(-1, NAMES, (N, 4)).astype(np.int32))
    values = torch.from_numpy(rng.normal(size=(N, 4))) if valued else None
    weighted = rng.random((NAMES, k)) < 0.5
    weighted[:3] = False
    weighted[[0, 1], [1, 0]] = True
    pairs = torch.from_numpy(np.stack(np.nonzero(weighted)))
    labels = torch.from_numpy(rng.integers(0, k, N))
    made = AttributeChain(
        AttributeSums(numbers, values, pairs, (NAMES, k)), LabelLikelihood(LENGTHS, labels)
    )
    shapes = (pairs.shape[1:], (k,), (k,), (k, k))
    return made, [torch.from_numpy(rng.normal(size=s)).requires_grad_() for s in shapes]


@pytest.mark.parametrize("valued", [False, True], ids=["names", "values"])
@pytest.mark.parametrize("k", [2, 8, 11])
def test_value_and_gradient_are_those_of_the_parts(k: int, valued: bool) -> None:
    fast, parts = chain(k, valued)
    for weights in (torch.full((6,), 0.5).double(), torch.arange(6.0).double()):
        (ours, *gradients), (theirs, *others) = (
            (value, *torch.autograd.grad((weights * value).sum(), parts))
            for value in (fast(*parts), fast.by_parts(*parts))
        )
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)
        for gradient, other in zip(gradients, others, strict=True):
            torch.testing.assert_close(gradient, other, rtol=1e-12, atol=1e-12)
    assert float(ours.detach()[1]) == 0.0  # nothing to label
    with torch.no_grad():
        torch.testing.assert_close(fast(*parts), theirs)
    single = [p.float() for p in parts]
    torch.testing.assert_close(fast(*single), theirs.float())


def test_derivatives_of_derivatives() -> None:
    fast, parts = chain(3)
    assert torch.autograd.gradcheck(fast, parts)
    assert torch.autograd.gradgradcheck(fast, parts, nondet_tol=1e-9)


@pytest.fixture
def slow_calls(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Counts the calls of what is slow and safe."""
    calls: list[int] = []
    by_parts = attribute_chain.AttributeChain.by_parts

    def counted(self, *parts):
        calls.append(1)
        return by_parts(self, *parts)

    monkeypatch.setattr(attribute_chain.AttributeChain, "by_parts", counted)
    return calls


def gradient_of(fast: AttributeChain, parts: list[torch.Tensor]) -> list[torch.Tensor]:
    value = fast(*parts)
    return [*torch.autograd.grad(value[value.isfinite()].sum(), parts)]


def test_transitions_that_are_not_there(slow_calls: list[int]) -> None:
    fast, (weights, first, last, moves) = chain(3)
    z = fast.likelihood.labels
    barred = torch.ones(3, 3, dtype=torch.bool)
    barred[z[:-1], z[1:]] = False
    barred[torch.arange(3), torch.arange(3)] = False
    kept = moves.masked_fill(barred, -torch.inf)
    ours = fast(weights, first, last, kept)
    assert not slow_calls
    torch.testing.assert_close(ours, fast.by_parts(weights, first, last, kept))
    barred[z[0], z[1]] = True  # the first sequence becomes impossible
    none = moves.masked_fill(barred, -torch.inf)
    parts = [weights, first, last, none]
    assert float(fast(*parts)[0].detach()) == -np.inf
    assert all(bool(g.isfinite().all()) for g in gradient_of(fast, parts))


def test_numbers_too_small_to_be_held_are_computed_with_logs(slow_calls: list[int]) -> None:
    fast, (weights, first, last, moves) = chain(3)
    far = torch.tensor([0.0, -900.0, -1800.0]).double()
    barred = torch.tensor([[1, 0, 0], [1, 1, 0], [1, 1, 1]]).bool()
    kept = moves.masked_fill(~barred, -torch.inf)
    steep = [weights, first + far, last - far, kept]  # begins rarely where it must end
    ours = fast(*steep)
    assert slow_calls
    torch.testing.assert_close(ours, fast.by_parts(*steep))
    dense = [weights, first + far, last - far, moves]
    torch.testing.assert_close(fast(*dense), fast.by_parts(*dense))


def test_no_steps_at_all() -> None:
    nothing = torch.zeros((0, 3), dtype=torch.int32)
    none = torch.zeros(0, dtype=torch.long)
    sums = AttributeSums(nothing, None, torch.zeros((2, 0), dtype=torch.long), (0, 2))
    fast = AttributeChain(sums, LabelLikelihood(none, none))
    parts = [torch.zeros(s).double().requires_grad_() for s in ((0,), (2,), (2,), (2, 2))]
    value = fast(*parts)
    assert value.shape == (0,)
    assert not torch.autograd.grad(value.sum(), parts[3])[0].any()
