"""Regularisation as probability: priors, noise, posteriors of weights, pictures moved about."""

from __future__ import annotations

import colorsys
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import prune

import pgnn
from pgnn import neural
from pgnn.errors import ModelError
from pgnn.neural.augmentation import from_hsv, to_hsv

KIND = pgnn.Variable("kind", 3)
ADAM = pgnn.Gradient(optimizer=lambda p: torch.optim.Adam(p, lr=0.05), max_iterations=30)


@pytest.fixture
def rows() -> tuple[Tensor, Tensor]:
    torch.manual_seed(0)
    x = torch.randn(60, 2).double()
    return x, (x[:, 0] > 0).long() + (x[:, 1] > 0.5).long()


def classifier(network: nn.Module) -> pgnn.BayesianNetwork:
    return pgnn.BayesianNetwork([], [pgnn.Neural(KIND, [], network, inputs=["x"])])


def fitted(
    network: nn.Module, x: Tensor, y: Tensor, learner: pgnn.Gradient, **more: object
) -> None:
    classifier(network).fit(
        {"kind": y}, inputs={"x": x}, learner=learner, seed=0, progress=False, **more
    )


# --- losses and penalties as probabilities ----------------------------------------------------


def test_images_are_turned_and_moved_by_chance() -> None:
    torch.manual_seed(0)
    columns = torch.arange(-31.0, 32.0, 2.0) / 32  # pixels that are their own places
    places = torch.stack([columns.expand(32, 32), columns[:, None].expand(32, 32)])
    moved = neural.RandomAffine(0.1)(places.expand(2000, 2, 32, 32))
    middle = moved[:, :, 15:17, 15:17].mean((2, 3))  # of the new image, in the old one
    assert float(middle.mean(0).abs().max()) < 5 * 0.1 / 2000**0.5
    assert torch.allclose(middle.std(0), torch.tensor(0.1), rtol=0.08)
    turned = (moved[:, 1, 15, 24] - moved[:, 1, 15, 8]) / (columns[24] - columns[8])
    assert float(turned.std()) == pytest.approx(0.1, rel=0.08)
    images = torch.rand(3, 2, 5, 4)
    assert torch.allclose(neural.RandomAffine(0.0)(images), images, atol=1e-6)
    with pytest.raises(ModelError, match="scale"):
        neural.RandomAffine(-1.0)


def test_losses_are_likelihoods(rows: tuple[Tensor, Tensor]) -> None:
    """Cross entropy is the categorical's, half the squared error the normal's, up to a constant."""
    x, y = rows
    network = nn.Linear(2, 3).double()
    loss = nn.functional.cross_entropy(network(x), y)
    log_prob = classifier(network).log_prob({"kind": y}, inputs={"x": x})
    assert float((loss + log_prob.mean()).detach()) == pytest.approx(0)

    target = pgnn.Variable("target", shape=(3,))
    normal = pgnn.Neural(target, [], network, inputs=["x"], head=pgnn.NormalHead((3,), 1.0))
    z = torch.randn(60, 3).double()
    own = pgnn.BayesianNetwork([], [normal]).log_prob({"target": z}, inputs={"x": x})
    squares = 0.5 * (network(x) - z).square().sum(1) + 1.5 * math.log(2 * math.pi)
    torch.testing.assert_close(own.detach(), -squares.detach())


@pytest.mark.parametrize("penalty", ["l1", "l2"])
def test_penalties_are_priors(penalty: str, rows: tuple[Tensor, Tensor]) -> None:
    """At the fit the gradient of log likelihood and log prior of every weight is zero."""
    x, y = rows
    network = nn.Linear(2, 3).double()
    fitted(network, x, y, pgnn.Gradient(**{penalty: 0.05}))
    prior = torch.distributions.Laplace(0.0, 1 / (60 * 0.05))
    if penalty == "l2":
        prior = torch.distributions.Normal(0.0, (60 * 0.05) ** -0.5)
    likelihood = -nn.functional.cross_entropy(network(x), y, reduction="sum")
    log_prior = sum(prior.log_prob(p).sum() for p in network.parameters())
    gradients = torch.autograd.grad(likelihood + log_prior, list(network.parameters()))
    for p, g in zip(network.parameters(), gradients, strict=True):
        assert g[p != 0].abs().max() < 1e-3
    zeros = sum(int((p == 0).sum()) for p in network.parameters())
    assert (zeros > 0) == (penalty == "l1")


