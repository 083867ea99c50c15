"""Passes through the body, and the curvature as part of the module's state."""

import pytest
import torch
from torch import Tensor, nn

from pgnn import neural

KINDS = [neural.FullCurvature, neural.KroneckerCurvature]


class Counted(nn.Linear):
    """A layer that counts its passes."""

    passes = 0

    def forward(self, input: Tensor) -> Tensor:
        self.passes += 1
        return super().forward(input)


def made(kind: type, body: nn.Module | None = None) -> neural.LaplaceApproximation:
    torch.manual_seed(0)
    first = nn.Sequential(nn.Linear(2, 4), nn.Tanh()) if body is None else body
    return neural.LaplaceApproximation(first, nn.Linear(4, 3), curvature=kind)


def test_the_body_runs_once() -> None:
    body, x = Counted(2, 4), torch.randn(20, 2)
    laplace = made(neural.KroneckerCurvature, body).learn(x)
    assert body.passes == 1
    laplace(x)
    assert body.passes == 2


def test_the_mean_and_its_variance_are_of_the_same_features() -> None:
    """With dropout, logits of one pass are those of a body that gave the same features."""
    x = torch.ones(1, 2)
    laplace = made(neural.KroneckerCurvature, nn.Sequential(nn.Linear(2, 4), nn.Dropout(0.5)))
    laplace.learn(torch.randn(30, 2)).train()
    torch.manual_seed(1)
    features = laplace.body(x)
    plain = neural.LaplaceApproximation(nn.Identity(), laplace.last)
    plain._curvature = laplace.curvature
    torch.manual_seed(1)
    torch.testing.assert_close(laplace(x), plain(features))


@pytest.mark.parametrize("kind", KINDS)
def test_the_curvature_is_saved_and_moved(kind: type) -> None:
    x = torch.randn(20, 2)
    laplace = made(kind).learn(x)
    again = made(kind)
    again.load_state_dict(laplace.state_dict())
    torch.testing.assert_close(again(x), laplace(x), rtol=0.0, atol=0.0)
    before = laplace.covariance(x)
    moved = laplace.double().covariance(x.double())
    assert moved.dtype == torch.float64
    torch.testing.assert_close(moved.float(), before)


def test_a_module_that_has_not_learned_is_loaded_likewise() -> None:
    fresh = made(neural.FullCurvature)
    outer, again = nn.Sequential(fresh), nn.Sequential(made(neural.FullCurvature))
    again.load_state_dict(outer.state_dict())
    assert again[0]._curvature is None
