"""Attention by marginals: beside the fields themselves, and checked derivatives."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor

from pgnn.errors import ModelError
from pgnn.inference.trees.projective_trees import ProjectiveTrees
from pgnn.neural import (
    ChainAttention,
    ConstituentAttention,
    DependencyAttention,
    StructuredAttention,
)

LAYERS = [
    lambda: ChainAttention(3),
    lambda: DependencyAttention(3, size=2),
    lambda: DependencyAttention(3, projective=False),
    lambda: ConstituentAttention(3),
]


@pytest.fixture
def steps() -> Tensor:
    torch.manual_seed(0)
    return torch.randn(2, 4, 3, dtype=torch.float64, requires_grad=True)


@pytest.mark.parametrize("make", LAYERS)
def test_derivatives(make: type[StructuredAttention], steps: Tensor) -> None:
    layer = make().double()
    lengths = torch.tensor([4, 2])
    assert torch.autograd.gradcheck(lambda x: layer(x, lengths), steps)
    layer(steps, lengths).sum().backward()
    # what adds the same to all scores of a word makes no difference, hence no derivative
    assert sum(bool(p.grad is not None and p.grad.any()) for p in layer.parameters()) >= 2


@pytest.mark.parametrize("make", LAYERS)
def test_what_lies_beyond_the_end_is_not_attended_to(
    make: type[StructuredAttention], steps: Tensor
) -> None:
    layer, lengths = make().double(), torch.tensor([4, 2])
    changed = steps.detach().clone()
    changed[1, 2:] += 5.0
    before, after, alone = layer(steps, lengths), layer(changed, lengths), layer(steps[1:, :2])
    torch.testing.assert_close(before[0], after[0])
    rows = [x[1] if x.dim() == 2 else x[1, :2] for x in (before, after)]
    torch.testing.assert_close(rows[0], rows[1])
    torch.testing.assert_close(rows[0], alone[0])


def test_a_chain_of_choices(steps: Tensor) -> None:
    layer = ChainAttention(3).double()
    torch.nn.init.normal_(layer.neighbours)
    scores, expected, total = layer.score(steps)[0, :, 0], torch.zeros(4).double(), 0.0
    for choice in itertools.product((0, 1), repeat=4):
        pairs = sum(layer.neighbours[a, b] for a, b in itertools.pairwise(choice))
        chosen = torch.tensor(choice).double()
        weight = ((scores * chosen).sum() + pairs).exp()
        expected, total = expected + weight * chosen, total + weight
    torch.testing.assert_close(layer.weights(steps)[0], expected / total)
    torch.testing.assert_close(layer(steps)[0], expected / total @ steps[0])


def test_heads_are_those_of_the_field(steps: Tensor) -> None:
    layer = DependencyAttention(3).double()
    nodes = torch.cat([layer.root.expand(2, 1, 3), steps], dim=1)
    scores = torch.einsum("bhd,bmd->bhm", layer.head(nodes), layer.word(steps)) / 3**0.5
    marginals = ProjectiveTrees(scores).marginals()
    torch.testing.assert_close(layer(steps), torch.einsum("bhm,bhd->bmd", marginals, nodes))


def test_a_layer_needs_features() -> None:
    with pytest.raises(ModelError, match="features"):
        ChainAttention(0)


@pytest.mark.parametrize("kind", [ChainAttention, DependencyAttention, ConstituentAttention])
def test_steps_of_another_shape_are_told(kind: type[StructuredAttention]) -> None:
    for wrong in (torch.zeros(2, 4, 5), torch.zeros(4, 3)):
        with pytest.raises(ModelError, match=r"steps must be \(B, T, 3\)"):
            kind(3)(wrong)
    for other in (DependencyAttention, ConstituentAttention):
        with pytest.raises(ModelError, match="size"):
            other(3, size=0)


@pytest.mark.parametrize("make", LAYERS)
def test_large_steps_and_no_numbers_beyond_the_end(
    make: type[StructuredAttention], steps: Tensor
) -> None:
    layer, lengths = make().double(), torch.tensor([4, 2])
    large = (1e3 * steps.detach()).requires_grad_()
    layer(large).sum().backward()
    assert large.grad is not None
    assert bool(large.grad.isfinite().all())
    holes = steps.detach().clone()
    holes[1, 2:] = torch.nan
    torch.testing.assert_close(layer(holes, lengths), layer(steps.detach(), lengths))
