"""Deep Boltzmann machines, deep belief networks and sigmoid belief networks."""

import itertools
from typing import Any

import numpy as np
import pytest
import torch

import pgnn
from pgnn.errors import DataError, Intractable, ModelError, PgnnError
from pgnn.inference.learning.checkpoints import Keeper

ROWS = torch.tensor([[1, 1, 0, 0], [0, 0, 1, 1], [1, 1, 1, 0]] * 20)


def numbered(model: pgnn.Model, seed: int = 0) -> pgnn.Model:
    rng = np.random.default_rng(seed)
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(torch.from_numpy(rng.normal(size=p.shape)))
    return model


def all_states(units: int) -> np.ndarray:
    return np.array(list(itertools.product((0, 1), repeat=units)))


def sigmoid(x: np.ndarray) -> np.ndarray:
    return np.asarray(1 / (1 + np.exp(-x)))


def of_layer(x: np.ndarray, field: np.ndarray) -> np.ndarray:
    return np.asarray(np.log(sigmoid(np.where(x == 1, field, -field))).sum(1))


def joint(model: pgnn.Model) -> tuple[np.ndarray, np.ndarray]:
    """All states of 4, 3 and 2 units, and their log scores."""
    x = all_states(9)
    v, h, g = x[:, :4], x[:, 4:7], x[:, 7:]
    (b0, b1, b2), (w0, w1) = (
        [p.detach().numpy() for p in ps] for ps in (model.biases, model.weights)
    )
    score = of_layer(v, b0 + h @ w0.T)
    if isinstance(model, pgnn.SigmoidBeliefNetwork):
        return x, score + of_layer(h, b1 + g @ w1.T) + of_layer(g, np.broadcast_to(b2, g.shape))
    return x, score + np.einsum("ni,ij,nj->n", h, w1, g) + h @ b1 + g @ b2


@pytest.mark.parametrize("kind", [pgnn.SigmoidBeliefNetwork, pgnn.DeepBeliefNetwork])
def test_layers_equal_enumeration(kind: type, tmp_path: object) -> None:
    model = numbered(kind([4, 3, 2])).requires_grad_(False)
    x, score = joint(model)
    total = np.logaddexp.reduce(score)
    if kind is pgnn.SigmoidBeliefNetwork:
        assert total == pytest.approx(0.0)
    else:
        assert float(model.log_partition()) == pytest.approx(total)
    by_visible = np.logaddexp.reduce(score.reshape(16, 32), axis=1) - total
    got = model.log_prob({"visible": all_states(4)})
    np.testing.assert_allclose(got, by_visible, atol=1e-9)
    chosen = np.exp(score - total) * (x[:, 0] == 1) * (x[:, 3] == 0)
    on = chosen @ x / chosen.sum()
    answer = model.query(None, {("visible", 0): 1, ("visible", 3): 0})
    for name, own in zip(model.variables, (slice(0, 4), slice(4, 7), slice(7, 9)), strict=True):
        np.testing.assert_allclose(answer[name].probs[..., 1], on[own], atol=1e-9)
    drawn = model.sample(3000, seed=0)["visible"].double().mean(0)
    np.testing.assert_allclose(drawn, np.exp(score - total) @ x[:, :4], atol=0.04)
    bound = model.bound(torch.from_numpy(all_states(4)), samples=300) - total
    np.testing.assert_allclose(bound, by_visible, atol=0.7)
    assert (bound.numpy() - by_visible).mean() < 0.02
    model.save(f"{tmp_path}/m.safetensors")
    again = pgnn.load(f"{tmp_path}/m.safetensors")
    torch.testing.assert_close(again.log_prob({"visible": all_states(4)}), got)


