"""The adversarial game: objectives, learning, and what is refused."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import pgnn
from pgnn.errors import DataError, ModelError, PgnnError
from pgnn.inference.learning.adversarial_passes import AdversarialPasses
from pgnn.metrics import earth_mover, mode_coverage

OBJECTIVES = [
    pgnn.MinMax(),
    pgnn.NonSaturating(),
    pgnn.MeanProbability(),
    pgnn.LeastSquares(),
    pgnn.Wasserstein(clip=0.1),
    pgnn.WassersteinGradientPenalty(weight=0.1),
    pgnn.Hinge(),
]


def mlp(inputs: int, outputs: int, width: int = 32) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inputs, width), nn.ReLU(), nn.Linear(width, outputs))


def adam(rate: float, momentum: float = 0.5):
    return lambda p: torch.optim.Adam(p, lr=rate, betas=(momentum, 0.9))


def make_gan(seed: int = 0, size: int = 1) -> pgnn.GAN:
    torch.manual_seed(seed)
    return pgnn.GAN(mlp(2, size), mlp(size, 1), noise=2)


def normal_rows(n: int, size: int = 1, mean: float = 2.0) -> Tensor:
    return mean + torch.randn(n, size, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def two_tables() -> tuple[Tensor, Tensor]:
    rng = torch.Generator().manual_seed(0)
    p, q = torch.rand(2, 6, generator=rng, dtype=torch.float64)
    return p / p.sum(), q / q.sum()


def test_minmax_on_finite_distributions(two_tables):
    """The best discriminator is p / (p + q), where the game is worth 2 JSD - log 4."""
    p, q = two_tables
    game = pgnn.MinMax()

    def value(scores: Tensor) -> Tensor:
        return -(p @ game.real_loss(scores) + q @ game.generated_loss(scores))

    best = (p.log() - q.log()).requires_grad_()
    (slope,) = torch.autograd.grad(value(best), best)
    assert torch.allclose(best.sigmoid(), p / (p + q), atol=1e-15, rtol=0)
    assert slope.abs().max() < 1e-15
    best = best.detach()
    m = (p + q) / 2
    divergence = (p @ (p / m).log() + q @ (q / m).log()) / 2
    assert float(value(best)) == pytest.approx(float(2 * divergence - math.log(4)), abs=1e-12)
    deceived = q @ game.generator_loss(best) - p @ game.real_loss(best)
    assert float(deceived) == pytest.approx(float(value(best)), abs=1e-12)  # a game of sum zero


def test_losses_of_single_scores():
    s = torch.tensor([-2.0, 0.0, 3.0], dtype=torch.float64)
    d = s.sigmoid()
    rows = [
        (pgnn.MinMax(), -d.log(), -(1 - d).log(), (1 - d).log()),
        (pgnn.NonSaturating(), -d.log(), -(1 - d).log(), -d.log()),
        (pgnn.MeanProbability(), -d.log(), -(1 - d).log(), -d),
        (pgnn.LeastSquares(), (s - 1) ** 2 / 2, s**2 / 2, (s - 1) ** 2 / 2),
        (pgnn.Wasserstein(), -s, s, -s),
        (pgnn.Hinge(), torch.tensor([3.0, 1, 0]), torch.tensor([0.0, 1, 4]), -s),
    ]
    for game, real, generated, generator_loss in rows:
        assert torch.allclose(game.real_loss(s), real.double(), atol=1e-14), game
        assert torch.allclose(game.generated_loss(s), generated.double(), atol=1e-14), game
        assert torch.allclose(game.generator_loss(s), generator_loss.double(), atol=1e-14), game
        assert torch.allclose(game.real_loss(game.mirrored(s)), game.generated_loss(s)), game


@pytest.mark.parametrize("objective", OBJECTIVES, ids=lambda o: type(o).__name__)
def test_a_normal_distribution_is_learnt(objective):
    model = make_gan()
    before = earth_mover(model.sample(500, seed=0)["data"], normal_rows(500))
    learner = pgnn.Adversarial(
        objective,
        discriminator_steps=2,
        optimizer=adam(5e-3, 0.0),
        discriminator_optimizer=adam(1e-2, 0.0),
        epochs=30,
        batch_size=100,
    )
    model.fit(normal_rows(1000), learner=learner, seed=0)
    after = earth_mover(model.sample(500, seed=0)["data"], normal_rows(500))
    assert after < 0.7 < 1.5 < before
    trace = model.history["trace"]
    assert set(trace) == {
        *("discriminator_loss", "generator_loss", "score_gap"),
        *("discriminator_gradient", "generator_gradient"),
    }
    assert all(len(figures) == 30 for figures in trace.values())


def test_all_modes_of_a_ring_are_covered():
    angles = torch.arange(8) * math.pi / 4
    ring = 2 * torch.stack([angles.cos(), angles.sin()], 1)
    rng = torch.Generator().manual_seed(0)
    rows = ring[torch.randint(8, (2048,), generator=rng)]
    rows = rows + 0.05 * torch.randn(2048, 2, generator=rng)
    torch.manual_seed(0)
    networks = [nn.Sequential(mlp(2, 64, 64), nn.ReLU(), nn.Linear(64, n)) for n in (2, 1)]
    model = pgnn.GAN(*networks, noise=2)
    learner = pgnn.Adversarial(
        pgnn.WassersteinGradientPenalty(weight=1.0),
        discriminator_steps=3,
        optimizer=adam(2e-3, 0.0),
        discriminator_optimizer=adam(5e-3, 0.0),
        epochs=36,
        batch_size=128,
        watch={"modes": lambda x: mode_coverage(x, ring, 0.3, least=5).covered},
        watched=500,
        keep=4,
        keep_every=12,
    )
    model.fit(rows, learner=learner, seed=0)
    assert mode_coverage(model.sample(2000, seed=1)["data"], ring, 0.3, least=20).covered == 8
    modes = model.history["trace"]["modes"]
    assert modes[0] < 8
    assert modes[-1] == 8
    assert model.history["samples"].shape == (3, 4, 2)


class Moved(nn.Module):
    """Standard normal numbers moved and stretched, with nothing to learn."""

    def __init__(self, by: float) -> None:
        super().__init__()
        self.by = by

    def forward(self, z: Tensor) -> Tensor:
        return self.by + z


@pytest.mark.parametrize("distance", [0.5, 1.5, 3.0])
def test_the_critic_tracks_the_distance_on_the_line(distance):
    """Of N(0, 1) and N(d, 1): d, and d^2 / 2 weight more where the slope is only drawn to one."""
    torch.manual_seed(0)
    model = pgnn.GAN(Moved(distance), mlp(1, 1), noise=1)
    learner = pgnn.Adversarial(
        pgnn.WassersteinGradientPenalty(), optimizer=adam(1e-2), epochs=10, batch_size=200
    )
    rows = normal_rows(4000, mean=0.0)
    model.fit(rows, learner=learner, seed=0)
    exact = earth_mover(rows, model.sample(4000, seed=0)["data"])
    assert exact == pytest.approx(distance, abs=0.1)
    estimate = model.history["trace"]["score_gap"][-1]
    assert estimate == pytest.approx(exact + exact**2 / 20, rel=0.06)


def test_the_gradient_penalty_of_a_linear_critic():
    """Its slope is the same everywhere; of pairs it is that of both parts, conditions left out."""
    x, y, z, label = torch.randn(4, 5, 2)
    weights = torch.tensor([3.0, 4.0])

    def critic(*parts: Tensor) -> Tensor:
        return sum(part @ weights for part in parts)

    objective = pgnn.WassersteinGradientPenalty(weight=2.0)
    alone = objective.penalty(pgnn.abilities.Duel(critic, (x,), (y,)))
    assert float(alone) == pytest.approx(2 * (5 - 1) ** 2, rel=1e-6)
    given = objective.penalty(pgnn.abilities.Duel(critic, (x, label), (y, label)))
    assert float(given) == pytest.approx(2 * (5 - 1) ** 2, rel=1e-6)
    pair = objective.penalty(pgnn.abilities.Duel(critic, (x, z), (y, label)))
    assert float(pair) == pytest.approx(2 * (50**0.5 - 1) ** 2, rel=1e-6)
    places = []

    def watching(first: Tensor, second: Tensor) -> Tensor:
        places.append(
            (first - y)[:, 0] / (x - y)[:, 0] - (second - label)[:, 0] / (z - label)[:, 0]
        )
        return critic(first, second)

    objective.penalty(pgnn.abilities.Duel(watching, (x, z), (y, label)))
    assert places[0].abs().max() < 1e-4  # both parts of a row are moved by the same share


def test_clipping_bounds_the_critic():
    model = make_gan()
    learner = pgnn.Adversarial(pgnn.Wasserstein(clip=0.02), epochs=2, optimizer=adam(0.1))
    model.fit(normal_rows(200), learner=learner, seed=0)
    assert max(float(p.detach().abs().max()) for p in model.discriminator.parameters()) <= 0.02


def test_the_same_seed_plays_the_same_game():
    learner = pgnn.Adversarial(
        epochs=2, smoothing=0.1, label_noise=0.1, max_norm=1.0, discriminator_steps=2
    )
    rows = normal_rows(200)
    state = torch.random.get_rng_state()
    first, second, third = (make_gan() for _ in range(3))
    torch.random.set_rng_state(state)
    first.fit(rows, learner=learner, seed=3)
    second.fit(rows, learner=learner, seed=3)
    third.fit(rows, learner=learner, seed=4)
    assert torch.equal(torch.random.get_rng_state(), state)
    a, b, c = (m.generator.module[0].weight for m in (first, second, third))
    assert torch.equal(a, b)
    assert not torch.equal(a, c)


def test_smoothing_is_cross_entropy_with_moved_labels():
    scores = torch.tensor([[-1.0], [2.0]])
    model = make_gan()
    play = object.__new__(AdversarialPasses)
    play.settings = pgnn.Adversarial(smoothing=0.1)
    duel = pgnn.abilities.Duel(lambda x: x, (scores,), (scores - 1,))
    loss, gap = AdversarialPasses._discriminator_loss(play, duel)
    bce = nn.functional.binary_cross_entropy_with_logits
    expected = bce(scores, torch.full((2, 1), 0.9)) + bce(scores - 1, torch.zeros(2, 1))
    assert float(loss) == pytest.approx(float(expected), abs=1e-6)
    assert gap == pytest.approx(1.0)
    assert model.history == {}


def test_data_in_any_form():
    rows = normal_rows(128, 3)
    learner = pgnn.Adversarial(epochs=1, batch_size=32)
    loader = DataLoader(TensorDataset(rows), batch_size=32)
    forms = [rows, rows.numpy(), {"data": rows}, (rows,), [*rows.split(32)], loader]
    weights = []
    for form in forms:
        model = make_gan(size=3).fit(form, learner=learner, seed=0)
        assert model.history["rows"] == 128
        weights.append(model.generator.module[0].weight.detach())
    assert all(torch.equal(weights[0], w) for w in weights[:4])
    import pandas as pd

    frame = pd.DataFrame(rows.numpy(), columns=["a", "b", "c"])
    same = make_gan(size=3).fit(frame, learner=learner, seed=0).generator.module[0].weight
    assert torch.equal(same, weights[0])
    make_gan(size=3).fit(iter([rows]), learner=learner)
    with pytest.raises(DataError, match="only once"):
        make_gan(size=3).fit(iter([rows]), learner=pgnn.Adversarial(epochs=2))


def test_bad_data_is_told():
    model, learner = make_gan(size=3), pgnn.Adversarial(epochs=1)
    cases = [
        (torch.zeros(5, 4), r"shape \(N, 3\).*got \(5, 4\)"),
        (torch.full((5, 3), math.nan), "NaN or infinite"),
        (torch.zeros(0, 3), "at least one row"),
        ([], "iterable of batches is empty"),
        ([torch.zeros(2, 3), torch.zeros(2, 2)], r"batch 1: .*got \(2, 2\)"),
        ({"x": torch.zeros(5, 3)}, r"missing \['data'\], unknown \['x'\]"),
        ("rows", "expected an array"),
    ]
    for data, message in cases:
        with pytest.raises(DataError, match=message):
            model.fit(data, learner=learner)
    with pytest.raises(DataError, match="repeat rows"):
        model.fit(torch.zeros(5, 3), learner=learner, weights=np.ones(5))
    with pytest.raises(ModelError, match="such as a GAN, got a "):
        pgnn.BayesianNetwork([("a", "b")], states={"a": 2, "b": 2}).fit({"a": [0]}, learner=learner)
    with pytest.raises(ModelError, match="objective"):
        pgnn.Adversarial("hinge")
    with pytest.raises(ModelError, match="smoothing"):
        pgnn.Adversarial(smoothing=0.7)


class Fails(nn.Linear):
    """A linear layer that returns NaN, or raises, from its third call in training on."""

    error: type[BaseException] | None = None
    calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        if self.calls > 2 and self.error is not None:
            raise self.error
        return super().forward(x) * (math.nan if self.calls > 2 else 1.0)


def test_a_loss_that_is_nan_is_told_and_leaves_the_model_as_it_was():
    model = pgnn.GAN(nn.Linear(1, 1), Fails(1, 1), noise=1)
    before = {n: x.clone() for n, x in model.state_dict().items()}
    learner = pgnn.Adversarial(epochs=2, batch_size=10, optimizer=adam(0.1))
    with pytest.raises(PgnnError, match=r"step 1 \(pass 1\): the generator's loss is nan"):
        model.fit(normal_rows(40), learner=learner)
    assert all(torch.equal(x, before[n]) for n, x in model.state_dict().items())
    assert model.history == {}


def test_an_interrupted_fit_leaves_the_model_as_it_was():
    discriminator = Fails(1, 1)
    discriminator.error = KeyboardInterrupt
    model = pgnn.GAN(nn.Sequential(nn.Linear(1, 1), nn.BatchNorm1d(1)), discriminator, noise=1)
    model.discriminator.eval()
    before = {n: x.clone() for n, x in model.state_dict().items()}
    with pytest.raises(KeyboardInterrupt):
        model.fit(normal_rows(40), learner=pgnn.Adversarial(batch_size=10, optimizer=adam(0.1)))
    assert all(torch.equal(x, before[n]) for n, x in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())
    assert model.generator.training
    assert not model.discriminator.training


def test_rates_fall_after_each_pass_on_both_sides():
    rates: dict[int, list[float]] = {}

    class Listening(torch.optim.SGD):
        def step(self, closure=None):
            group = self.param_groups[0]
            rates.setdefault(len(group["params"]), []).append(group["lr"])
            return super().step(closure)

    def halved(optimizer: torch.optim.Optimizer) -> torch.optim.lr_scheduler.LRScheduler:
        return torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)

    model = pgnn.GAN(nn.Linear(2, 1), mlp(1, 1), noise=2)
    settings = {"epochs": 3, "batch_size": 64, "optimizer": lambda p: Listening(p, lr=0.1)}
    model.fit(normal_rows(64), learner=pgnn.Adversarial(scheduler=halved, **settings), seed=0)
    assert rates == {2: [0.1, 0.05, 0.025], 4: [0.1, 0.05, 0.025]}
    rates.clear()
    learner = pgnn.Adversarial(discriminator_scheduler=halved, **settings)
    model.fit(normal_rows(64), learner=learner, seed=0)
    assert rates == {2: [0.1, 0.1, 0.1], 4: [0.1, 0.05, 0.025]}
    with pytest.raises(ModelError, match="scheduler must make one"):
        model.fit(
            normal_rows(64), learner=pgnn.Adversarial(scheduler=lambda o: 3, epochs=1), seed=0
        )


@pytest.mark.parametrize("at_once", [True, False])
def test_a_game_goes_on_where_it_ended(at_once, tmp_path):
    class Ended(Exception):
        pass

    def stop(after: int):
        passes = [0]

        def figure(x: Tensor) -> float:
            passes[0] += 1
            if passes[0] > after:
                raise Ended
            return float(x.mean())

        return {"mean": figure}

    def fitted(passes: int, **rest) -> pgnn.GAN:
        torch.manual_seed(0)
        generator = nn.Sequential(nn.Linear(2, 4), nn.BatchNorm1d(4), nn.Linear(4, 1))
        model = pgnn.GAN(generator, nn.Sequential(mlp(1, 1), nn.Dropout(0.2)), noise=2)
        loader = DataLoader(TensorDataset(normal_rows(48)), batch_size=16, shuffle=True)
        learner = pgnn.Adversarial(
            epochs=5, batch_size=16, label_noise=0.1, keep=2, discriminator_steps=2,
            scheduler=lambda o: torch.optim.lr_scheduler.ExponentialLR(o, 0.9),
            watch=stop(passes), **rest,
        )  # fmt: skip
        return model.fit(normal_rows(48) if at_once else loader, learner=learner, seed=3)

    kept = pgnn.Checkpoints(tmp_path / "game", every=0.0)
    with pytest.raises(Ended):
        fitted(2, checkpoints=kept)
    resumed, whole = fitted(9, checkpoints=kept), fitted(9)
    for name, x in whole.state_dict().items():
        assert torch.equal(x, resumed.state_dict()[name])
    assert resumed.history["trace"] == whole.history["trace"]
    assert torch.equal(resumed.history["samples"], whole.history["samples"])
    assert resumed.history["steps"] == whole.history["steps"] == 15
    assert not (tmp_path / "game").exists()


def test_networks_of_a_game_compute_in_bfloat16():
    seen = set()

    class Noting(nn.Linear):
        def forward(self, x):
            y = super().forward(x)
            seen.add(y.dtype)
            return y

    model = pgnn.GAN(nn.Linear(1, 1), Noting(1, 1), noise=1)
    model.fit(normal_rows(64), learner=pgnn.Adversarial(epochs=1, mixed_precision=True), seed=0)
    assert seen == {torch.bfloat16}
    assert model.sample(3, seed=0)["data"].dtype == torch.float32


@pytest.mark.parametrize(("output", "came"), [(2, r"\(64, 2\)"), (None, r"\(\)")])
def test_scores_are_one_number_a_row(output, came):
    class Mean(nn.Linear):
        def forward(self, x):
            return super().forward(x).mean()

    discriminator = Mean(1, 1) if output is None else nn.Linear(1, output)
    model = pgnn.GAN(nn.Linear(1, 1), discriminator, noise=1)
    with pytest.raises(ModelError, match=f"one score for each of 64 rows.*{came}.*two classes"):
        model.fit(normal_rows(64), learner=pgnn.Adversarial(epochs=1), seed=0)
