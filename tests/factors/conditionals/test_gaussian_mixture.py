"""Mixtures of normals as emissions."""

import numpy as np
import pytest
import torch
from torch import Tensor

from pgnn.errors import ModelError
from pgnn.factors import Diagonal, Full, GaussianMixture, NormalWishart, Variable
from pgnn.inference.learning.priors import Laplace

S, X, X2 = Variable("s", 2), Variable("x"), Variable("x", shape=(2,))


def rows(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("child", [X, X2])
@pytest.mark.parametrize("form", [Full(), Diagonal()])
def test_learning_climbs(child: Variable, form: Full) -> None:
    x = rows(80, *child.shape) * torch.linspace(0.3, 3.0, 80).reshape(-1, *[1] * len(child.shape))
    w = torch.rand(80, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    p = GaussianMixture(child, [S], 3, form=form)
    p.initialize({"x": x}, 0)
    prior = (NormalWishart(confidence=0.1, degrees=3.0, scale=0.2), Laplace(0.5))
    values = []
    for _ in range(60):
        likelihood = (p.factor({"x": x}).log_values * w).sum()
        values.append(float((likelihood + p.log_prior(prior)).detach()))
        p.maximize(p.statistics({"x": x}, w), prior)
    assert (np.diff(values) > -1e-9).all()
    assert values[-1] > values[0] + 1


def test_one_step_equals_sklearn() -> None:
    mixture = pytest.importorskip("sklearn.mixture")
    x = rows(100, 2) + 3.0 * (torch.arange(100) % 2).unsqueeze(1)
    p = GaussianMixture(X2, [], 2)
    p.initialize({"x": x}, 0)
    peer = mixture.GaussianMixture(
        2,
        reg_covar=0.0,
        max_iter=1,
        weights_init=p.weights.probs.detach().numpy(),
        means_init=p.components.mean.detach().numpy(),
        precisions_init=torch.linalg.inv(p.components.covariance).detach().numpy(),
    )
    with pytest.warns(UserWarning, match="did not converge"):
        peer.fit(x.numpy())
    p.maximize(p.statistics({"x": x}, torch.ones(100)))
    np.testing.assert_allclose(p.weights.probs.detach(), peer.weights_, rtol=1e-9)
    np.testing.assert_allclose(p.components.mean.detach(), peer.means_, rtol=1e-9)
    np.testing.assert_allclose(p.components.covariance.detach(), peer.covariances_, rtol=1e-9)
    expected = peer.score_samples(x.numpy())
    np.testing.assert_allclose(p.factor({"x": x}).log_values.detach(), expected, rtol=1e-9)


def test_gradients_of_weights_and_components() -> None:
    p = GaussianMixture(X2, [S], 2)
    p.initialize({"x": rows(20, 2)}, 0)
    p.forward = lambda observed: p.factor(observed).log_values
    names, values = zip(*p.named_parameters(), strict=True)
    x = rows(3, 2, seed=4)

    def density(*numbers: Tensor) -> Tensor:
        given = dict(zip(names, numbers, strict=True))
        return torch.func.functional_call(p, given, ({"x": x},))

    inputs = [v.detach().clone().requires_grad_() for v in values]
    assert torch.autograd.gradcheck(density, inputs)


def test_vectors_observed_in_part() -> None:
    p = GaussianMixture(X2, [S], 2)
    p.initialize({"x": rows(30, 2)}, 0)
    x = torch.tensor([[0.5, torch.nan]], dtype=torch.float64)
    grid = torch.linspace(-12, 12, 4001, dtype=torch.float64)
    both = torch.stack([torch.full_like(grid, 0.5), grid], dim=1)
    integral = torch.trapezoid(p.factor({"x": both}).values, grid, dim=0)
    torch.testing.assert_close(p.factor({"x": x}).values[0], integral, rtol=1e-6, atol=1e-9)


def test_one_component_is_refused_if_there_is_none() -> None:
    with pytest.raises(ModelError, match="a component or more, got 0"):
        GaussianMixture(X, [S], 0)
    with pytest.raises(ModelError, match="needs a real child"):
        GaussianMixture(S, [], 2)


def test_given_numbers_are_constants() -> None:
    p = GaussianMixture(X, [S], 2, [[0.5, 0.5], [1.0, 0.0]], [[0.0, 1.0], [2.0, 3.0]])
    p.initialize({"x": rows(30)}, 0)
    assert p.weights.probs.tolist() == [[0.5, 0.5], [1.0, 0.0]]
    assert p.components.mean.tolist() == [[0.0, 1.0], [2.0, 3.0]]
    assert p.components.covariance.unique().numel() > 1
    assert p.factor({"x": rows(5)}).log_values.isfinite().all()
    assert p.num_free_parameters == 2 + 4 + 4


@pytest.mark.parametrize("weights", [[[0.5, 0.5]], np.full((2, 2), 0.5), 2.0, True])
def test_parameters_in_place_of_the_number_of_components(weights: object) -> None:
    with pytest.raises(ModelError, match=r"num_components of 'x' must be a whole number.*weights="):
        GaussianMixture(X, [], weights, [0.0, 1.0], [1.0, 1.0])
    number = GaussianMixture(X, [], np.int64(2)).num_components
    assert (number, type(number)) == (2, int)