def test_mean_field_bounds_a_deep_boltzmann_machine() -> None:
    model = numbered(pgnn.DeepBoltzmannMachine(4, [3, 2])).requires_grad_(False)
    rows = torch.from_numpy(all_states(4))
    exact, bound = model.log_score(rows), model.score_bound(rows)
    assert bool((bound <= exact + 1e-9).all())
    assert float((exact - bound).max()) < 0.5
    want = model.log_partition(engine=pgnn.JunctionTree())
    torch.testing.assert_close(model.log_partition(), want)
    bracket = model.log_partition_bracket(temperatures=300, seed=0)
    assert abs(bracket.lower - float(want)) < 0.1
    with pytest.raises(DataError, match="need complete rows"):
        model.score_bound(torch.tensor([[0.0, torch.nan, 1.0, 0.0]]))
    weak = pgnn.DeepBoltzmannMachine(4, [3, 2])
    torch.testing.assert_close(weak.score_bound(rows), weak.log_score(rows).detach())


def test_a_deep_boltzmann_machine_learns() -> None:
    learner = pgnn.ContrastiveDivergence(
        epochs=80, batch_size=20, optimizer=lambda p: torch.optim.SGD(p, lr=0.2)
    )
    model = pgnn.DeepBoltzmannMachine(4, [4, 3]).fit(ROWS, learner=learner, seed=0)
    assert float(model.log_prob(ROWS).mean()) > -1.8  # independent units: -2.4; the best: -1.1


@pytest.mark.parametrize("settings", [
    {}, {"samples": 5}, {"score_function": True},
], ids=["wake-sleep", "reweighted", "score function"])  # fmt: skip
@pytest.mark.parametrize("kind", [pgnn.SigmoidBeliefNetwork, pgnn.DeepBeliefNetwork])
def test_both_networks_learn(kind: type, settings: dict) -> None:
    learner = pgnn.WakeSleep(
        epochs=100, batch_size=20, optimizer=lambda p: torch.optim.Adam(p, lr=0.03), **settings
    )
    model = kind([4, 3, 2]).fit(ROWS, learner=learner, seed=0, progress=False)
    value = float(model.log_prob({"visible": ROWS}).detach().mean())
    assert value > -2.0  # independent units: -2.4; the best: -1.1
    assert len(model.history["trace"]["bound"]) == 100
    if kind is pgnn.SigmoidBeliefNetwork:
        assert float(model.bound(ROWS, samples=1).mean()) < value


def test_layers_are_learnt_one_after_the_other() -> None:
    machines = pgnn.ContrastiveDivergence(
        epochs=60, batch_size=20, optimizer=lambda p: torch.optim.SGD(p, lr=0.3)
    )
    learner = pgnn.GreedyLayerwise(machines)
    model = pgnn.DeepBeliefNetwork([4, 4, 3]).fit(ROWS, learner=learner, seed=0, progress=False)
    before = float(model.log_prob({"visible": ROWS}).mean())
    assert before > -2.0
    up_down = pgnn.WakeSleep(epochs=30, batch_size=20)
    model.fit(ROWS, learner=up_down, seed=0, progress=False)
    assert float(model.log_prob({"visible": ROWS}).mean()) > before - 0.3
    network = model.to_classifier(3)
    assert network(ROWS[:5].double()).shape == (5, 3)
    top = torch.sigmoid(ROWS[:5].double() @ model.up_weights[0] + model.up_biases[0])
    torch.testing.assert_close(network[:2](ROWS[:5].double()), top)


def test_hundreds_of_units_without_tables() -> None:
    model = numbered(pgnn.SigmoidBeliefNetwork([30, 60, 10]))
    drawn = model.sample(20, seed=0)
    assert drawn["hidden1"].shape == (20, 60)
    engine = pgnn.Gibbs(chains=2, samples=20, burn_in=20, seed=0, max_r_hat=100.0)
    answer = model.query("hidden2", {"visible": drawn["visible"][:2]}, engine=engine)
    assert bool(answer["hidden2"].probs.isfinite().all())
    whole = {n: drawn[n] for n in model.variables}
    states = [drawn[n].double() for n in model.variables]
    torch.testing.assert_close(
        model.log_prob(whole).detach(), model.log_joint(states).detach(), check_dtype=False
    )


