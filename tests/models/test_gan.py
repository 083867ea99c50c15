"""Generative adversarial networks and what is composed of them."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import pgnn
from pgnn.errors import DataError, EvidenceError, Intractable, ModelError, Unsupported


def adam(rate: float, momentum: float = 0.5):
    return lambda p: torch.optim.Adam(p, lr=rate, betas=(momentum, 0.9))


def mlp(inputs: int, outputs: int, width: int = 32) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inputs, width), nn.ReLU(), nn.Linear(width, outputs))


class Joined(nn.Module):
    """A network of its arguments side by side, labels one-hot; images are flattened."""

    def __init__(self, network: nn.Module, shape: tuple[int, ...] = ()) -> None:
        super().__init__()
        self.network, self.shape = network, shape

    def forward(self, *arguments: Tensor) -> Tensor:
        parts = [
            (x if x.is_floating_point() else nn.functional.one_hot(x, 2).float()).flatten(1)
            for x in arguments
        ]
        made = self.network(torch.cat(parts, 1))
        return made.unflatten(1, self.shape) if self.shape else made


def image_gan() -> pgnn.GAN:
    torch.manual_seed(0)
    generator = nn.Sequential(nn.Linear(3, 16), nn.BatchNorm1d(16), nn.Unflatten(1, (1, 4, 4)))
    return pgnn.GAN(generator, nn.Sequential(nn.Flatten(), nn.Linear(16, 1)), noise=3)


def test_samples_have_any_shape_and_a_seed():
    model = image_gan()
    assert model.variables["data"].shape == (1, 4, 4)
    first, second = model.sample(5, seed=0), model.sample(5, seed=0)
    assert first["data"].shape == (5, 1, 4, 4)
    assert first["noise"].shape == (5, 3)
    assert torch.equal(first["data"], second["data"])
    assert not torch.equal(first["data"], model.sample(5, seed=1)["data"])
    known = model.sample(2, {"noise": first["noise"]})["data"]
    assert torch.allclose(known[1], first["data"], atol=1e-6)
    in_parts = model.sample(5, seed=0, engine=pgnn.Simulation(batch_size=5))["data"]
    assert torch.equal(in_parts, first["data"])
    assert model.sample(0)["data"].shape == (0, 1, 4, 4)


def test_sampling_changes_nothing():
    model = image_gan()
    before = {n: x.clone() for n, x in model.state_dict().items()}
    state = torch.random.get_rng_state()
    model.sample(50)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(torch.equal(x, before[n]) for n, x in model.state_dict().items())
    assert model.generator.module[1].training


@pytest.mark.parametrize(
    "verb", ["query", "most_probable", "log_prob", "explain", "compile", "factors", "program"]
)
def test_there_is_no_density(verb):
    model, image = image_gan(), {"data": torch.zeros(2, 1, 4, 4)}
    ask = {"query": lambda: model.query(evidence=image),
           "most_probable": lambda: model.most_probable(image),
           "log_prob": lambda: model.log_prob(image),
           "explain": model.explain,
           "compile": model.compile,
           "program": model.program,
           "factors": model.factors}  # fmt: skip
    with pytest.raises(Unsupported, match="a GAN has no density"):
        ask[verb]()


def test_other_engines_find_no_density_either():
    with pytest.raises(Unsupported, match="no density"):
        image_gan().log_prob({"data": torch.zeros(1, 1, 4, 4)}, engine=pgnn.JunctionTree())
    network = pgnn.BayesianNetwork([("a", "b")], states={"a": 2, "b": 2})
    with pytest.raises(Unsupported, match="models without a density"):
        network.sample(engine=pgnn.Simulation())


def test_broken_numbers_are_told():
    model = image_gan()
    with torch.no_grad():
        model.generator.module[0].weight[0] = float("nan")
    with pytest.raises(ModelError, match=r"weight' of the network of 'generator' has nan"):
        model.sample()


def test_masked_cells_are_missing():
    hidden = np.ma.masked_array(np.zeros((8, 4, 4)), np.arange(128).reshape(8, 4, 4) == 3)
    with pytest.raises(
        pgnn.DataError, match="masked cells; adversarial learning needs complete rows"
    ):
        image_gan().fit(hidden)
    for held in (list(hidden), {"data": list(hidden)}):
        with pytest.raises(pgnn.DataError, match="adversarial learning needs complete rows"):
            image_gan().fit(held)


def test_masked_arrays_without_masked_cells_are_complete():
    rows = np.random.default_rng(0).normal(size=(8, 1, 4, 4))
    whole = np.ma.masked_array(rows, np.zeros((8, 1, 4, 4), dtype=bool))
    for held in (whole, list(whole), rows.tolist(), list(torch.from_numpy(rows))):
        found = image_gan().read_rows({"data": held})["data"]
        np.testing.assert_allclose(found, rows)


def test_sizes_are_checked_first():
    with pytest.raises(Intractable, match=r"1\.4 TiB"):
        image_gan().sample(10**10)


def test_a_model_made_in_inference_mode_learns():
    with torch.inference_mode():
        model = image_gan()
        model.fit(torch.randn(40, 1, 4, 4), learner=pgnn.Adversarial(epochs=1, batch_size=20))
    assert model.sample(2)["data"].shape == (2, 1, 4, 4)


def test_what_cannot_be_observed_is_told():
    model = image_gan()
    with pytest.raises(Unsupported, match="BidirectionalGAN, which has an encoder"):
        model.sample(evidence={"data": torch.zeros(1, 4, 4)})
    with pytest.raises(EvidenceError, match="in a part"):
        model.sample(evidence={"noise": [0.0, float("nan"), 1.0]})


@pytest.mark.parametrize("like", ["file", "noise"])
def test_a_file_keeps_the_numbers(tmp_path, like):
    z = pgnn.Variable("code", shape=(3,))
    noise = pgnn.Gaussian(z, [], mean=[1.0, 2.0, 3.0], covariance=torch.eye(3).tolist())
    model = image_gan()
    if like == "noise":
        model = pgnn.GAN(model.generator.module, model.discriminator.module, noise=noise)
    rows = torch.randn(64, 1, 4, 4)
    model.fit(rows, learner=pgnn.Adversarial(epochs=1, batch_size=16, keep=2), seed=0)
    path = tmp_path / "gan.safetensors"
    model.save(path)
    fresh = image_gan()
    modules = {"generator": fresh.generator.module, "discriminator": fresh.discriminator.module}
    again = pgnn.load(path, modules)
    assert torch.equal(again.sample(4, seed=0)["data"], model.sample(4, seed=0)["data"])
    assert torch.equal(again.history["samples"], model.history["samples"])
    with pytest.raises(DataError, match="'generator' has a NamedNetwork network"):
        pgnn.load(path)


def compositions() -> dict[str, pgnn.Model]:
    """One of each kind, with its networks by name."""
    torch.manual_seed(0)
    a, b = pgnn.Variable("a", shape=(2,)), pgnn.Variable("b", shape=(3,))
    image = pgnn.Variable("image", shape=(1, 4, 4))
    return {
        "encoder": pgnn.BidirectionalGAN(mlp(1, 2), mlp(2, 1), Joined(mlp(3, 1)), noise=1),
        "cycle": pgnn.CycleGAN(mlp(2, 3), mlp(3, 2), mlp(2, 1), mlp(3, 1), a, b, weight=2.0),
        "pyramid": pgnn.LaplacianPyramidGAN(
            [Joined(mlp(2, 4), (1, 2, 2)), Joined(mlp(18, 16), (1, 4, 4))],
            [Joined(mlp(4, 1)), Joined(mlp(32, 1))],
            2,
            image,
        ),
    }


@pytest.mark.parametrize("kind", ["encoder", "cycle", "pyramid"])
def test_compositions_are_kept_in_files(tmp_path, kind):
    model, fresh = compositions()[kind], compositions()[kind]
    for p in model.parameters():
        torch.nn.init.normal_(p)
    path = tmp_path / "model.safetensors"
    model.save(path)
    again = pgnn.load(path, {m.key: m.module for m in fresh.modules() if hasattr(m, "key")})
    observed = {"a": torch.randn(5, 2)} if kind == "cycle" else None
    first, second = (m.sample(3, observed, seed=0) for m in (model, again))
    assert all(torch.equal(first[name], second[name]) for name in first)
    copied = copy.deepcopy(model).sample(3, observed, seed=0)
    assert all(torch.equal(first[name], copied[name]) for name in first)


def test_arrays_that_torch_does_not_take_as_they_are():
    rows = np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32)
    rows.flags.writeable = False
    model = pgnn.GAN(mlp(2, 3), mlp(3, 1), noise=np.int64(2))
    learner = pgnn.Adversarial(epochs=1, batch_size=20)
    model.fit(rows[::-1], learner=learner, seed=0)
    assert model.history["steps"] == 2


def test_batches_bring_labels_with_them():
    rows, label = torch.randn(40, 1), torch.arange(40) % 2
    x = pgnn.Variable("x", shape=(1,))
    model = pgnn.GAN(Joined(mlp(3, 1)), Joined(mlp(3, 1)), noise=1, data=x, inputs="label")
    loader = DataLoader(TensorDataset(rows, label), batch_size=20)
    model.fit(loader, learner=pgnn.Adversarial(epochs=2), seed=0)
    assert model.history["steps"] == 4
    with pytest.raises(DataError, match=r"missing \['label'\]"):
        model.fit(rows)
    with pytest.raises(DataError, match="equal numbers of rows"):
        model.fit({"x": rows, "label": label[:30]})


def test_noise_from_a_conditional():
    z = pgnn.Variable("code", shape=(2,))
    noise = pgnn.Gaussian(z, [], mean=[100.0, 0.0], covariance=[[1.0, 0.0], [0.0, 1.0]])
    drawn = pgnn.GAN(nn.Linear(2, 1), nn.Linear(1, 1), noise=noise).sample(200, seed=0)
    assert float(drawn["code"][:, 0].mean()) == pytest.approx(100.0, abs=0.5)


def test_wrong_declarations_are_told():
    g, d = nn.Linear(2, 3), nn.Linear(3, 1)
    with pytest.raises(ModelError, match=r"generator fails for arguments of \(2, 5\)"):
        pgnn.GAN(g, d, noise=5)
    with pytest.raises(ModelError, match="generator must be a torch module"):
        pgnn.GAN(lambda z: z, d, noise=2)
    with pytest.raises(ModelError, match="a generator with inputs needs its variable"):
        pgnn.GAN(g, d, noise=2, inputs=["label"])
    with pytest.raises(ModelError, match="noise must be"):
        pgnn.GAN(g, d, noise=2.5)
    with pytest.raises(ModelError, match="real arrays of known shape"):
        pgnn.GAN(g, d, noise=2, data=pgnn.Variable("x", 3))
    other = pgnn.GAN(g, d, noise=2, data=pgnn.Variable("x", shape=(4,)))
    with pytest.raises(ModelError, match=r"return 'x' of shape \(1, 4\), got \(1, 3\)"):
        other.sample()
    wrong = pgnn.GAN(g, nn.Linear(4, 1), noise=2)
    with pytest.raises(ModelError, match=r"discriminator fails for arguments of \(5, 3\)"):
        wrong.fit(torch.zeros(5, 3))


@pytest.mark.parametrize("noise", ["2", 1.5, (2, "3"), None])
def test_noise_has_a_size(noise):
    with pytest.raises(ModelError, match="noise must be a length"):
        pgnn.GAN(nn.Linear(2, 1), nn.Linear(1, 1), noise=noise)


@pytest.mark.parametrize("learner", [
    pgnn.Gradient(), pgnn.EM(), pgnn.MaximumLikelihood(), pgnn.PseudoLikelihood(),
    pgnn.LowerBound(), pgnn.Variational(),
], ids=lambda learner: type(learner).__name__)  # fmt: skip
def test_other_learners_find_nothing_to_raise(learner):
    model = pgnn.GAN(nn.Linear(2, 3), nn.Linear(3, 1), noise=2)
    with pytest.raises(Unsupported, match=r"no density.*Adversarial\(\)"):
        model.fit(torch.zeros(4, 3), learner=learner, progress=False)


def test_a_conditional_gan_follows_its_label():
    rng = torch.Generator().manual_seed(0)
    label = torch.randint(2, (1000,), generator=rng)
    rows = 4.0 * label[:, None] - 2 + 0.3 * torch.randn(1000, 1, generator=rng)
    torch.manual_seed(0)
    model = pgnn.GAN(
        Joined(mlp(3, 1)),
        Joined(mlp(3, 1)),
        noise=1,
        data=pgnn.Variable("x", shape=(1,)),
        inputs=["label"],
    )
    learner = pgnn.Adversarial(
        pgnn.WassersteinGradientPenalty(weight=0.1),
        discriminator_steps=2,
        optimizer=adam(5e-3, 0.0),
        discriminator_optimizer=adam(1e-2, 0.0),
        epochs=30,
        batch_size=100,
    )
    model.fit({"x": rows}, inputs={"label": label}, learner=learner, seed=0)
    drawn = model.sample(300, inputs={"label": torch.tensor([0, 1])}, seed=0)["x"]
    assert drawn.shape == (300, 2, 1)
    assert drawn.mean(0).flatten().tolist() == pytest.approx([-2, 2], abs=0.6)
    with pytest.raises(ModelError, match=r"needs the inputs \['label'\]"):
        model.sample()


def test_an_encoder_inverts_the_generator():
    """Data on a line in the plane: codes of data must make it again."""
    rng = torch.Generator().manual_seed(0)
    rows = torch.randn(1000, 1, generator=rng) * torch.tensor([[1.0, -0.5]])
    torch.manual_seed(0)
    model = pgnn.BidirectionalGAN(nn.Linear(1, 2), nn.Linear(2, 1), Joined(mlp(3, 1)), noise=1)

    def lost() -> float:
        codes = model.sample(evidence={"data": rows}, seed=0)["noise"][0]
        again = model.sample(evidence={"noise": codes}, seed=0)["data"][0]
        return float((again - rows).square().mean())

    before = lost()
    learner = pgnn.Adversarial(optimizer=adam(5e-3), epochs=40, batch_size=100)
    model.fit(rows, learner=learner, seed=0)
    assert lost() < 0.15 < before


def test_translation_without_pairs():
    """Normal numbers and others moved by three, of which there are fewer."""
    rng = torch.Generator().manual_seed(0)
    a, b = torch.randn(600, 1, generator=rng), 3 + torch.randn(500, 1, generator=rng)
    torch.manual_seed(0)
    names = pgnn.Variable("a", shape=(1,)), pgnn.Variable("b", shape=(1,))
    networks = nn.Linear(1, 1), nn.Linear(1, 1), mlp(1, 1), mlp(1, 1)
    model = pgnn.CycleGAN(*networks, *names, weight=1.0)
    learner = pgnn.Adversarial(optimizer=adam(2e-2), epochs=60, batch_size=100)
    model.fit({"a": a, "b": b}, learner=learner, seed=0)
    assert model.history["rows"] == 500
    there = model.sample(evidence={"a": a}, seed=0)["b"][0]
    back = model.sample(evidence={"b": there}, seed=0)["a"][0]
    assert float(there.mean()) == pytest.approx(3, abs=0.5)
    assert float((back - a).abs().mean()) < 0.3
    with pytest.raises(Unsupported, match="translates"):
        model.sample()


def test_a_pyramid_makes_images_from_coarse_to_fine():
    """Images that are dark above and bright below."""
    rng = torch.Generator().manual_seed(0)
    rows = torch.linspace(-1, 1, 8).reshape(1, 1, 8, 1).expand(400, 1, 8, 8)
    rows = rows + 0.1 * torch.randn(400, 1, 8, 8, generator=rng)
    torch.manual_seed(0)
    model = pgnn.LaplacianPyramidGAN(
        [Joined(mlp(4, 16), (1, 4, 4)), Joined(mlp(68, 64), (1, 8, 8))],
        [Joined(mlp(16, 1)), Joined(mlp(128, 1))],
        noise=4,
        data=pgnn.Variable("image", shape=(1, 8, 8)),
    )
    learner = pgnn.Adversarial(optimizer=adam(2e-3), epochs=40, batch_size=100, keep=3)
    model.fit(rows, learner=learner, seed=0)
    drawn = model.sample(200, seed=0)["image"]
    assert drawn.mean((0, 1, 3)).tolist() == pytest.approx(rows[0, 0, :, 0].tolist(), abs=0.4)
    assert model.history["samples"].shape == (40, 3, 1, 8, 8)
    with pytest.raises(ModelError, match="halved 1 times"):
        pgnn.LaplacianPyramidGAN(
            [nn.Identity()] * 2, [nn.Identity()] * 2, 4, pgnn.Variable("x", shape=(1, 7, 8))
        )
