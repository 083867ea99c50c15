"""Classifiers as likelihoods."""

import numpy as np
import pytest
import torch
from torch import nn

import pgnn
from pgnn import HiddenMarkovModel, ScaledPosterior, Variable
from pgnn.errors import ModelError, Unsupported

X, STATE = Variable("x", shape=(2,)), Variable("state", 3)
PRIOR = np.array([0.5, 0.3, 0.2])


def network() -> nn.Module:
    made = nn.Linear(2, 3).double()
    nn.init.normal_(made.weight, generator=torch.Generator().manual_seed(0))
    return made


def test_table_is_bayes_rule() -> None:
    emission = ScaledPosterior(X, STATE, network(), PRIOR)
    x = torch.linspace(-1, 1, 10, dtype=torch.float64).reshape(5, 2)
    table = emission.factor({"x": x})
    posterior = torch.softmax(emission.network(x), dim=1).detach().numpy()
    np.testing.assert_allclose(table.log_values.detach(), np.log(posterior / PRIOR), atol=1e-12)
    z = torch.tensor([0, 1, 2, 0, 1])
    known = emission.factor({"x": x, "state": z}).log_values.detach()
    np.testing.assert_allclose(known, np.log(posterior / PRIOR)[range(5), z], atol=1e-12)


def test_posteriors_of_a_chain_equal_those_of_the_true_likelihood() -> None:
    """Of normals with one covariance the posterior is a softmax of a linear function."""
    means = np.array([[0.0, 0.0], [2.0, 0.5], [-1.0, 1.5]])
    moves = np.random.default_rng(0).dirichlet(np.ones(3), 3)
    linear = nn.Linear(2, 3).double()
    with torch.no_grad():
        linear.weight.copy_(torch.from_numpy(means))
        linear.bias.copy_(torch.from_numpy(np.log(PRIOR) - 0.5 * (means**2).sum(1)))
    covariance = np.stack([np.eye(2)] * 3)
    true = HiddenMarkovModel(
        3,
        {"x": lambda c, p: pgnn.Gaussian(c, p, mean=means, covariance=covariance)},
        PRIOR,
        moves,
        shapes={"x": (2,)},
    )
    hybrid = HiddenMarkovModel(3, {"x": ScaledPosterior(X, STATE, linear, PRIOR)}, PRIOR, moves)
    x = true.sample(4, {"T": 30}, seed=0)["x"].clone()
    x[0, 3] = torch.nan
    one, two = true.smooth({"x": x}), hybrid.smooth({"x": x})
    np.testing.assert_allclose(two["state"].probs.detach(), one["state"].probs, atol=1e-10)
    assert torch.equal(hybrid.decode({"x": x})["state"], true.decode({"x": x})["state"])
    with pytest.raises(Unsupported, match="nothing to draw"):
        hybrid.sample(1, {"T": 3})


def test_the_network_is_learnt_through_the_chain() -> None:
    emission = ScaledPosterior(X, STATE, network())
    model = HiddenMarkovModel(3, {"x": emission})
    x = torch.randn(2, 6, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    model.log_prob({"x": x}).sum().backward()
    assert emission.network.weight.grad.abs().sum() > 0


def test_even_priors_and_wrong_ones() -> None:
    assert ScaledPosterior(X, STATE, network()).prior.tolist() == pytest.approx([1 / 3] * 3)
    with pytest.raises(ModelError, match="positive"):
        ScaledPosterior(X, STATE, network(), [0.5, 0.5, 0.0])
    with pytest.raises(ModelError):
        ScaledPosterior(X, STATE, network(), [0.5, 0.5])
    with pytest.raises(ModelError, match="one discrete state"):
        ScaledPosterior(Variable("x", 2), STATE, network())
    with pytest.raises(ModelError, match="logits of 'state'"):
        ScaledPosterior(X, STATE, nn.Linear(2, 4)).factor({"x": torch.zeros(5, 2)})
