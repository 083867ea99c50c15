"""Draws with their log weights, and the objectives of which they are estimates."""

import itertools

import pytest
import torch
from torch import Tensor

import pgnn
from pgnn.inference.continuous.guide_draws import Drawn
from pgnn.inference.continuous.weighted_draws import Weighted

LOG_P = torch.tensor([-0.3, -1.7], dtype=torch.float64)
"""Unnormalised log densities of the two values of a latent."""


def drawn(values: Tensor, log_q: Tensor, pathwise: bool) -> Drawn:
    return Drawn({"z": values}, log_q, pathwise)


def weighted(logit: Tensor, states: list[int]) -> Weighted:
    """Draws ``(S, 1)`` of a latent of two values, of which the second has this logit."""
    index = torch.tensor(states).unsqueeze(1)
    log_q = torch.stack([-logit.exp().log1p(), -(-logit).exp().log1p()])[index]
    return Weighted(LOG_P[index] - log_q, log_q, torch.ones(1), drawn(index, log_q, False), None)


@pytest.mark.parametrize("objective", [pgnn.Elbo(), pgnn.ImportanceWeighted(2)])
def test_gradients_of_draws_without_a_path_are_unbiased(objective: pgnn.Elbo) -> None:
    """The mean gradient over all pairs of draws is that of the mean objective."""
    logit = torch.tensor(0.4, dtype=torch.float64, requires_grad=True)
    total, mean = torch.zeros((), dtype=torch.float64), torch.zeros((), dtype=torch.float64)
    for states in itertools.product([0, 1], repeat=2):
        one = weighted(logit, [*states])
        assert not one.pathwise
        chance = one.log_q.sum().exp()
        (gradient,) = torch.autograd.grad(one.values(objective).sum(), logit, retain_graph=True)
        total = total + chance.detach() * gradient
        mean = mean + chance * objective.combine(one.log_weights).sum()
    (expected,) = torch.autograd.grad(mean, logit)
    assert float(expected.abs()) > 0.01
    torch.testing.assert_close(total, expected)


def test_draws_with_a_path_are_combined_as_they_are() -> None:
    log_weights = torch.tensor([[1.0, 2.0], [3.0, -1.0]], requires_grad=True)
    path, none = (drawn(torch.zeros(2, 2), torch.zeros(2, 2), x) for x in (True, False))
    one = Weighted(log_weights, torch.zeros(2, 2), torch.ones(2), path, None)
    assert one.pathwise
    assert one.values(pgnn.Elbo()).tolist() == [2.0, 0.5]
    (gradient,) = torch.autograd.grad(one.values(pgnn.Elbo()).sum(), log_weights)
    assert gradient.tolist() == [[0.5, 0.5], [0.5, 0.5]]
    assert not one._replace(shared=none).pathwise
    assert one._replace(local=None, shared=path).pathwise
