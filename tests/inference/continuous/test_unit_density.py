"""Score-function gradients of the bound of layers with a recognition network."""

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import pgnn
from pgnn.errors import DataError, ModelError
from pgnn.inference.continuous.model_and_guide import ModelAndGuide, make_generator
from pgnn.inference.continuous.unit_density import UnitDensity
from pgnn.inference.learning.checkpoints import Keeper
from pgnn.inference.learning.control_variates import ControlVariates
from pgnn.inference.learning.training_data import read_rows

ROWS = torch.tensor([[1, 1, 0, 0], [0, 0, 1, 1], [1, 1, 1, 0]] * 20)
PIXELS = [1, 0, 1]
FAST: Any = {"optimizer": lambda p: torch.optim.Adam(p, lr=0.03), "batch_size": 20}


def numbered(seed: int = 0) -> pgnn.SigmoidBeliefNetwork:
    """Three visible units under two and two hidden ones."""
    model, rng = pgnn.SigmoidBeliefNetwork([3, 2, 2]), np.random.default_rng(seed)
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(torch.from_numpy(rng.normal(size=p.shape)))
    return model


def all_states() -> list[Tensor]:
    """The visible units, with each of the 16 states of the hidden ones."""
    hidden = torch.tensor(list(itertools.product((0.0, 1.0), repeat=4))).double()
    return [torch.tensor([PIXELS] * 16).double(), hidden[:, :2], hidden[:, 2:]]


def exact_gradient(model: pgnn.SigmoidBeliefNetwork) -> Tensor:
    """The gradient of the bound, summed over all states of the hidden units."""
    states = all_states()
    log_p, log_q = model.log_joint(states), model.log_recognition(states)
    return flat(torch.autograd.grad((log_q.exp() * (log_p - log_q)).sum(), [*model.parameters()]))


def flat(gradients: Any) -> Tensor:
    return torch.cat([g.flatten() for g in gradients])


def problem_of(model: pgnn.SigmoidBeliefNetwork, rows: int) -> ModelAndGuide:
    observed = read_rows(model, {"visible": torch.tensor([PIXELS] * rows)})
    return ModelAndGuide.of(UnitDensity(model, observed), None, ())


def learned_variates(whole: bool = False, **settings: Any) -> ControlVariates:
    """Control variates after some steps, of the signals of each layer or of all draws at once."""
    objective = pgnn.ScoreFunction(1, **settings)
    variates, problem = objective.variates(0), problem_of(numbered(), 50)
    for step in range(100):
        draws = problem.weighted(objective, make_generator(step))
        problem.total(draws._replace(layers=()) if whole else draws, objective, variates)
    return variates


