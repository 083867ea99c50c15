"""Autoencoders beside principal components, and heads that they need."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import pgnn
from pgnn import Autoencoder, DiscretisedLogisticHead, LowerBound, NormalHead


def rows() -> np.ndarray:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 2)) * [3.0, 1.5] @ rng.normal(size=(2, 5))
    x = x + 0.3 * rng.normal(size=(200, 5))
    return x - x.mean(0)


def learner(passes: int = 400, **rest: Any) -> LowerBound:
    return LowerBound(
        optimizer=lambda p: torch.optim.Adam(p, lr=0.05), batch_size=200, max_iterations=passes,
        **rest,
    )  # fmt: skip


def linear(**rest: Any) -> Autoencoder:
    torch.manual_seed(0)
    return Autoencoder(
        nn.Linear(5, 2, bias=False), nn.Linear(2, 5, bias=False), NormalHead((5,), 1.0), 2, **rest
    )


def test_linear_autoencoder_spans_the_principal_components() -> None:
    x = rows()
    model = linear().fit(
        torch.tensor(x).float(),
        learner=learner(700, bound=pgnn.Elbo(beta=0.0)),
        seed=0,
        progress=False,
    )
    _, _, directions = np.linalg.svd(x)
    decoder: Any = model.conditionals["x"]
    basis, _ = np.linalg.qr(decoder.module.weight.detach().double().numpy())
    cosines = np.linalg.svd(directions[:2] @ basis, compute_uv=False)
    assert cosines.min() > 0.9999
    best = x @ directions[:2].T @ directions[:2]
    assert np.abs(model.reconstruct(torch.tensor(x).float()).numpy() - best).max() < 0.05


def test_default_learner_takes_the_code_for_free_without_a_prior() -> None:
    assert linear().default_learner(None).bound.beta == 0.0  # type: ignore[attr-defined]
    z = pgnn.Variable("z", shape=(2,))
    laplace = pgnn.Distributional(
        z, [], lambda: torch.distributions.Independent(torch.distributions.Laplace(
            torch.zeros(2), torch.full((2,), 0.1)), 1)
    )  # fmt: skip
    assert linear(prior=laplace).default_learner(None).bound.beta == 1.0  # type: ignore[attr-defined]


def test_sparse_codes_are_nearer_to_zero() -> None:
    x, z = torch.tensor(rows()).float(), pgnn.Variable("z", shape=(2,))
    scale = torch.full((2,), 0.5)
    laplace = pgnn.Distributional(z, [], lambda: torch.distributions.Independent(
        torch.distributions.Laplace(torch.zeros(2), scale), 1))  # fmt: skip
    plain = linear().fit(x, learner=learner(100, bound=pgnn.Elbo(beta=0.0)), progress=False)
    sparse = linear(prior=laplace).fit(x, learner=learner(100), progress=False)
    assert sparse.encode(x).mean.abs().mean() < 0.7 * plain.encode(x).mean.abs().mean()


def test_corruption_disturbs_training_alone() -> None:
    x = torch.tensor(rows()).float()
    model = linear(corruption=nn.Dropout(0.5))
    model.fit(x, learner=learner(20), seed=0, progress=False)
    encoder: Any = model.recognition["z"]
    torch.testing.assert_close(model.encode(x).mean, x @ encoder.module[1].weight.T)


def test_answers_are_estimates_for_a_point_mass_has_no_density() -> None:
    x = torch.tensor(rows()[:3]).float()
    model = linear()
    posterior = model.query("z", {"x": x})
    assert posterior.kind == "estimate"
    torch.testing.assert_close(posterior["z"].mean, model.encode(x).mean, check_dtype=False)


@pytest.mark.parametrize("levels", [2, 3, 256])
def test_discretised_logistic_sums_to_one(levels: int) -> None:
    output = torch.randn(4, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    values = torch.arange(levels, dtype=torch.float64) / (levels - 1)
    base: Any = DiscretisedLogisticHead((3,), levels)(output)
    total = sum(base.base_dist.log_prob(v.expand(4, 3)).exp() for v in values)
    torch.testing.assert_close(total, torch.ones(4, 3, dtype=torch.float64))
    scale = base.base_dist.scale
    middle = (values[-1] + values[-2]) / 2
    last = torch.sigmoid(-(middle - base.base_dist.loc) / scale)
    torch.testing.assert_close(base.base_dist.log_prob(values[-1].expand(4, 3)).exp(), last)
    drawn = base.sample((500,))
    assert set((drawn * (levels - 1)).round().unique().tolist()) <= set(range(levels))


def test_grey_images_are_learned() -> None:
    rng = np.random.default_rng(0)
    x = torch.tensor(np.round(np.clip(rng.normal([0.2, 0.8, 0.5], 0.1, (100, 3)), 0, 1) * 15) / 15)
    torch.manual_seed(0)
    vae = pgnn.VAE(nn.Linear(3, 2), nn.Linear(1, 6), DiscretisedLogisticHead((3,), 16), latent=1)
    vae.fit(x.float(), learner=learner(300), seed=0, progress=False)
    assert vae.history["trace"]["mean_lower_bound"][-1] > 3 * np.log(1 / 16) + 1.0
    drawn = vae.sample(2000, seed=0)["x"]
    assert (drawn.mean(0) - x.mean(0)).abs().max() < 0.05


def test_values_that_a_network_cannot_square_are_named() -> None:
    model = pgnn.Autoencoder(nn.Linear(3, 1), nn.Linear(1, 3), pgnn.NormalHead((3,), 1.0), latent=1)
    before = [p.clone() for p in model.parameters()]
    for size in (1e25, 1e200):
        with pytest.raises(pgnn.DataError, match=r"'x' has values as large as .*rescale them"):
            model.fit(size * torch.ones(4, 3, dtype=torch.float64), progress=False)
    assert all(torch.equal(p, x) for p, x in zip(model.parameters(), before, strict=True))
