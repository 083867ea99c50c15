"""Variational autoencoders beside exact answers, Pyro and hand-written bounds."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Bernoulli, Independent, MultivariateNormal, Normal, kl_divergence

import pgnn
from pgnn import VAE, BernoulliHead, DataError, Elbo, LowerBound, ModelError, NormalHead
from pgnn.inference.continuous.bound_objective import BoundObjective
from pgnn.inference.continuous.densities import SummedDensity
from pgnn.inference.continuous.model_and_guide import ModelAndGuide, make_generator
from pgnn.inference.learning.training_data import read_rows

D, L, NOISE = 4, 2, 0.5


class MeanAndScale(nn.Module):
    """A linear mean beside a scale that is the same everywhere."""

    def __init__(self, weight: Tensor, raw: Tensor) -> None:
        super().__init__()
        self.weight, self.raw = nn.Parameter(weight), nn.Parameter(raw)

    def forward(self, x: Tensor) -> Tensor:
        mean = x @ self.weight.T
        return torch.cat([mean, self.raw.expand(len(x), -1)], dim=1)


def linear_vae(seed: int = 0, optimal: bool = False) -> VAE:
    """z ~ N(0, I), x ~ N(W z, NOISE^2): orthogonal columns make the posterior diagonal."""
    generator = torch.Generator().manual_seed(seed)
    basis, _ = torch.linalg.qr(torch.randn(D, L, generator=generator, dtype=torch.float64))
    weight = basis * torch.tensor([1.5, 0.7], dtype=torch.float64)
    decoder = nn.Linear(L, D, bias=False).double()
    decoder.weight.data.copy_(weight)
    precision = 1.0 + weight.square().sum(0) / NOISE**2
    mean, scale = (weight / NOISE**2 / precision).T, precision.rsqrt()
    if not optimal:
        mean, scale = 0.5 * mean, 1.5 * scale
    encoder = MeanAndScale(mean, scale.expm1().log())  # the inverse of softplus
    return VAE(encoder, decoder, NormalHead((D,), NOISE), latent=L)


def exact_log_prob(vae: VAE, x: Tensor) -> Tensor:
    weight = vae.conditionals["x"].module.weight  # type: ignore[union-attr,operator]
    covariance = weight @ weight.T + NOISE**2 * torch.eye(D, dtype=torch.float64)
    return MultivariateNormal(torch.zeros(D).double(), covariance).log_prob(x)


def rows(n: int = 6, seed: int = 1) -> Tensor:
    return torch.randn(n, D, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def bound_of(vae: VAE, x: Tensor, objective: Any, seed: int = 0) -> Tensor:
    """The objective of each row at the draws of a seed."""
    problem = ModelAndGuide.of(SummedDensity(vae, read_rows(vae, x)), None, ())
    draws = problem.weighted(objective, make_generator(seed))
    return objective.combine(draws.log_weights)


def test_bound_is_below_the_exact_log_probability_and_meets_it_at_the_optimum() -> None:
    x = rows()
    exact = exact_log_prob(linear_vae(), x)
    loose = torch.stack([bound_of(linear_vae(), x, Elbo(200), s) for s in range(20)])
    error = loose.std(0) / math.sqrt(20)
    assert (loose.mean(0) < exact - 4 * error).all()
    tight = linear_vae(optimal=True)
    # at the posterior the weight of every draw is the evidence
    torch.testing.assert_close(bound_of(tight, x, Elbo(3)), exact_log_prob(tight, x))


@pytest.mark.parametrize(
    "objective", [Elbo(50_000, closed_form=True), pgnn.ImportanceWeighted(50_000)]
)
def test_objectives_agree_with_closed_forms(objective: Any) -> None:
    vae, x = linear_vae(), rows(3)
    q, prior = vae.encode(x), vae.conditionals["z"].distribution({})
    if isinstance(objective, Elbo):
        base: Any = q
        kl = kl_divergence(base.base_dist, Normal(torch.zeros(L), torch.ones(L))).sum(-1)
        mean, variance = q.mean, q.variance
        weight = vae.conditionals["x"].module.weight  # type: ignore[union-attr,operator]
        square = (x - mean @ weight.T).square().sum(-1) + variance @ weight.square().sum(0)
        fit = -0.5 * square / NOISE**2 - D * math.log(NOISE * math.sqrt(2 * math.pi))
        expected = fit - kl
    else:
        expected = exact_log_prob(vae, x)
    assert prior.event_shape == (L,)
    torch.testing.assert_close(bound_of(vae, x, objective), expected, atol=0.05, rtol=0.0)


def test_step_equals_pyros() -> None:
    import pyro
    import pyro.distributions as dist
    from pyro.infer import Trace_ELBO

    vae, x = linear_vae(), rows(4)
    noise = torch.randn(1, 4, L, generator=make_generator(0), dtype=torch.float64)

    class Fixed(dist.Normal):
        """A normal whose draw is known."""

        def rsample(self, sample_shape: Any = ()) -> Tensor:
            return self.loc + self.scale * noise[0]

    def model(x: Tensor) -> None:
        with pyro.plate("rows", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(L).double(), 1.0).to_event(1))
            mean = vae.conditionals["x"].module(z)  # type: ignore[union-attr,operator]
            pyro.sample("x", dist.Normal(mean, NOISE).to_event(1), obs=x)

    def guide(x: Tensor) -> None:
        q: Any = vae.encode(x)
        with pyro.plate("rows", len(x)):
            pyro.sample("z", Fixed(q.base_dist.loc, q.base_dist.scale).to_event(1))

    loss = Trace_ELBO().differentiable_loss(model, guide, x)
    parameters = [p for p in vae.parameters() if p.requires_grad]
    theirs = torch.autograd.grad(loss, parameters)
    value = BoundObjective(vae, LowerBound(), 0)(read_rows(vae, x))()
    ours = torch.autograd.grad(-len(x) * value, parameters)
    torch.testing.assert_close(-len(x) * value, loss)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b)


def test_closed_form_and_drawn_divergence_have_the_same_expected_gradient() -> None:
    x = rows(2)
    gradients = []
    for objective in (Elbo(100_000), Elbo(100_000, closed_form=True)):
        vae = linear_vae()
        parameters = [p for p in vae.parameters() if p.requires_grad]
        total = bound_of(vae, x, objective).sum()
        gradients.append(torch.autograd.grad(total, parameters))
    for a, b in zip(*gradients, strict=True):
        torch.testing.assert_close(a, b, atol=0.1, rtol=0.02)


def test_beta_and_free_bits_weigh_the_divergence() -> None:
    vae, x = linear_vae(), rows(5)
    base: Any = vae.encode(x)
    each = kl_divergence(base.base_dist, Normal(torch.zeros(L), torch.ones(L))).detach()
    plain = bound_of(vae, x, Elbo(closed_form=True))
    torch.testing.assert_close(
        bound_of(vae, x, Elbo(closed_form=True, beta=3.0)), plain - 2 * each.sum(-1)
    )
    least = float(each.mean(0).mean())  # between the two
    spent = each.mean(0) > least
    assert spent.sum() == 1
    expected = plain + each.sum(-1) - each[:, spent].sum(-1) - least
    torch.testing.assert_close(bound_of(vae, x, Elbo(closed_form=True, free_bits=least)), expected)


def test_learns_what_exact_learning_does() -> None:
    rng = np.random.default_rng(0)
    x = torch.tensor(
        rng.normal(size=(600, 1)) @ rng.normal(size=(1, 5)) + rng.normal(size=(600, 5))
    )
    exact = pgnn.PrincipalComponents(1).fit(x.numpy())
    best = float(exact.log_prob(x.numpy()).mean())

    class Decoder(nn.Module):
        """A linear mean, and one scale for all."""

        def __init__(self) -> None:
            super().__init__()
            self.linear, self.raw = nn.Linear(1, 5), nn.Parameter(torch.zeros(()))

        def forward(self, z: Tensor) -> Tensor:
            return torch.cat([self.linear(z), self.raw.expand(len(z), 5)], dim=1)

    torch.manual_seed(0)
    vae = VAE(nn.Linear(5, 2), Decoder(), NormalHead((5,)), latent=1)
    learner = LowerBound(
        bound=Elbo(10, closed_form=True), batch_size=100, max_iterations=80,
        optimizer=lambda p: torch.optim.Adam(p, lr=0.02),
    )  # fmt: skip
    vae.fit(x, learner=learner, seed=0, progress=False)
    found = vae.history["lower_bound"] / len(x)
    assert best - 0.03 < found < best + 0.02  # of the last, a mean over draws
    posterior = vae.query([], {"x": x}, engine=pgnn.Variational(max_iterations=0, num_samples=50))
    assert float(posterior.log_evidence.mean()) == pytest.approx(found, abs=0.03)


@pytest.mark.parametrize("n", [1, 5])
def test_query_draws_from_the_posterior_and_bounds_the_evidence(n: int) -> None:
    vae, x = linear_vae(optimal=True), rows(n)
    posterior = vae.query("z", {"x": x})
    assert posterior.kind == "lower bound"
    assert "nan" not in str(posterior)
    torch.testing.assert_close(posterior.log_evidence, exact_log_prob(vae, x))
    engine = pgnn.Variational(objective=pgnn.ImportanceWeighted(100))
    torch.testing.assert_close(vae.log_prob(x, engine=engine), exact_log_prob(vae, x))
    with pytest.raises(pgnn.Unsupported, match=r"Variational.*gives a lower bound"):
        vae.log_prob(x)
    q = vae.encode(x)
    error = q.stddev / math.sqrt(100)
    assert ((posterior["z"].mean - q.mean).abs() < 5 * error).all()
    torch.testing.assert_close(vae.query("z", {"x": x[0]}).log_evidence, exact_log_prob(vae, x)[0])


def test_missing_numbers_are_summed_out() -> None:
    vae, x = linear_vae(optimal=True), rows(3)
    holes = x.clone()
    holes[:, 1] = torch.nan
    kept = [0, 2, 3]
    weight = vae.conditionals["x"].module.weight[kept]  # type: ignore[union-attr,index,operator]
    covariance = weight @ weight.T + NOISE**2 * torch.eye(3, dtype=torch.float64)
    exact = MultivariateNormal(torch.zeros(3).double(), covariance).log_prob(x[:, kept])
    engine = pgnn.Variational(
        objective=pgnn.ImportanceWeighted(20_000), max_iterations=0, num_samples=20_000, seed=0
    )
    posterior = vae.query([], {"x": holes}, engine=engine)
    error = posterior.diagnostics["effective_sample_size"].rsqrt()  # of the log of a mean weight
    assert (error < 0.05).all()
    assert ((posterior.log_evidence - exact).abs() < 4 * error).all()
    assert bool(vae.reconstruct(holes).isfinite().all())
    assert bool(holes[:, 1].isnan().all())


def binary_vae(inputs: str | tuple[str, ...] = (), extra: int = 0) -> VAE:
    torch.manual_seed(0)
    encoder = nn.Sequential(nn.Flatten(), nn.Linear(9 + extra, 4))
    decoder = nn.Linear(2 + extra, 9)
    return VAE(encoder, decoder, BernoulliHead((3, 3)), latent=2, inputs=inputs)


def bars(n: int = 64) -> Tensor:
    lines = torch.eye(3).repeat_interleave(3, dim=0).reshape(3, 3, 3)
    return lines[torch.arange(n) % 3]


@pytest.mark.parametrize("objective", [Elbo(), pgnn.ImportanceWeighted(5), pgnn.ScoreFunction(5)])
def test_images_are_learned_by_any_objective(objective: Any) -> None:
    vae = binary_vae()
    learner = LowerBound(
        bound=objective, max_iterations=60, batch_size=16,
        optimizer=lambda p: torch.optim.Adam(p, lr=0.05),
    )  # fmt: skip
    vae.fit(bars(), learner=learner, seed=0, progress=False)
    trace = vae.history["trace"]["mean_lower_bound"]
    assert trace[-1] > trace[0] + 1.0
    assert vae.sample(7, seed=0)["x"].shape == (7, 3, 3)
    assert vae.sample(7, seed=0)["x"].unique().tolist() == [0.0, 1.0]


def test_same_seed_same_fit_and_the_data_stays() -> None:
    x = bars()
    before = x.clone()
    both = [binary_vae().fit(x, learner=LowerBound(max_iterations=2), seed=3) for _ in range(2)]
    for a, b in zip(both[0].parameters(), both[1].parameters(), strict=True):
        assert torch.equal(a, b)
    assert torch.equal(x, before)


def test_validation_keeps_the_best() -> None:
    learner = LowerBound(max_iterations=30, batch_size=8, validation=0.25, patience=3)
    vae = binary_vae().fit(bars(), learner=learner, seed=0, progress=False)
    assert "validation" in vae.history["trace"]
    assert vae.history["iterations"] <= 30


def test_conditional_on_inputs() -> None:
    vae, x = binary_vae("label", 3), bars()
    label = torch.eye(3)[torch.arange(len(x)) % 3]
    learner = LowerBound(
        max_iterations=80, batch_size=16, optimizer=lambda p: torch.optim.Adam(p, lr=0.05)
    )
    vae.fit({"x": x}, inputs={"label": label}, learner=learner, seed=0, progress=False)
    drawn = vae.sample(200, inputs={"label": torch.eye(3)}, seed=0)["x"]  # (200, 3, 3, 3)
    lines = torch.eye(3).repeat_interleave(3, dim=0).reshape(3, 3, 3)
    assert (drawn.mean(0) - lines).abs().max() < 0.3


def test_saved_and_loaded(tmp_path: Any) -> None:
    vae = binary_vae().fit(bars(), learner=LowerBound(max_iterations=1), seed=0)
    vae.save(tmp_path / "vae.pgnn")
    fresh = binary_vae()
    modules = {
        n: c.module for n, c in [("x", fresh.conditionals["x"]), ("z", fresh.recognition["z"])]
    }  # type: ignore[attr-defined]
    again = pgnn.load(tmp_path / "vae.pgnn", modules=modules)
    assert torch.equal(again.encode(bars(4)).mean, vae.encode(bars(4)).mean)
    assert again.history["lower_bound"] == vae.history["lower_bound"]


def test_hierarchy_of_latents() -> None:
    top, low, x = (
        pgnn.Variable(n, shape=s) for n, s in [("top", (1,)), ("low", (2,)), ("x", (3,))]
    )
    torch.manual_seed(0)
    model = pgnn.AmortisedNetwork(
        [("top", "low"), ("low", "x")],
        [
            pgnn.Gaussian(top, [], [0.0], [1.0], pgnn.Diagonal()),
            pgnn.Neural(low, [top], nn.Linear(1, 4), head=NormalHead((2,))),
            pgnn.Neural(x, [low], nn.Linear(2, 3), head=NormalHead((3,), 1.0)),
        ],
        recognition=[
            pgnn.Neural(top, [low], nn.Linear(2, 2), head=NormalHead((1,))),
            pgnn.Neural(low, [x], nn.Linear(3, 4), head=NormalHead((2,))),
        ],
    )
    assert list(model.recognition) == ["low", "top"]
    data = torch.randn(5, 3, generator=make_generator(0))
    values = bound_of(model, {"x": data}, Elbo(3), seed=1)  # type: ignore[arg-type]
    generator = make_generator(1)
    q_low: Any = model.recognition["low"].distribution({"x": data})
    z = q_low.base_dist.loc + q_low.base_dist.scale * torch.randn(3, 5, 2, generator=generator)
    q_top: Any = model.recognition["top"].distribution({"low": z.flatten(0, 1)})
    t = q_top.base_dist.loc + q_top.base_dist.scale * torch.randn(15, 1, generator=generator)
    flat = z.flatten(0, 1)
    joint = (
        model.conditionals["top"].distribution({}).log_prob(t)
        + model.conditionals["low"].distribution({"top": t}).log_prob(flat)
        + model.conditionals["x"].distribution({"low": flat}).log_prob(data.repeat(3, 1))
    )
    expected = joint - q_low.log_prob(z).flatten() - q_top.log_prob(t)
    torch.testing.assert_close(values, expected.reshape(3, 5).mean(0), check_dtype=False)


def test_labels_are_summed_out() -> None:
    label = pgnn.Variable("label", ["a", "b"])
    z, x = pgnn.Variable("z", shape=(1,)), pgnn.Variable("x", shape=(2,))
    torch.manual_seed(0)
    model = pgnn.AmortisedNetwork(
        [("label", "x"), ("z", "x")],
        [
            pgnn.Tabular(label, [], [0.3, 0.7]),
            pgnn.Gaussian(z, [], [0.0], [1.0], pgnn.Diagonal()),
            pgnn.Neural(x, [label, z], nn.Linear(3, 2), head=BernoulliHead((2,))),
        ],
        recognition=[pgnn.Neural(z, [x], nn.Linear(2, 2), head=NormalHead((1,)))],
    )
    data = torch.tensor([[0.0, 1.0], [1.0, 1.0], [0.0, 0.0]])
    values = bound_of(model, {"x": data}, Elbo(), seed=2)  # type: ignore[arg-type]
    q: Any = model.recognition["z"].distribution({"x": data})
    draw = q.base_dist.loc + q.base_dist.scale * torch.randn(1, 3, 1, generator=make_generator(2))
    scores = []
    for state, weight in enumerate([0.3, 0.7]):
        parents = {"label": torch.full((3,), state), "z": draw[0]}
        p = model.conditionals["x"].distribution(parents)
        scores.append(p.log_prob(data) + math.log(weight))
    prior = model.conditionals["z"].distribution({}).log_prob(draw[0])
    expected = torch.stack(scores).logsumexp(0) + prior - q.log_prob(draw[0])
    torch.testing.assert_close(values, expected, check_dtype=False)
    rows_of = {"x": data, "label": ["a", None, "b"]}
    learner = LowerBound(max_iterations=2, batch_size=2)
    assert model.fit(rows_of, learner=learner, seed=0, progress=False).history["iterations"] == 2


def semi_supervised(seed: int = 0) -> pgnn.AmortisedNetwork:
    """A label and a style make an image; both are recognised."""
    label = pgnn.Variable("label", ["a", "b", "c"])
    z, x = pgnn.Variable("z", shape=(1,)), pgnn.Variable("x", shape=(4,))
    torch.manual_seed(seed)
    return pgnn.AmortisedNetwork(
        [("label", "x"), ("z", "x")],
        [
            pgnn.Tabular(label, [], [0.2, 0.3, 0.5]),
            pgnn.Gaussian(z, [], [0.0], [1.0], pgnn.Diagonal()),
            pgnn.Neural(x, [label, z], nn.Linear(4, 4), head=BernoulliHead((4,))),
        ],
        recognition=[
            pgnn.Neural(label, [x], nn.Linear(4, 3)),
            pgnn.Neural(z, [x, label], nn.Linear(7, 2), head=NormalHead((1,))),
        ],
    )


def test_bound_of_rows_without_a_label_enumerates_its_states() -> None:
    model, n = semi_supervised(), 4000
    data = torch.tensor([[0.0, 1.0, 1.0, 0.0], [1.0, 1.0, 0.0, 0.0]])
    labels = [None, "c"]
    learner = LowerBound(bound=Elbo(n, closed_form=True), supervision=2.0)
    evidence = read_rows(model, {"x": data, "label": labels})
    found = float(BoundObjective(model, learner, 0)(evidence)().detach())

    def bound(k: int, row: int) -> Tensor:
        state, x = torch.full((n,), k), data[row].expand(n, -1)
        q: Any = model.recognition["z"].distribution({"x": x, "label": state})
        z = q.base_dist.loc + q.base_dist.scale * torch.randn(n, 1, generator=make_generator(k))
        fit = model.conditionals["x"].distribution({"label": state, "z": z}).log_prob(x)
        kl = kl_divergence(q.base_dist, Normal(torch.zeros(1), torch.ones(1))).sum(-1)
        return (fit - kl).mean() + math.log([0.2, 0.3, 0.5][k])

    with torch.no_grad():
        log_q = model.recognition["label"].distribution({"x": data}).logits.log_softmax(-1)  # type: ignore[attr-defined]
        missing = sum(log_q[0, k].exp() * (bound(k, 0) - log_q[0, k]) for k in range(3))
        expected = 0.5 * (missing + bound(2, 1) + 2.0 * log_q[1, 2])
    assert found == pytest.approx(float(expected), abs=0.02)


def test_labels_are_asked_for_with_their_recognition() -> None:
    model = semi_supervised()
    with torch.no_grad():
        model.recognition["z"].module.bias[1] = 1.5  # type: ignore[union-attr,index,operator]
    data = torch.tensor([[0.0, 1.0, 1.0, 0.0], [1.0, 1.0, 0.0, 0.0]])
    engine = pgnn.Variational(
        objective=pgnn.ImportanceWeighted(20_000), max_iterations=0, num_samples=20_000, seed=0
    )
    posterior = model.query(["label", "z"], {"x": data}, engine=engine)
    grid = torch.linspace(-8, 8, 4001).unsqueeze(1)
    joint = torch.zeros(2, 3, len(grid))
    with torch.no_grad():
        prior = model.conditionals["z"].distribution({}).log_prob(grid)
        for k, weight in enumerate([0.2, 0.3, 0.5]):
            p = model.conditionals["x"].distribution({"label": torch.full((4001,), k), "z": grid})
            for row in range(2):
                joint[row, k] = math.log(weight) + prior + p.log_prob(data[row].expand(4001, -1))
    density = joint.exp().double() * (16 / 4000)
    exact, evidence = density.sum(-1) / density.sum((1, 2)).unsqueeze(1), density.sum((1, 2)).log()
    torch.testing.assert_close(posterior["label"].probs, exact, atol=0.01, rtol=0.0)
    torch.testing.assert_close(posterior.log_evidence, evidence, atol=0.01, rtol=0.0)
    shares = density.sum(-1) / density.sum((1, 2)).unsqueeze(1)
    assert posterior["z"].draws.shape == (20_000, 2, 1)
    recognised = torch.stack([
        model.recognition["z"].distribution(
            {"x": data, "label": torch.full((2,), k)}
        ).mean[:, 0].detach() for k in range(3)
    ], dim=1)  # fmt: skip
    expected = (shares * recognised).sum(1)
    torch.testing.assert_close(
        posterior["z"].mean[:, 0], expected, atol=0.05, rtol=0.0, check_dtype=False
    )
    one = model.query("label", {"x": data[0], "label": "b"}, engine=engine)
    assert one["label"].probs.tolist() == [0.0, 1.0, 0.0]


def test_few_labels_teach_the_recognition() -> None:
    rng = np.random.default_rng(0)
    kind = rng.integers(0, 3, 300)
    patterns = np.array([[1, 1, 0, 0], [0, 0, 1, 1], [1, 0, 1, 0]])[kind]
    data = torch.tensor((patterns ^ (rng.random((300, 4)) < 0.05)), dtype=torch.float32)
    labels = ["abc"[k] if i < 30 else None for i, k in enumerate(kind)]
    learner = LowerBound(
        bound=Elbo(closed_form=True), supervision=5.0, batch_size=50, max_iterations=60,
        optimizer=lambda p: torch.optim.Adam(p, lr=0.05),
    )  # fmt: skip
    model = semi_supervised().fit({"x": data, "label": labels}, learner=learner, seed=0)
    assert "supervised_lower_bound" in model.history
    guess = model.query("label", {"x": data[30:]}, engine=pgnn.Variational(
        max_iterations=0, num_samples=20, objective=pgnn.ImportanceWeighted(20), seed=0
    ))["label"].probs.argmax(-1)  # fmt: skip
    assert float((guess.numpy() == kind[30:]).mean()) > 0.85


def test_errors_say_what_is_wrong() -> None:
    vae = binary_vae()
    with pytest.raises(DataError, match=r"'x' has values from 0 to 255.*outside.*rescale"):
        vae.fit(255 * bars(), seed=0)
    with pytest.raises(DataError, match=r"no rows|nothing"):
        vae.fit(bars(0), seed=0)
    with pytest.raises(ModelError, match="likelihood"):
        VAE(nn.Linear(9, 4), nn.Linear(2, 9), latent=2)
    with pytest.raises(ModelError, match="latent="):
        VAE(nn.Linear(9, 4), nn.Linear(2, 9), BernoulliHead((9,)))
    with pytest.raises(ModelError, match="4 outputs"):
        VAE(nn.Linear(9, 3), nn.Linear(2, 9), BernoulliHead((9,)), latent=2).fit(torch.ones(4, 9))
    with pytest.raises(ModelError, match="noisy"):
        LowerBound(optimizer=None, batch_size=None)
    with pytest.raises(ModelError, match="closed_form"):
        Elbo(free_bits=0.1)
    network = pgnn.BayesianNetwork([], {"a": [0.5, 0.5]}).requires_grad_()
    with pytest.raises(pgnn.Unsupported, match="recognition model"):
        network.fit({"a": [0, 1]}, learner=LowerBound())


def test_learners_that_need_sums_name_the_one_that_does_not() -> None:
    for learner in (pgnn.Gradient(), pgnn.EM()):
        with pytest.raises(pgnn.Unsupported, match=r"no table;.*LowerBound\(\)"):
            binary_vae().fit(bars(), learner=learner, progress=False)


def test_a_lone_number_is_told_where_a_shape_was_forgotten() -> None:
    model = pgnn.VAE(nn.Linear(1, 4), nn.Linear(2, 1), pgnn.BernoulliHead(), latent=2)
    with pytest.raises(pgnn.EvidenceError, match=r"must be \(5,\), one number per row.*no shape"):
        model.encode(torch.zeros(5, 3))
    bits = torch.tensor([0.0, 1.0] * 8)
    learner = pgnn.LowerBound(max_iterations=1)
    assert model.fit(bits, learner=learner, progress=False).encode(bits).mean.shape == (16, 2)


def test_divergence_leaves_the_model_as_it_was() -> None:
    vae = binary_vae()
    before = [p.detach().clone() for p in vae.parameters()]
    learner = LowerBound(
        max_iterations=5, batch_size=8, optimizer=lambda p: torch.optim.SGD(p, lr=1e30)
    )
    with pytest.raises(pgnn.PgnnError, match="diverged"):
        vae.fit(bars(), learner=learner, seed=0, progress=False)
    for p, q in zip(vae.parameters(), before, strict=True):
        assert torch.equal(p, q)


def test_heads_sum_missing_numbers_out() -> None:
    head = BernoulliHead((3,))
    z, x = pgnn.Variable("z", shape=(2,)), pgnn.Variable("x", shape=(3,))
    c = pgnn.Neural(x, [z], nn.Linear(2, 3), head=head)
    parents = {"z": torch.randn(4, 2, generator=make_generator(0))}
    full = torch.tensor([[0.0, 1.0, 1.0]]).repeat(4, 1)
    holes = full.clone()
    holes[:, 1] = torch.nan
    logits = c.module(parents["z"])
    expected = Independent(Bernoulli(logits=logits[:, [0, 2]]), 1).log_prob(full[:, [0, 2]])
    found = c.factor({**parents, "x": holes}).log_values
    torch.testing.assert_close(found, expected)


def test_missing_numbers_are_completed_by_what_the_decoder_expects() -> None:
    vae, x = linear_vae(optimal=True), rows(3)
    holes = x.clone()
    holes[0, 1] = torch.nan
    table = vae.impute({"x": holes})
    whole = np.stack([*table["x"]])
    assert whole[0, 1] == pytest.approx(float(vae.reconstruct(holes)[0, 1]))
    kept = ~np.isnan(holes.numpy())
    assert (whole[kept] == x.numpy()[kept]).all()
    torch.testing.assert_close(vae.encode(holes.numpy()).mean, vae.encode(holes.nan_to_num()).mean)


@pytest.mark.parametrize("kind", [pgnn.VAE, pgnn.Autoencoder])
def test_networks_that_normalise_batches(kind: Any) -> None:
    outputs = 4 if kind is pgnn.VAE else 2
    encoder = nn.Sequential(nn.Linear(D, outputs), nn.BatchNorm1d(outputs))
    decoder = nn.Sequential(nn.Linear(2, D), nn.BatchNorm1d(D))
    vae = kind(encoder, decoder, NormalHead((D,), 1.0), latent=2)
    x = rows(32).float()
    vae.fit(x, learner=LowerBound(max_iterations=3), seed=0, progress=False)
    torch.testing.assert_close(vae.reconstruct(x)[:1], vae.reconstruct(x[:1]))


def test_one_row_is_a_batch_of_one() -> None:
    vae, x = linear_vae(optimal=True), rows(3)
    for one in (x[0], x[0].numpy()):
        torch.testing.assert_close(vae.encode(one).mean, vae.encode(x[:1]).mean)
        torch.testing.assert_close(vae.reconstruct(one), vae.reconstruct(x[:1]))
        assert vae.interpolate(one, x[1], 3).shape == (1, 3, D)
        expected = vae.anomaly_score(x[:1], seed=0)
        torch.testing.assert_close(vae.anomaly_score(one, seed=0), expected)
    code = vae.encode(x).mean
    torch.testing.assert_close(vae.decode(code[0]).mean, vae.decode(code[:1]).mean)


def test_data_and_codes_that_are_none() -> None:
    vae, x = linear_vae(), rows(2)
    for verb in (vae.encode, vae.reconstruct, vae.anomaly_score):
        with pytest.raises(pgnn.EvidenceError, match="infinite"):
            verb(torch.full_like(x, torch.inf))
        with pytest.raises(pgnn.EvidenceError, match=r"shape.*\(2, 3\)"):
            verb(x[:, :3])
    with pytest.raises(pgnn.EvidenceError, match=r"shape.*\(2, 3\)"):
        vae.decode(x[:, :3])


def test_codes_of_a_fitted_model_are_plain_numbers() -> None:
    vae = linear_vae()
    assert vae.encode(rows()).mean.requires_grad
    vae.fit(rows(), learner=LowerBound(max_iterations=1), seed=0, progress=False)
    assert not vae.encode(rows()).mean.requires_grad
    assert not vae.decode(torch.zeros(2, L, dtype=torch.float64)).mean.requires_grad
    assert vae.encode(rows().requires_grad_()).mean.requires_grad
    vae.requires_grad_()
    assert vae.encode(rows()).mean.requires_grad


def test_whole_numbers_and_truth_values_are_data():
    torch.manual_seed(0)
    vae = pgnn.VAE(nn.Linear(6, 4), nn.Linear(2, 6), pgnn.BernoulliHead((6,)), latent=2)
    rows = (torch.rand(8, 6, generator=torch.Generator().manual_seed(0)) > 0.5).float()
    for same in (rows.long(), rows.bool(), rows.tolist(), rows.double()):
        assert torch.equal(vae.encode(same).mean, vae.encode(rows).mean)
        assert torch.equal(vae.reconstruct(same), vae.reconstruct(rows))


def one_code() -> tuple[VAE, Tensor, Tensor]:
    """A VAE of one code, a row with a missing pixel, and ``(2, 2001)`` a grid with weights."""
    torch.manual_seed(0)
    vae = pgnn.VAE(nn.Linear(6, 2), nn.Linear(1, 6), pgnn.BernoulliHead((6,)), latent=1)
    row = torch.tensor([1.0, 0.0, torch.nan, 1.0, 1.0, 0.0])
    grid = torch.linspace(-6.0, 6.0, 2001)
    bits = Bernoulli(logits=vae.conditionals["x"].module(grid.unsqueeze(1)).detach())
    logs = bits.log_prob(row.nan_to_num())[:, [0, 1, 3, 4, 5]].sum(1)
    return vae, row, torch.stack([grid, (logs + Normal(0.0, 1.0).log_prob(grid)).softmax(0)])


def test_chains_sum_missing_pixels_out():
    """Draws of the code given five of six pixels have the mean of a grid over the code."""
    vae, row, (grid, weights) = one_code()
    mean = float(weights @ grid)
    spread = float((weights @ (grid - mean).square()).sqrt())
    drawn = vae.sample(500, {"x": row}, seed=0)
    assert float(drawn["z"].mean()) == pytest.approx(mean, abs=5 * spread / 100**0.5)
    seen = ~row.isnan()
    assert bool((drawn["x"][:, seen] == row[seen]).all())
    assert set(drawn["x"][:, 2].tolist()) == {0.0, 1.0}


def test_missing_pixels_are_asked_for():
    """A fitted guide is near the posterior of the grid; 1,000 draws tell a share to 0.016."""
    vae, row, (grid, weights) = one_code()
    chance = vae.conditionals["x"].module(grid.unsqueeze(1)).detach().sigmoid()[:, 2]
    expected = float(weights @ chance)
    engine = pgnn.Variational(guide=pgnn.FullRankNormal(), seed=0, progress=False)
    for targets in ("x", None, ["z", "x"]):
        answer = vae.query(targets, {"x": row}, engine=engine)
        assert float(answer["x"].mean[2]) == pytest.approx(expected, abs=0.06)
        seen = ~row.isnan()
        assert torch.equal(answer["x"].mean[seen].float(), row[seen])
    rows = torch.stack([row, row.nan_to_num()])
    both = vae.query("x", {"x": rows})["x"].mean  # by the recognition
    assert both.shape == (2, 6)
    assert torch.equal(both[1].float(), rows[1])
    with pytest.raises(pgnn.EvidenceError, match="'x' is real and observed, so it has no"):
        vae.query("x", {"x": row.nan_to_num()})


def test_lists_of_rows_are_one_set():
    rows = (torch.rand(20, 6, generator=torch.Generator().manual_seed(0)) > 0.5).float()
    found = []
    for data in (rows.double(), rows.tolist()):
        torch.manual_seed(0)
        vae = pgnn.VAE(nn.Linear(6, 4), nn.Linear(2, 6), pgnn.BernoulliHead((6,)), latent=2)
        learner = pgnn.LowerBound(max_iterations=2, batch_size=5)
        found.append(vae.fit(data, learner=learner, seed=0, progress=False))
    for name, x in found[0].state_dict().items():
        assert torch.equal(found[1].state_dict()[name], x)


class Dependent(pgnn.factors.conditionals.heads.NeuralHead):
    """Numbers that depend on each other."""

    def __call__(self, output: Tensor) -> MultivariateNormal:
        """Return correlated normals."""
        return MultivariateNormal(output, torch.tensor([[1.0, 0.99], [0.99, 1.0]]))


def test_heads_of_dependent_numbers_draw_no_missing_ones():
    vae = pgnn.VAE(nn.Linear(2, 2), nn.Linear(1, 2), Dependent((2,)), latent=1)
    row = torch.tensor([0.5, torch.nan])
    assert not vae.conditionals["x"].has_independent_elements
    with pytest.raises(pgnn.EvidenceError):
        vae.query("x", {"x": row})


def test_a_network_that_returns_two_tensors_is_told_to_join_them() -> None:
    class Pair(nn.Module):
        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            return x[:, :2], x[:, 2:]

    decoder = nn.Linear(2, 4)
    vae = pgnn.VAE(Pair(), decoder, pgnn.BernoulliHead((4,)), latent=2)
    with pytest.raises(pgnn.ModelError, match=r"'z' must return one tensor.*got tuple; join"):
        vae.encode(torch.zeros(3, 4))