@pytest.mark.parametrize("units", [0, 3])
def test_the_gradient_is_unbiased_by_enumeration(
    units: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its expectation over all draws is the gradient of the bound, whatever was learned before."""
    model = numbered()
    objective = pgnn.ScoreFunction(1, baseline_units=units)
    variates = learned_variates(baseline_units=units)
    with torch.no_grad():
        for p in variates.networks.parameters():
            p.normal_(generator=torch.Generator().manual_seed(1))
    problem, states = problem_of(model, 16), all_states()
    monkeypatch.setattr(model, "recognise", lambda visible, rng: states)
    draws = problem.weighted(objective, make_generator(0))
    probability = model.log_recognition(states).exp().detach()
    assert float(probability.sum()) == pytest.approx(1.0)
    total = (draws.values(objective, variates) * probability).sum()
    got = flat(torch.autograd.grad(total, [*model.parameters()]))
    torch.testing.assert_close(got, exact_gradient(model), atol=1e-9, rtol=0)


def noisy_gradients(objective: Any, variates: ControlVariates | None, whole: bool) -> Tensor:
    """``(400, P)`` gradients of the mean bound, of 5 draws each."""
    model = numbered()
    problem, gradients = problem_of(model, 5), []
    for step in range(400):
        draws = problem.weighted(objective, make_generator(1000 + step))
        if whole:
            draws = draws._replace(layers=())
        total = draws.values(objective, variates).mean()
        gradients.append(flat(torch.autograd.grad(total, [*model.parameters()])))
    return torch.stack(gradients)


@pytest.mark.parametrize("particles", [1, 3])
def test_the_gradient_is_unbiased_by_draws(particles: int) -> None:
    """From the first step on, while baselines are learned."""
    objective = pgnn.ScoreFunction(particles, baseline_units=4)
    got, want = noisy_gradients(objective, objective.variates(0), False), exact_gradient(numbered())
    error = (got.var(0) / len(got)).sqrt()
    assert bool(((got.mean(0) - want).abs() < 4 * error + 1e-12).all())


def test_control_variates_reduce_the_variance() -> None:
    """The mean, then signals of each layer alone, then networks of what the layer reads."""
    objective = pgnn.ScoreFunction(1)
    plain = spread(noisy_gradients(objective, None, True))
    centred = spread(noisy_gradients(objective, learned_variates(whole=True), True))
    local = spread(noisy_gradients(objective, learned_variates(), False))
    networks = learned_variates(baseline_units=8)
    predicted = spread(noisy_gradients(objective, networks, False))
    assert centred["up_weights.0"] < 0.5 * plain["up_weights.0"]
    # the upper layer alone is drawn after another, of which it need not know
    assert local["up_weights.1"] < 0.85 * centred["up_weights.1"]
    assert predicted["up_weights.1"] < 0.85 * local["up_weights.1"]


def spread(gradients: Tensor) -> dict[str, float]:
    """The variance of gradients, summed over the numbers of each parameter."""
    named = dict(numbered().named_parameters())
    parts = gradients.var(0).split([p.numel() for p in named.values()])
    return {name: float(x.sum()) for name, x in zip(named, parts, strict=True)}


def test_scaled_signals_have_at_most_unit_spread() -> None:
    noise = torch.randn(1, 1000, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    variates = ControlVariates(normalise=True)
    for _ in range(60):
        (wide,) = variates.centred([50.0 + 7.0 * noise], [None])
    assert float(wide.std()) == pytest.approx(1.0, rel=0.01)
    assert abs(float(wide.mean())) < 0.01
    narrow = ControlVariates(normalise=True)
    for _ in range(60):
        (kept,) = narrow.centred([50.0 + 0.1 * noise], [None])
    assert float(kept.std()) == pytest.approx(float((0.1 * noise).std()))


@pytest.mark.parametrize("learner", [
    pgnn.LowerBound(bound=pgnn.ScoreFunction(1, baseline_units=16, normalise=True), **FAST),
    pgnn.LowerBound(bound=pgnn.ImportanceWeighted(5), **FAST),
    pgnn.Variational(objective=pgnn.ScoreFunction(4), max_iterations=300, tolerance=0.0, **FAST),
], ids=["networks", "importance weighted", "variational"])  # fmt: skip
def test_both_networks_learn(learner: Any) -> None:
    model = pgnn.SigmoidBeliefNetwork([4, 3, 2])
    model.fit(ROWS, learner=learner, seed=0, progress=False)
    value = float(model.log_prob({"visible": ROWS}).mean())
    assert value > -1.6  # independent units: -2.4; the best: -1.1
    assert -0.5 < float(model.bound(ROWS, samples=20).mean()) - value < 0.1


def test_rows_count_by_their_weights_and_may_come_in_batches() -> None:
    learner = pgnn.LowerBound(max_iterations=60, **FAST)
    two = {"visible": torch.tensor([[1, 1, 0, 0], [0, 0, 1, 1]] * 10)}
    model = pgnn.SigmoidBeliefNetwork([4, 3]).fit(two, learner=learner, seed=0,
                                                   weights=[3.0, 0.0] * 10)  # fmt: skip
    shares = model.log_prob({"visible": two["visible"][:2]}).exp()
    assert shares[0] > 0.8
    assert shares[1] < 0.01
    batches = pgnn.SigmoidBeliefNetwork([4, 3, 2])
    learner = pgnn.LowerBound(max_iterations=150, **FAST)
    batches.fit([ROWS[:30], ROWS[30:]], learner=learner, seed=0, progress=False)
    assert float(batches.log_prob({"visible": ROWS}).mean()) > -1.8
    once = pgnn.LowerBound(max_iterations=1)
    for data in (iter([ROWS]), ROWS.tolist(), ROWS.float().numpy()):
        again = pgnn.SigmoidBeliefNetwork([4, 3]).fit(data, learner=once, seed=0, progress=False)
        assert again.history["rows"] == 60


def test_learning_stops_where_held_out_rows_stop_gaining() -> None:
    learner = pgnn.LowerBound(validation=0.2, patience=3, max_iterations=500, **FAST)
    model = pgnn.SigmoidBeliefNetwork([4, 3]).fit(ROWS, learner=learner, seed=0, progress=False)
    assert model.history["stopped_early"]
    assert model.history["iterations"] < 500
    assert len(model.history["trace"]["validation"]) == model.history["iterations"]


def test_a_fit_goes_on_where_it_ended(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    class Ended(Exception):
        pass

    class Ending(Keeper):
        def write(self, state: Any) -> None:
            super().write(state)
            if state["record"]["iterations"] == 3:
                raise Ended

    def fitted(**rest: Any) -> pgnn.Model:
        bound = pgnn.ScoreFunction(1, baseline_units=5, normalise=True)
        learner = pgnn.LowerBound(bound=bound, max_iterations=6, **FAST, **rest)
        return pgnn.SigmoidBeliefNetwork([4, 3, 2]).fit(ROWS, learner=learner, seed=0)

    kept = pgnn.Checkpoints(tmp_path / "fit", every=0.0)
    with monkeypatch.context() as patch:
        patch.setattr("pgnn.inference.learning.checkpoints.Keeper", Ending)
        with pytest.raises(Ended):
            fitted(checkpoints=kept)
    resumed, whole, other = fitted(checkpoints=kept), fitted(), fitted()
    for name, x in whole.state_dict().items():
        assert torch.equal(x, resumed.state_dict()[name])
        assert torch.equal(x, other.state_dict()[name])


def test_the_engine_answers_by_a_bound() -> None:
    model = numbered().requires_grad_(False)
    rows = torch.tensor(list(itertools.product((0, 1), repeat=3)))
    exact = model.log_prob({"visible": rows})
    bound = model.log_prob({"visible": rows}, engine=pgnn.Variational(progress=False, seed=0))
    assert bool((bound <= exact + 1e-9).all())
    assert float((exact - bound).max()) < 0.5
    answer = model.query("hidden1", {"visible": PIXELS}, engine=pgnn.Variational(progress=False))
    assert answer.kind == "lower bound"


@pytest.mark.parametrize(("learner", "says"), [
    (pgnn.Variational(guide=pgnn.MeanFieldNormal()), "leave guide and shared out"),
    (pgnn.Variational(shared="hidden1"), "leave guide and shared out"),
    (pgnn.LowerBound(bound=pgnn.Elbo(closed_form=True)), "units are discrete"),
    (pgnn.Variational(objective=pgnn.Elbo(path_only=True)), "units are discrete"),
])  # fmt: skip
def test_settings_of_real_latents_are_refused(learner: Any, says: str) -> None:
    model = pgnn.SigmoidBeliefNetwork([4, 3])
    with pytest.raises(pgnn.Unsupported, match=says):
        model.fit(ROWS, learner=learner, seed=0, progress=False)
    assert not any(bool(p.any()) for p in model.parameters())


@pytest.mark.parametrize("learner", [pgnn.LowerBound(), pgnn.Variational()])
def test_data_that_a_recognition_network_cannot_read(learner: Any) -> None:
    model = pgnn.SigmoidBeliefNetwork([4, 3])
    with pytest.raises(DataError, match=r"all units of .visible. must be observed"):
        model.fit(ROWS.float().masked_fill(ROWS == 0, torch.nan), learner=learner)
    with pytest.raises(DataError, match="leave out hidden layers"):
        model.fit({"visible": ROWS[:2], "hidden1": [[1, 0, 1]] * 2}, learner=learner)
    with pytest.raises(pgnn.Unsupported, match=r"learn with WakeSleep\(\)"):
        pgnn.DeepBeliefNetwork([4, 3, 2]).fit(ROWS, learner=learner)
    assert not any(bool(p.any()) for p in model.parameters())


def test_baselines_that_cannot_be() -> None:
    with pytest.raises(ModelError, match="baseline_units"):
        pgnn.ScoreFunction(baseline_units=-1)
    network = torch.nn.Linear(2, 4)
    vae = pgnn.VAE(torch.nn.Linear(4, 4), network, pgnn.BernoulliHead((4,)), latent=2)
    learner = pgnn.LowerBound(bound=pgnn.ScoreFunction(baseline_units=3), max_iterations=1)
    with pytest.raises(pgnn.Unsupported, match="leave it out"):
        vae.fit(ROWS.float(), learner=learner, progress=False)