def test_smoothed_labels_are_torchs(rows: tuple[Tensor, Tensor]) -> None:
    x, y = rows
    network = nn.Linear(2, 3).double()
    row, label, weight = neural.smooth_labels(y, 3, 0.1)
    own = classifier(network).log_prob({"kind": label}, inputs={"x": x[row]})
    torchs = nn.functional.cross_entropy(
        network(x), y, label_smoothing=0.1 * 3 / 2, reduction="sum"
    )
    assert float((weight * own).sum().detach()) == pytest.approx(-float(torchs.detach()))
    before = float(torchs.detach())
    fitted(network, x[row], label, ADAM, weights=weight)
    assert float(own.detach().mean()) < 0
    after = nn.functional.cross_entropy(network(x), y, label_smoothing=0.15, reduction="sum")
    assert float(after.detach()) < 0.8 * before
    with pytest.raises(ModelError, match="from 0 to 1"):
        neural.smooth_labels(y, 2, 0.1)


def test_pruned_weights_stay_zero(rows: tuple[Tensor, Tensor]) -> None:
    network = neural.mlp(2, 16, 3).double()
    prune.l1_unstructured(network[0], "weight", amount=0.5)
    before = network[0].weight == 0
    fitted(network, *rows, ADAM)
    assert int(before.sum()) == 16
    assert (network[0].weight[before] == 0).all()
    assert (network[0].weight[~before] != 0).all()


# --- noise ------------------------------------------------------------------------------------