@pytest.mark.parametrize("kind", [pgnn.SigmoidBeliefNetwork, pgnn.DeepBeliefNetwork])
def test_chains_given_evidence_are_those_of_the_exact_engine(kind: type) -> None:
    """Hidden units and missing pixels, of two rows of evidence with other pixels missing."""
    model = numbered(kind([4, 3, 2])).requires_grad_(False)
    nan = torch.nan
    rows = {"visible": torch.tensor([[1.0, nan, nan, 0.0], [nan, 0.0, 1.0, 1.0]])}
    exact, chains = model.query(None, rows), model.query(None, rows, engine=pgnn.Gibbs(seed=0))
    drawn = model.sample(2000, rows, engine=pgnn.Gibbs(seed=0), seed=1)
    for name in model.variables:
        want = exact[name].probs[..., 1]
        # four standard errors of 500 independent draws: the chains mix in few sweeps
        wide = 4 * (want * (1 - want) / 500).sqrt() + 1e-9
        assert bool(((chains[name].probs[..., 1] - want).abs() <= wide).all())
        assert bool(((drawn[name].double().mean(0) - want).abs() <= wide).all())
    pixels = drawn["visible"]
    assert bool((pixels[:, 0, 0] == 1).all())
    assert bool((pixels[:, 1, 1] == 0).all())


@pytest.mark.parametrize("kind", [pgnn.SigmoidBeliefNetwork, pgnn.DeepBeliefNetwork])
@pytest.mark.parametrize("layers", [[30, 6], [30, 6, 4]])
def test_few_hidden_units_are_summed_out(kind: type, layers: list[int]) -> None:
    model = numbered(kind(layers)).requires_grad_(False)
    rows = {"visible": torch.randint(2, (4, 30), generator=torch.Generator().manual_seed(0))}
    answer = model.query("hidden1", rows)
    assert (answer.kind, answer.engine) == ("exact", "JunctionTree")
    states = torch.cartesian_prod(*[torch.arange(2)] * sum(layers[1:]))
    every = torch.cat([rows["visible"].repeat_interleave(len(states), 0), states.repeat(4, 1)], 1)
    layer_states = [x.double() for x in every.split(layers, 1)]
    logs = model.log_joint(layer_states).reshape(4, -1)
    shares = logs.softmax(1) @ states[:, :6].double()
    torch.testing.assert_close(answer["hidden1"].probs[..., 1], shares)


@pytest.mark.parametrize("kind", [pgnn.SigmoidBeliefNetwork, pgnn.DeepBeliefNetwork])
def test_many_units_say_what_answers(kind: type) -> None:
    model = numbered(kind([30, 20])).requires_grad_(False)
    rows = torch.zeros(2, 30)
    with pytest.raises(pgnn.Unsupported, match=r"model\.bound\(rows\).*MeanField"):
        model.log_prob({"visible": rows})
    assert model.bound(rows).shape == (2,)
    rows[:, :5] = torch.nan
    with pytest.raises(pgnn.Unsupported, match=r"50 units.*sample\(n, evidence\).*draws"):
        model.most_probable({"visible": rows})
    with pytest.raises(pgnn.Unsupported, match="draws"):
        model.impute(rows)
    engine = pgnn.Gibbs(chains=1, burn_in=5, samples=4, seed=0, max_r_hat=100.0)
    (filled,) = model.impute(rows, draws=1, engine=engine, seed=0)
    assert not bool(torch.as_tensor(filled).isnan().any())
    assert not bool(torch.as_tensor(filled)[:, 5:].any())


