"""Annealed importance sampling of reals beside exact evidence."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from torch.distributions import MultivariateNormal

import pgnn
from pgnn import HamiltonianAnnealing


def linear(scale: float = 0.5) -> tuple[pgnn.VAE, torch.Tensor]:
    """A linear decoder with a recognition that knows nothing, and the covariance of the data."""
    torch.manual_seed(0)
    decoder = nn.Linear(2, 4, bias=False).double()
    decoder.weight.data.mul_(2.0)
    vae = pgnn.VAE(nn.Linear(4, 4).double(), decoder, pgnn.NormalHead((4,), scale), latent=2)
    weight = decoder.weight.detach()
    return vae, weight @ weight.T + scale**2 * torch.eye(4, dtype=torch.float64)


def test_evidence_is_that_of_the_closed_form() -> None:
    vae, covariance = linear()
    x = torch.randn(3, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    exact = MultivariateNormal(torch.zeros(4).double(), covariance).log_prob(x)
    engine = HamiltonianAnnealing(chains=32, temperatures=40, step=0.3, seed=0)
    found = vae.log_prob(x, engine=engine)
    assert (found - exact).abs().max() < 0.4  # three standard errors of the log of a mean weight
    assert torch.equal(found, vae.log_prob(x, engine=engine))
    drawn = pgnn.Variational(
        objective=pgnn.ImportanceWeighted(32), max_iterations=0, num_samples=32, seed=0
    )
    assert (vae.log_prob(x, engine=drawn) - exact).abs().max() > 2.0
    holes = x.clone()
    holes[:, 1] = torch.nan
    kept = [0, 2, 3]
    part = MultivariateNormal(torch.zeros(3).double(), covariance[kept][:, kept])
    gap = vae.log_prob({"x": holes}, engine=engine) - part.log_prob(x[:, kept])
    assert gap.abs().max() < 0.4


def test_a_positive_cause_has_coordinates() -> None:
    rate, y = pgnn.Variable("rate"), pgnn.Variable("y")
    model = pgnn.BayesianNetwork([("rate", "y")], {
        "rate": pgnn.Distributional(
            rate, [], lambda: torch.distributions.Gamma(torch.tensor(2.0), torch.tensor(1.0))
        ),
        "y": pgnn.Distributional(
            y, [rate], lambda rate: torch.distributions.Exponential(rate, validate_args=False)
        ),
    })  # fmt: skip
    engine = HamiltonianAnnealing(chains=32, temperatures=40, step=0.5, seed=0)
    found = float(model.log_prob({"y": 1.5}, engine=engine))
    assert found == pytest.approx(math.log(2.0) - 3 * math.log(2.5), abs=0.1)  # a Lomax density


def test_what_has_no_latent_reals_is_sent_on() -> None:
    network = pgnn.BayesianNetwork([("a", "b")], {"a": [0.5, 0.5], "b": [[0.9, 0.1], [0.2, 0.8]]})
    with pytest.raises(pgnn.Unsupported, match=r"AnnealedImportanceSampling"):
        network.log_prob({"b": 1}, engine=HamiltonianAnnealing())
    with pytest.raises(pgnn.ModelError, match="step"):
        HamiltonianAnnealing(step=0.0)