def test_dropout_is_averaged_over() -> None:
    """Of a linear layer behind dropout: all masks are few enough to be written out."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Dropout(0.5), nn.Linear(2, 3)).double()
    x = torch.randn(4, 2).double()
    masks = torch.tensor([[0.0, 0.0], [0.0, 2.0], [2.0, 0.0], [2.0, 2.0]]).double()
    every = network[1](x * masks[:, None]).softmax(-1)
    layer = neural.MonteCarloDropout(network, draws=4000).eval()
    probs = layer(x).exp()
    error = every.std(0, correction=0) / 4000**0.5
    assert ((probs - every.mean(0)).abs() < 5 * error + 1e-12).all()
    torch.testing.assert_close(layer(x).exp(), probs)
    state = torch.get_rng_state()
    layer(x)
    assert torch.equal(state, torch.get_rng_state())
    assert not network[0].training
    with pytest.raises(ModelError, match="must have a dropout layer"):
        neural.MonteCarloDropout(nn.Linear(2, 3))


def test_dropout_is_less_sure_away_from_the_data(rows: tuple[Tensor, Tensor]) -> None:
    x, y = rows
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(2, 64), nn.ReLU(), nn.Dropout(0.5), nn.Linear(64, 3)).double()
    layer = neural.MonteCarloDropout(network)
    model = classifier(layer)
    model.fit({"kind": y}, inputs={"x": x}, learner=ADAM, seed=0, progress=False)
    spread = [layer.outputs(k * x).var(0).mean() for k in (1, 3)]
    assert spread[1] > 4 * spread[0]
    probs = model.query("kind", inputs={"x": x})["kind"].probs
    torch.testing.assert_close(probs, layer.eval()(x).softmax(-1))


def test_noise_on_weights_penalises_slopes() -> None:
    """Of one weight and squared errors the noise adds sigma^2 x^2 to the expected loss."""
    torch.manual_seed(0)
    layer = neural.WeightNoise(nn.Linear(1, 1, bias=False).double(), scale=0.5)
    x = torch.full((1, 1), 3.0).double()
    with torch.no_grad():
        loss = torch.stack([(layer(x) - 1).square() for _ in range(4000)])
        expected = (layer.eval()(x) - 1).square() + 0.25 * 9
    assert float((loss.mean() - expected).abs()) < 5 * float(loss.std()) / 4000**0.5
    layer.train()(x).sum().backward()
    assert layer.module.weight.grad is not None


# --- posteriors of the last layer -------------------------------------------------------------


@pytest.mark.parametrize("curvature", [neural.FullCurvature, neural.KroneckerCurvature])
def test_in_linear_regression_the_posterior_is_exact(curvature: type) -> None:
    """Predictions and evidence are those of Bayesian regression, in closed form."""
    rng = np.random.default_rng(0)
    x = torch.from_numpy(rng.normal(size=(30, 2)))
    y = x @ torch.tensor([1.0, -2.0]).double() + 0.5 * torch.from_numpy(rng.normal(size=30))
    z = torch.cat([x, torch.ones(30, 1).double()], 1)
    precision = z.T @ z / 0.25 + torch.eye(3).double() / 0.25
    best = torch.linalg.solve(precision, z.T @ y / 0.25)
    last = nn.Linear(2, 1).double()
    with torch.no_grad():
        last.weight[0], last.bias[0] = best[:2], best[2]
    laplace = neural.LaplaceApproximation(
        nn.Identity(), last, scale=0.5, precision=4.0, curvature=curvature
    ).learn(x)
    far = torch.tensor([[0.0, 0.0], [5.0, -3.0]]).double()
    child = pgnn.Variable("y")
    predicted = pgnn.Neural(child, [], laplace, inputs=["x"], head=pgnn.NormalHead())
    own = predicted.distribution({}, {"x": far})
    torch.testing.assert_close(own.mean.detach(), with_one(far) @ best)
    spread = torch.einsum("bi,ij,bj->b", with_one(far), precision.inverse(), with_one(far))
    torch.testing.assert_close(own.variance.detach(), spread + 0.25)
    covariance = z @ z.T * 0.25 + 0.25 * torch.eye(30).double()
    evidence = torch.distributions.MultivariateNormal(torch.zeros(30).double(), covariance)
    assert float(laplace.log_evidence(x, y[:, None]).detach()) == pytest.approx(
        float(evidence.log_prob(y))
    )


def with_one(x: Tensor) -> Tensor:
    return torch.cat([x, torch.ones(len(x), 1).to(x)], 1)


def test_the_curvature_is_that_of_the_loss(rows: tuple[Tensor, Tensor]) -> None:
    """For a linear classifier Gauss and Newton's curvature is the Hessian."""
    x, y = rows
    last = nn.Linear(2, 3).double()
    full = neural.LaplaceApproximation(
        nn.Identity(), last, precision=2.0, curvature=neural.FullCurvature
    ).learn(x)

    def loss(weights: Tensor) -> Tensor:
        logits = with_one(x) @ weights.reshape(3, 3).T
        return nn.functional.cross_entropy(logits, y, reduction="sum") + weights.square().sum()

    together = torch.cat([last.weight, last.bias[:, None]], 1).detach().flatten()
    hessian = torch.autograd.functional.hessian(loss, together)
    root = full.curvature.root
    torch.testing.assert_close(root @ root.T, hessian)
    torch.testing.assert_close(full.curvature.log_det(), torch.logdet(hessian))
    one = neural.LaplaceApproximation(nn.Identity(), last).learn(x[:1])
    whole = neural.LaplaceApproximation(nn.Identity(), last, curvature=neural.FullCurvature).learn(
        x[:1]
    )
    torch.testing.assert_close(one.covariance(x), whole.covariance(x))  # one row: no means
    close = neural.LaplaceApproximation(nn.Identity(), last, precision=2.0).learn(x)
    ratio = close.covariance(x).diagonal(dim1=1, dim2=2) / full.covariance(x).diagonal(
        dim1=1, dim2=2
    )
    assert ratio.log().abs().max() < 0.7


def test_away_from_the_data_classes_are_less_sure(rows: tuple[Tensor, Tensor]) -> None:
    x, y = rows
    torch.manual_seed(0)
    network = neural.mlp(2, 16, 3, activation=nn.Tanh).double()
    fitted(network, x, y, ADAM)
    laplace = neural.LaplaceApproximation(network[:2], network[2]).learn(x)
    model, plain = classifier(laplace), classifier(network)
    own, before = (m.query("kind", inputs={"x": x})["kind"].probs for m in (model, plain))
    assert (own.amax(-1) <= before.amax(-1)).all()
    assert (own - before).abs().max() < 0.5
    with pytest.raises(ModelError, match=r"call learn\(x\) first"):
        neural.LaplaceApproximation(network[:2], network[2])(x)
    with pytest.raises(ModelError, match=r"\(B, 16\) for the last layer, got \(60, 3\)"):
        neural.LaplaceApproximation(network, network[2]).learn(x)


