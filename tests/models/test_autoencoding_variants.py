"""Priors that are mixtures, codebooks, contraction, scores of anomalies, lines between codes."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Independent, Normal

import pgnn
from pgnn import EvidenceError, LowerBound, ModelError, NormalHead


def clusters(n: int = 120, seed: int = 0) -> Tensor:
    """Three clusters in a space of four dimensions."""
    rng = torch.Generator().manual_seed(seed)
    middles = torch.tensor([[2.0, 0.0, 0.0, 1.0], [-2.0, 1.0, 0.0, 0.0], [0.0, -2.0, 2.0, -1.0]])
    return middles[torch.arange(n) % 3] + 0.2 * torch.randn(n, 4, generator=rng)


def fast(passes: int, **settings: Any) -> LowerBound:
    return LowerBound(
        optimizer=lambda p: torch.optim.Adam(p, lr=0.02), batch_size=30, max_iterations=passes,
        **settings,
    )  # fmt: skip


def with_vamp_prior(pseudo_inputs: Any = 3) -> pgnn.VAE:
    torch.manual_seed(0)
    z, x = pgnn.Variable("z", shape=(2,)), pgnn.Variable("x", shape=(4,))
    encoder = pgnn.Neural(z, [x], nn.Linear(4, 4), head=NormalHead((2,)))
    prior = pgnn.VampPrior(encoder, pseudo_inputs)
    return pgnn.VAE(encoder, nn.Linear(2, 4), NormalHead((4,), 0.3), prior=prior)


def test_vamp_prior_is_the_mean_of_the_recognition() -> None:
    model = with_vamp_prior(clusters(3))
    prior, encoder = model.conditionals["z"], model.recognition["z"]
    z = torch.randn(5, 2, generator=torch.Generator().manual_seed(0))
    each = torch.stack(
        [encoder.distribution({"x": clusters(3)[k : k + 1]}).log_prob(z) for k in range(3)]
    )
    expected = each.logsumexp(0) - math.log(3)
    torch.testing.assert_close(prior.distribution({}).log_prob(z), expected)
    assert prior.num_free_parameters == 12
    (slope,) = torch.autograd.grad(
        prior.distribution({}).log_prob(z).sum(),
        prior.pseudo_inputs,  # type: ignore[arg-type]
    )
    assert bool((slope != 0).any())


def test_vamp_prior_is_learned_and_saved(tmp_path: Any) -> None:
    model, x = with_vamp_prior(clusters(3)), clusters()
    model.fit(x, learner=fast(15), seed=0, progress=False)
    trace = model.history["trace"]["mean_lower_bound"]
    assert trace[-1] > trace[0] + 1.0
    model.save(tmp_path / "vamp.pgnn")
    fresh = with_vamp_prior()
    modules = {
        "x": fresh.conditionals["x"].module,
        "z": fresh.recognition["z"].module,
    }
    again = pgnn.load(tmp_path / "vamp.pgnn", modules=modules)
    assert again.conditionals["z"].recognition is again.recognition["z"]
    assert torch.equal(again.sample(9, seed=0)["x"], model.sample(9, seed=0)["x"])
    with pytest.raises(ModelError, match=r"shape \(K, 4\) of 'x', got \(2, 3\)"):
        with_vamp_prior(torch.zeros(2, 3))


def test_a_mixture_prior_takes_clusters_apart() -> None:
    torch.manual_seed(0)
    z = pgnn.Variable("z", shape=(1,))
    prior = pgnn.GaussianMixture(z, [], 2, form=pgnn.Diagonal())
    vae = pgnn.VAE(nn.Linear(4, 2), nn.Linear(1, 4), NormalHead((4,), 0.3), prior=prior)
    vae.fit(clusters()[torch.arange(120) % 3 < 2], learner=fast(30), seed=0, progress=False)
    means = vae.conditionals["z"].components.mean.flatten()  # type: ignore[union-attr]
    assert abs(float((means[0] - means[1]).detach())) > 0.5


def quantised(codes: int = 4, **settings: Any) -> pgnn.VectorQuantisedAutoencoder:
    torch.manual_seed(0)
    codebook = pgnn.Codebook(pgnn.Variable("z", shape=(2, 3)), codes, **settings)
    decoder = nn.Sequential(nn.Flatten(), nn.Linear(6, 4))
    return pgnn.VectorQuantisedAutoencoder(
        nn.Linear(4, 6), decoder, NormalHead((4,), 0.3), codebook
    )


def test_codebook_is_a_mixture_of_which_the_nearest_counts() -> None:
    book = pgnn.Codebook(pgnn.Variable("z", shape=(2, 3)), 4, commitment=0.5)
    z = torch.randn(5, 2, 3, generator=torch.Generator().manual_seed(0))
    parts = Independent(Normal(book.vectors, 1.0), 1)  # variance 1 / (2 * 0.5)
    each = parts.log_prob(z.unsqueeze(2)) + book.usage.log()
    expected = each.amax(-1).sum(-1)  # all codes are equally likely
    torch.testing.assert_close(book.distribution({}).log_prob(z), expected)
    assert bool((expected < each.logsumexp(-1).sum(-1)).all())
    assert book.distribution({}).sample((7,)).shape == (7, 2, 3)
    assert book.perplexity == pytest.approx(4.0)


def test_quantised_codes_pass_derivatives_on_and_draw_vectors_near() -> None:
    model = quantised()
    book, x = model.codebook.eval(), clusters(6)
    z = model.recognition["z"].distribution({"x": x}).mean
    fit = model.conditionals["x"].distribution({"z": z}).log_prob(x).sum()
    codes = book.vectors[book.nearest(z)].clone().requires_grad_()
    decoder: Any = model.conditionals["x"].module  # type: ignore[union-attr]
    direct = Independent(Normal(decoder(codes), 0.3), 1).log_prob(x).sum()
    torch.testing.assert_close(fit, direct)
    (through,) = torch.autograd.grad(fit, z, retain_graph=True)
    (expected,) = torch.autograd.grad(direct, codes)
    torch.testing.assert_close(through, expected)
    (drawn,) = torch.autograd.grad(book.distribution({}).log_prob(z).sum(), z)
    torch.testing.assert_close(drawn, -2 * 0.25 * (z - codes).detach())


def test_codes_are_running_means_of_what_is_nearest() -> None:
    book = pgnn.Codebook(pgnn.Variable("z", shape=(2,)), 2, decay=0.9)
    torch.manual_seed(1)  # the first codes are then of both groups
    first = torch.tensor([[0.0, 0.0], [0.0, 0.2], [5.0, 5.0], [5.0, 5.4]])
    for _ in range(3):
        book.quantised(first)
    order = book.vectors[:, 0].argsort()
    torch.testing.assert_close(book.vectors[order], torch.tensor([[0.0, 0.1], [5.0, 5.2]]))
    book.quantised(first + 1.0)
    expected = torch.tensor([[0.1, 0.2], [5.1, 5.3]])
    torch.testing.assert_close(book.vectors[order], expected)
    before = book.vectors.clone()
    book.eval().quantised(first)
    assert torch.equal(book.vectors, before)


def test_vector_quantised_autoencoder_learns_discrete_codes(tmp_path: Any) -> None:
    model, x = quantised(decay=0.9), clusters()
    learner = model.default_learner(x)
    learner = fast(40, bound=learner.bound, watch=learner.watch)
    model.fit(x, learner=learner, seed=0, progress=False)
    codes = model.codes(x)
    assert codes.shape == (120, 2)
    by_cluster = [set(map(tuple, codes[k::3].tolist())) for k in range(3)]
    assert all(a.isdisjoint(b) for a, b in itertools.pairwise(by_cluster))
    assert (model.reconstruct(x) - x).square().mean() < 0.2
    assert 1.0 < model.history["trace"]["code_perplexity"][-1] <= 4.0
    drawn = model.sample(50, seed=0)
    gaps = (drawn["z"].unsqueeze(2) - model.codebook.vectors).abs().amax(-1).amin(-1)
    assert float(gaps.max()) < 1e-6
    model.save(tmp_path / "codes.pgnn")
    fresh = quantised()
    modules = {"x": fresh.conditionals["x"].module, "z": fresh.recognition["z"].module}
    again = pgnn.load(tmp_path / "codes.pgnn", modules=modules)
    assert torch.equal(again.codes(x), codes)
    assert torch.equal(again.reconstruct(x), model.reconstruct(x))


def linear(contraction: float = 0.0) -> pgnn.Autoencoder:
    torch.manual_seed(0)
    return pgnn.Autoencoder(
        nn.Linear(4, 2), nn.Linear(2, 4), NormalHead((4,), 1.0), 2, contraction=contraction
    )


def test_contraction_is_the_square_of_the_derivatives() -> None:
    model = linear(0.5)
    weight = model.recognition["z"].module.weight  # type: ignore[union-attr]
    torch.manual_seed(1)
    penalty = model.penalty({"x": torch.zeros(20_000, 4)}, {})
    assert penalty is not None
    expected = 0.5 * weight.square().sum()
    assert float(penalty.mean().detach()) == pytest.approx(float(expected.detach()), rel=0.03)
    (slope,) = torch.autograd.grad(penalty.mean(), weight)
    torch.testing.assert_close(slope, weight.detach(), atol=0.03, rtol=0.0)
    assert linear().penalty({"x": torch.zeros(2, 4)}, {}) is None


def test_contracted_codes_change_less() -> None:
    x = clusters()
    widths = []
    for contraction in (0.0, 20.0):
        model = linear(contraction).fit(x, learner=fast(30), seed=0, progress=False)
        weight = model.recognition["z"].module.weight  # type: ignore[union-attr]
        widths.append(float(weight.detach().square().sum()))
    assert widths[1] < 0.5 * widths[0]


def test_anomalies_score_high() -> None:
    torch.manual_seed(0)
    vae = pgnn.VAE(nn.Linear(4, 4), nn.Linear(2, 4), NormalHead((4,), 0.3), latent=2)
    x = clusters()
    vae.fit(x, learner=fast(30), seed=0, progress=False)
    odd = torch.tensor([[3.0, 3.0, 3.0, 3.0], [torch.nan, -3.0, 0.0, 5.0]])
    scores = vae.anomaly_score(odd, seed=0)
    assert float(scores.min()) > float(vae.anomaly_score(x, seed=0).quantile(0.99))
    engine = pgnn.Variational(
        objective=pgnn.ImportanceWeighted(50), max_iterations=0, num_samples=50, seed=0
    )
    torch.testing.assert_close(scores, -vae.log_prob({"x": odd}, engine=engine))
    assert vae.anomaly_score(odd[:0]).shape == (0,)
    plain = linear()
    expected = -plain.decode(plain.encode(x).mean).log_prob(x)
    torch.testing.assert_close(plain.anomaly_score(x), expected.detach())


def test_lines_between_codes_begin_and_end_at_the_data() -> None:
    model, x = linear(), clusters(6)
    line = model.interpolate(x[:3], x[3:], steps=5)
    assert line.shape == (3, 5, 4)
    torch.testing.assert_close(line[:, 0], model.reconstruct(x[:3]))
    torch.testing.assert_close(line[:, -1], model.reconstruct(x[3:]))
    torch.testing.assert_close(line[:, 2], (line[:, 0] + line[:, -1]) / 2)
    with pytest.raises(EvidenceError, match="got 2 and 3"):
        model.interpolate(x[:2], x[3:])


def test_a_manifold_shows_pictures_of_two_numbers() -> None:
    torch.manual_seed(0)
    vae = pgnn.VAE(nn.Linear(4, 4), nn.Linear(2, 4), pgnn.BernoulliHead((4,)), latent=2)
    ax = pgnn.plot.manifold(vae, size=3)
    picture = np.ma.filled(ax.images[0].get_array(), np.nan)
    assert np.isfinite(picture).sum() == 9 * 4
    three = pgnn.VAE(nn.Linear(4, 6), nn.Linear(3, 4), pgnn.BernoulliHead((4,)), latent=3)
    with pytest.raises(EvidenceError, match="two latent dimensions"):
        pgnn.plot.manifold(three)


def test_what_is_watched_is_in_the_history() -> None:
    learner = fast(3, watch={"slope": lambda m: m.conditionals["x"].module.weight.norm()})
    model = linear().fit(clusters(), learner=learner, seed=0, progress=False)
    assert len(model.history["trace"]["slope"]) == 3
    with pytest.raises(ModelError, match=r"watch\['slope'\]"):
        fast(3, watch={"slope": 1.0})