def test_what_cannot_be_declared_or_learnt() -> None:
    with pytest.raises(ModelError, match="at least two"):
        pgnn.SigmoidBeliefNetwork([3])
    with pytest.raises(ModelError, match="two states"):
        pgnn.DeepBeliefNetwork([pgnn.Variable("x", 3, (2,)), 2])
    with pytest.raises(ModelError, match="list of layers"):
        pgnn.DeepBoltzmannMachine(4, 3)  # type: ignore[arg-type]
    model = pgnn.SigmoidBeliefNetwork([4, 2])
    with pytest.raises(DataError, match="range from 0 to 2"):
        model.fit(torch.full((3, 4), 2) * ROWS[:3], progress=False)
    with pytest.raises(DataError, match=r"shape \(N, 4\)"):
        model.fit(torch.zeros(3, 5), progress=False)
    with pytest.raises(ModelError, match="has no stages"):
        model.fit(ROWS, learner=pgnn.GreedyLayerwise(), progress=False)
    with pytest.raises(ModelError, match="recognition network, such as a"):
        pgnn.RestrictedBoltzmannMachine(4, 2).fit(ROWS, learner=pgnn.WakeSleep())


def test_dreams_do_not_depend_on_what_learning_left() -> None:
    """Chains belong to the fit: draws afterwards begin anew, by their own seed."""
    model = numbered(pgnn.DeepBeliefNetwork([30, 20, 10]))
    model.fit(
        torch.ones(70, 30), learner=pgnn.WakeSleep(epochs=1, batch_size=20), seed=0, progress=False
    )
    first, again, other = (model.sample(20, seed=s)["hidden2"] for s in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert model.sample(0)["visible"].shape == (0, 30)
    with pytest.raises(Intractable, match="Draw fewer"):
        model.sample(10**10)


def test_chains_of_the_top_go_on_through_batches_of_all_sizes() -> None:
    model, chains = numbered(pgnn.DeepBeliefNetwork([4, 3, 2])), {}
    rng = torch.Generator().manual_seed(0)
    for rows in (5, 2, 7):
        states = model.recognise(torch.zeros(rows, 4, dtype=torch.double), rng)
        model.log_normaliser(states, rng, chains)
        assert [len(x) for x in chains.values()] == [5, 5]
    assert [len(x) for x in model.dream(3, rng, chains)] == [3, 3, 3]


def test_grey_values_are_learnt_where_they_are_said_to_be_probabilities() -> None:
    grey = 0.1 + 0.8 * ROWS.double()
    with pytest.raises(DataError, match="probabilities=True"):
        pgnn.DeepBeliefNetwork([4, 3, 2]).fit(grey, progress=False)
    machines = pgnn.ContrastiveDivergence(
        epochs=40, probabilities=True, validation=0.2, patience=2, batch_size=10,
        optimizer=lambda p: torch.optim.SGD(p, lr=0.3),
    )  # fmt: skip
    model = pgnn.DeepBeliefNetwork([4, 3, 2])
    model.fit(grey, learner=pgnn.GreedyLayerwise(machines), seed=0, progress=False)
    trace = model.history["trace"]["reconstruction_error"]
    assert model.history["iterations"] == len(trace) < 80
    with pytest.raises(ModelError, match="checkpoints need a single fit"):
        pgnn.GreedyLayerwise(pgnn.ContrastiveDivergence(checkpoints=pgnn.Checkpoints("x")))


def test_classifiers_and_steps_that_cannot_be() -> None:
    model = pgnn.SigmoidBeliefNetwork([4, 2])
    for classes, says in ((0, "at least 1"), (1.5, "whole number")):
        with pytest.raises(ModelError, match=says):
            model.to_classifier(classes)  # type: ignore[arg-type]
    learner = pgnn.WakeSleep(epochs=5, optimizer=lambda p: torch.optim.SGD(p, lr=1e8))
    with pytest.raises(PgnnError, match="diverged"):
        model.fit(ROWS, learner=learner, seed=0, progress=False)
    assert not any(bool(p.any()) for p in model.parameters())
    spins = pgnn.SigmoidBeliefNetwork([pgnn.Variable("visible", (-1, 1), (4,)), 2])
    spins.fit(2 * ROWS - 1, learner=pgnn.WakeSleep(epochs=1), progress=False)


@pytest.mark.parametrize("kind", [pgnn.SigmoidBeliefNetwork, pgnn.DeepBeliefNetwork])
def test_gradients_go_through_engines(kind: type) -> None:
    """Those of exact answers by the numbers of the model are differences of enumerations."""
    model = numbered(kind([4, 3, 2]))
    rows = torch.from_numpy(all_states(4)[[3, 9]])
    parameters = [*model.weights, *model.biases]
    gradients = torch.autograd.grad(model.log_prob(rows).sum(), parameters)

    def value() -> float:
        _, score = joint(model)
        by_visible = np.logaddexp.reduce(score.reshape(16, 32), axis=1)
        return float(by_visible[[3, 9]].sum() - 2 * np.logaddexp.reduce(score))

    for p, gradient in zip(parameters, gradients, strict=True):
        for place in np.ndindex(*p.shape):
            sides = []
            for step in (1e-5, -1e-5):
                with torch.no_grad():
                    p[place] += step
                    sides.append(value())
                    p[place] -= step
            want = (sides[0] - sides[1]) / 2e-5
            assert float(gradient[place]) == pytest.approx(want, abs=1e-6)


def test_maximum_likelihood_of_a_small_network() -> None:
    """Exact gradients reach what wake-sleep reaches, and more."""
    model = numbered(pgnn.SigmoidBeliefNetwork([4, 2]))
    learner = pgnn.Gradient(optimizer=lambda p: torch.optim.Adam(p, lr=0.1), max_iterations=100)
    model.fit({"visible": ROWS}, learner=learner, progress=False)
    assert float(model.log_prob(ROWS).detach().mean()) > -1.3  # the best: -1.1


@pytest.mark.parametrize("settings", [{}, {"score_function": True}], ids=["dreams", "bound"])
def test_wake_and_sleep_go_on_where_they_ended(settings: dict, tmp_path: Any) -> None:
    class Ended(Exception):
        pass

    class Ending(Keeper):
        def write(self, state: Any) -> None:
            super().write(state)
            if state["passes"] == 3:
                raise Ended

    def fitted(**rest: Any) -> Any:
        learner = pgnn.WakeSleep(
            epochs=6, batch_size=20, **settings, **rest,
            scheduler=lambda o: torch.optim.lr_scheduler.ExponentialLR(o, 0.5),
        )  # fmt: skip
        model = pgnn.DeepBeliefNetwork([4, 3, 2])
        return model.fit(ROWS, learner=learner, seed=0, progress=False)

    kept = pgnn.Checkpoints(tmp_path / "nights", every=0.0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pgnn.inference.learning.checkpoints.Keeper", Ending)
        with pytest.raises(Ended):
            fitted(checkpoints=kept)
    resumed, whole = fitted(checkpoints=kept), fitted()
    for name, x in whole.state_dict().items():
        assert torch.equal(x, resumed.state_dict()[name])
    assert resumed.history["trace"] == whole.history["trace"]
    assert len(whole.history["trace"]["bound"]) == 6


@pytest.mark.parametrize("layers", [[1200, 1100], [4, 1100, 1100]])
@pytest.mark.parametrize("kind", [pgnn.SigmoidBeliefNetwork, pgnn.DeepBeliefNetwork])
def test_sizes_beyond_any_power_have_an_engine(kind: type, layers: list[int]) -> None:
    assert "Gibbs" in type(kind(layers).default_engine()).__name__


def test_units_have_no_supervision() -> None:
    model = pgnn.SigmoidBeliefNetwork([4, 2])
    with pytest.raises(pgnn.Unsupported, match="hidden units of a SigmoidBeliefNetwork"):
        model.fit(torch.ones(3, 4), learner=pgnn.LowerBound(supervision=5.0))