# --- pictures ---------------------------------------------------------------------------------


def test_colours_there_and_back() -> None:
    torch.manual_seed(0)
    x = torch.rand(3, 3, 4, 4).double()
    x[0, :, 0, 0] = torch.tensor([0.5, 0.5, 0.5])
    hsv = to_hsv(x)
    for place in np.ndindex(3, 4, 4):
        pixel = x[place[0], :, place[1], place[2]]
        expected = colorsys.rgb_to_hsv(*pixel.tolist())
        assert hsv[place[0], :, place[1], place[2]].tolist() == pytest.approx(expected)
    torch.testing.assert_close(from_hsv(hsv), x)


def test_jitter_and_flips() -> None:
    torch.manual_seed(0)
    x = torch.rand(200, 3, 4, 4)
    jitter = neural.ColourJitter()
    moved = jitter(x)
    assert moved.shape == x.shape
    assert 0 <= float(moved.min()) <= float(moved.max()) <= 1
    assert not torch.equal(moved, x)
    assert torch.equal(jitter.eval()(x), x)
    still = neural.ColourJitter(power=1.0, factor=1.0, shift=0.0, hue=0.0)
    torch.testing.assert_close(still(x), x, atol=1e-5, rtol=0)
    flipped = neural.RandomFlip(0.3)(x)
    turned = (flipped == x.flip(-1)).all(-1).all(-1).all(-1)
    assert (turned | (flipped == x).all(-1).all(-1).all(-1)).all()
    assert float(turned.double().mean()) == pytest.approx(0.3, abs=5 * (0.3 * 0.7 / 200) ** 0.5)
    with pytest.raises(ModelError, match=r"\(B, 3, H, W\), got \(2, 1, 4, 4\)"):
        jitter(torch.rand(2, 1, 4, 4))


def test_colour_noise_has_the_colours_covariance() -> None:
    """Along each principal direction its standard deviation is sigma times the variance."""
    torch.manual_seed(0)
    images = torch.einsum("nchw,cd->ndhw", torch.randn(50, 3, 8, 8), torch.randn(3, 3)).double()
    values, vectors = torch.linalg.eigh(torch.cov(images.transpose(0, 1).flatten(1)))
    noise = neural.ColourNoise(images)(torch.zeros(4000, 3, 2, 2).double())
    assert torch.equal(noise[:, :, 0, 0], noise[:, :, 1, 1])
    along = noise[:, :, 0, 0] @ vectors
    torch.testing.assert_close(along.std(0), 0.1 * values, rtol=5 / (2 * 4000) ** 0.5, atol=0)


def test_whitening() -> None:
    torch.manual_seed(0)
    rows = torch.randn(500, 4).double() @ torch.randn(4, 4).double() + 3
    layer = neural.Whitening(rows, epsilon=0.0)
    torch.testing.assert_close(layer(rows).mean(0), torch.zeros(4).double(), atol=1e-9, rtol=0)
    torch.testing.assert_close(torch.cov(layer(rows).T), torch.eye(4).double())
    flat = neural.Whitening(torch.cat([rows, rows[:, :1]], 1))(torch.cat([rows, rows[:, :1]], 1))
    assert flat.isfinite().all()
    with pytest.raises(ModelError, match="at least two rows"):
        neural.Whitening(rows[:1])


def test_a_fitted_model_does_not_drop_out(rows: tuple[Tensor, Tensor], tmp_path: Path) -> None:
    x, y = rows
    torch.manual_seed(0)
    network, fresh = (
        nn.Sequential(nn.Linear(2, 8), nn.BatchNorm1d(8), nn.Dropout(), nn.Linear(8, 3)).double()
        for _ in range(2)
    )
    model = classifier(network)
    model.fit({"kind": y}, inputs={"x": x}, learner=ADAM, seed=0, progress=False)
    first, second = (model.query("kind", inputs={"x": x})["kind"].probs for _ in range(2))
    assert torch.equal(first, second)
    torch.testing.assert_close(model.query("kind", inputs={"x": x[:1]})["kind"].probs, first[:1])
    model.save(tmp_path / "model")
    loaded = pgnn.load(tmp_path / "model", modules={"kind": fresh})
    torch.testing.assert_close(loaded.query("kind", inputs={"x": x})["kind"].probs, first)
