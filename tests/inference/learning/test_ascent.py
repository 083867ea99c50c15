"""What all climbing learners share: penalties, optimisers, batches, stopping, history, failures."""

import itertools
import math
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import pgnn
from pgnn import Ising, MarkovRandomField, ModelError, TabularPotential, Variable
from pgnn.errors import DataError, NotConverged, PgnnError
from pgnn.factors.potentials.neural_potential import NeuralPotential
from pgnn.inference.learning.ascent import Ascent
from pgnn.inference.learning.gradient import Gradient
from pgnn.inference.learning.pseudo_likelihood import PseudoLikelihood
from pgnn.inference.sampling.gibbs import Gibbs

A, B = Variable("a", 2), Variable("b", 3)


def adam(rate: float = 0.05) -> Callable[[Any], torch.optim.Optimizer]:
    return lambda p: torch.optim.Adam(p, lr=rate)


def sgd(rate: float) -> Callable[[Any], torch.optim.Optimizer]:
    return lambda p: torch.optim.SGD(p, lr=rate)


def triangle() -> MarkovRandomField:
    """Three spins with fields and couplings."""
    edges = np.array([[0, 1], [1, 2], [0, 2]])
    return MarkovRandomField([Ising(Variable("x", 2, shape=(3,)), None, None, edges)])


def spins(number: int = 60, seed: int = 0) -> Tensor:
    """Rows of three states, all of them observed, the first two alike more often than not."""
    rng = np.random.default_rng(seed)
    rows = rng.integers(0, 2, size=(number, 3))
    rows[: number // 3, 1] = rows[: number // 3, 0]
    rows[:8] = list(itertools.product(range(2), repeat=3))
    return torch.from_numpy(rows)


def coin() -> MarkovRandomField:
    """One spin with a field: log p(x) = h s - log 2 cosh h."""
    return MarkovRandomField([Ising(Variable("x", 2, shape=(1,)), 0.0, None)])


HEADS = {"x": torch.tensor([[1]] * 7 + [[0]] * 3)}  # the mean spin is 0.4


def flat(model: nn.Module) -> np.ndarray:
    return torch.cat([p.detach().reshape(-1) for p in model.parameters()]).numpy()


def state(model: nn.Module) -> dict[str, Tensor]:
    return {n: t.clone() for n, t in model.state_dict().items()}


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return all(torch.equal(one[n], other[n]) for n in one)


def fitted(learner: Ascent, seed: int | None = 0) -> np.ndarray:
    model = triangle()
    model.fit({"x": spins()}, learner=learner, seed=seed, progress=False)
    return flat(model)


# --- optimisers -----------------------------------------------------------------------------------


@pytest.mark.parametrize("learner", [Gradient, PseudoLikelihood])
@pytest.mark.parametrize("penalty", [{}, {"l2": 0.1}, {"l1": 0.15}, {"l1": 0.12, "l2": 0.05}])
def test_optimisers_and_lbfgs_find_the_same_maximum(learner, penalty):
    exact = fitted(learner(tolerance=1e-9, **penalty))
    climbed = fitted(learner(optimizer=sgd(0.2), max_iterations=4000, tolerance=1e-8, **penalty))
    # the curvature is that of the covariance of the statistics, which is far from singular here
    np.testing.assert_allclose(climbed, exact, atol=1e-6)
    np.testing.assert_array_equal(climbed == 0, exact == 0)
    assert (exact == 0).any() == ("l1" in penalty)


def test_steps_go_up_the_penalised_mean():
    model = coin()
    with torch.no_grad():
        model.potentials[0].field.fill_(0.7)
    learner = Gradient(optimizer=sgd(0.5), l1=0.1, l2=0.2, max_iterations=1)
    model.fit(HEADS, learner=learner, progress=False)
    slope = 0.4 - math.tanh(0.7) - 0.1 - 0.2 * 0.7
    assert model.potentials[0].field.item() == pytest.approx(0.7 + 0.5 * slope, abs=1e-12)
    trace = model.history["trace"]
    mean = 0.4 * 0.7 - math.log(2 * math.cosh(0.7))
    assert trace["gradient_norm"] == [pytest.approx(-slope, abs=1e-12)]
    assert trace["mean_log_likelihood"] == [pytest.approx(mean, abs=1e-12)]
    assert trace["objective"] == [pytest.approx(mean - 0.1 * 0.7 - 0.1 * 0.7**2, abs=1e-12)]


def test_parameters_do_not_step_through_zero_under_l1():
    model = coin()
    with torch.no_grad():
        model.potentials[0].field.fill_(-0.1)
    learner = Gradient(optimizer=sgd(1.0), l1=0.1, max_iterations=1)
    model.fit(HEADS, learner=learner, progress=False)
    assert model.potentials[0].field.item() == 0.0
    model.fit(HEADS, learner=learner, progress=False)  # and leave it where the slope is steeper
    assert model.potentials[0].field.item() == pytest.approx(0.3, abs=1e-12)
    with torch.no_grad():
        model.potentials[0].field.fill_(-0.1)
    # nor does momentum carry them away from where they should stay
    heavy = lambda p: torch.optim.SGD(p, lr=1.0, momentum=0.9)  # noqa: E731
    learner = Gradient(optimizer=heavy, l1=0.5, max_iterations=2)
    model.fit(HEADS, learner=learner, progress=False)
    assert model.potentials[0].field.item() == 0.0


def test_long_gradients_are_shortened():
    model = triangle()
    learner = Gradient(optimizer=sgd(1.0), max_norm=1e-3, max_iterations=1)
    model.fit({"x": spins()}, learner=learner, progress=False)
    # torch divides by the norm plus 1e-6
    assert np.linalg.norm(flat(model)) == pytest.approx(1e-3, rel=1e-4)
    # what is recorded is the derivative itself
    assert model.history["trace"]["gradient_norm"][0] > 0.01


def test_schedulers_are_stepped_after_each_pass():
    moved = []
    for scheduler in (None, lambda o: torch.optim.lr_scheduler.ExponentialLR(o, 0.0)):
        model = coin()
        learner = Gradient(optimizer=sgd(0.1), scheduler=scheduler, max_iterations=2)
        model.fit(HEADS, learner=learner, progress=False)
        moved.append(model.potentials[0].field.item())
    assert moved[1] == pytest.approx(0.04, abs=1e-12)  # the second step has length zero
    assert moved[0] == pytest.approx(0.04 + 0.1 * (0.4 - math.tanh(0.04)), abs=1e-12)


def test_rates_fall_on_plateaus():
    rates = []

    class Listening(torch.optim.SGD):
        def step(self, closure=None):
            rates.append(self.param_groups[0]["lr"])
            return super().step(closure)

    learner = Gradient(
        # from 0.4 on, steps of length 2.5 overshoot: the value falls
        optimizer=lambda p: Listening(p, lr=2.5),
        scheduler=lambda o: torch.optim.lr_scheduler.ReduceLROnPlateau(o, factor=0.1, patience=0),
        max_iterations=6,
    )
    coin().fit(HEADS, learner=learner, progress=False)
    assert rates[0] == 2.5
    assert rates[-1] < 0.3


def test_small_batches_cover_all_rows_once_a_pass():
    observed: list[Tensor] = []

    class Spying(PseudoLikelihood):
        def objective(self, model, rows, seed):
            made = super().objective(model, rows, seed)

            class Noting:
                figure = made.figure

                def __call__(self, rows):
                    observed.append(rows.weights)
                    return made(rows)

            return Noting()

    weights = np.arange(1.0, 24.0)
    learner = Spying(optimizer=sgd(0.0), batch_size=10, max_iterations=3)
    model = triangle()
    model.fit({"x": spins(23)}, learner=learner, weights=weights, seed=1, progress=False)
    passes = [np.concatenate(observed[k : k + 3]) for k in (0, 3, 6)]
    assert [len(w) for w in observed[:3]] == [10, 10, 3]
    for got in passes:
        np.testing.assert_array_equal(np.sort(got), weights)
    assert not np.array_equal(passes[0], passes[1])
    # weighted means of the batches, weighted by what these count, are the mean of all
    want = -3 * math.log(2)
    np.testing.assert_allclose(
        model.history["trace"]["mean_pseudo_log_likelihood"], [want] * 3, rtol=1e-12
    )


@pytest.mark.parametrize("learner", [Gradient, PseudoLikelihood])
def test_small_batches_learn(learner):
    exact = fitted(learner(l2=0.1))
    found = fitted(
        learner(
            l2=0.1,
            optimizer=sgd(0.3),
            batch_size=20,
            max_iterations=100,
            scheduler=lambda o: torch.optim.lr_scheduler.ExponentialLR(o, 0.93),
        )
    )
    # rates fall to 1e-3 of the first, so that little but the mean of the steps is left
    np.testing.assert_allclose(found, exact, atol=0.02)


def test_same_seed_same_parameters():
    learner = Gradient(optimizer=adam(), batch_size=7, max_iterations=3)
    assert np.array_equal(fitted(learner, seed=1), fitted(learner, seed=1))
    assert not np.array_equal(fitted(learner, seed=1), fitted(learner, seed=2))


def test_dropout_is_on_while_learning_and_draws_by_the_seed():
    def made() -> tuple[MarkovRandomField, nn.Dropout]:
        torch.manual_seed(0)
        dropout = nn.Dropout(0.5)
        layers = nn.Sequential(nn.Linear(2, 6), dropout, nn.Unflatten(1, (2, 3))).double()
        return MarkovRandomField([NeuralPotential([A, B], layers, "u")]).eval(), dropout

    data = {"a": torch.tensor([0, 1, 0, 1]), "b": torch.tensor([0, 1, 2, 2])}
    inputs = {"u": torch.randn(4, 2, generator=torch.Generator().manual_seed(1)).double()}
    learner = Gradient(optimizer=adam(), max_iterations=3)
    found = []
    for seed in (1, 1, 2):
        model, dropout = made()
        before = torch.random.get_rng_state()
        model.fit(data, inputs=inputs, learner=learner, seed=seed, progress=False)
        assert torch.equal(torch.random.get_rng_state(), before)
        assert not dropout.training
        assert not model.training
        found.append(flat(model))
        # the sum at the end is without dropout
        total = model.log_prob(data, inputs=inputs).sum().item()
        assert model.history["log_likelihood"] == pytest.approx(total, rel=1e-9)
        assert model.history["trace"]["mean_log_likelihood"][-1] != pytest.approx(total / 4)
    assert np.array_equal(found[0], found[1])
    assert not np.array_equal(found[0], found[2])
    # L-BFGS needs the same value each time: without dropout, also of models in training mode
    model, dropout = made()
    model.train()
    model.fit(data, inputs=inputs, learner=Gradient(l2=0.1), progress=False)
    assert model.history["converged"]
    assert not dropout.training  # a fitted model answers without it


# --- stopping -------------------------------------------------------------------------------------


def test_what_was_set_apart_decides():
    """Few rows and many parameters: the likelihood of other rows soon falls again."""
    truth = MarkovRandomField.grid((3, 3), coupling=0.4)
    data = truth.sample(24, seed=0)["x"]
    edges = len(truth.potentials[0].edges)

    def fit(patience: int) -> MarkovRandomField:
        model = MarkovRandomField.grid((3, 3), coupling=np.zeros(edges)).requires_grad_()
        learner = Gradient(optimizer=adam(), validation=0.5, patience=patience, max_iterations=60)
        model.fit({"x": data}, learner=learner, seed=4, progress=False)
        return model

    long, short = fit(0), fit(3)
    course = long.history["trace"]["validation"]
    best = int(np.argmax(course))
    assert 0 < best < 50
    assert not long.history["stopped_early"]
    assert long.history["iterations"] == 60 == len(course)
    assert short.history["stopped_early"]
    assert short.history["iterations"] == best + 4
    np.testing.assert_array_equal(short.history["trace"]["validation"], course[: best + 4])
    # both end at the best parameters; these were not learnt from the rows set apart
    np.testing.assert_array_equal(flat(long), flat(short))
    assert long.history["rows"] == 12
    order = np.random.default_rng(4).permutation(24)
    held, kept = data[np.sort(order[:12])], data[np.sort(order[12:])]
    assert long.log_prob({"x": held}).mean().item() == pytest.approx(course[best], abs=1e-12)
    total = long.log_prob({"x": kept}).sum().item()
    assert long.history["log_likelihood"] == pytest.approx(total, rel=1e-12)


def test_lbfgs_stops_early_too():
    truth = MarkovRandomField.grid((3, 3), coupling=0.4)
    data = truth.sample(24, seed=0)["x"]
    model = MarkovRandomField.grid((3, 3), coupling=np.zeros(12)).requires_grad_()
    learner = PseudoLikelihood(validation=0.5, patience=2, l2=1e-4)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # stopping early is no failure
        model.fit({"x": data}, learner=learner, seed=4, progress=False)
    course = model.history["trace"]["validation"]
    assert model.history["stopped_early"]
    assert len(course) == int(np.argmax(course)) + 3 == model.history["iterations"] + 1


def test_too_few_rows_to_set_some_apart():
    for share, number in [(0.01, 10), (0.99, 3)]:
        with pytest.raises(DataError, match="validation"):
            triangle().fit(
                {"x": spins(60)[:number]}, learner=Gradient(validation=share), progress=False
            )


def test_the_limit_is_never_called_converged():
    model = triangle()
    with pytest.warns(NotConverged, match="after 2 iterations"):
        model.fit({"x": spins()}, learner=Gradient(max_iterations=2), progress=False)
    assert not model.history["converged"]
    assert model.history["iterations"] == 2
    assert len(model.history["trace"]["objective"]) == 3  # the start and two iterations
    learner = Gradient(optimizer=sgd(0.1), max_iterations=3, tolerance=1e-9)
    with pytest.warns(NotConverged, match="after 3 iterations"):
        model.fit({"x": spins()}, learner=learner, progress=False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # all passes were asked for
        learner = Gradient(optimizer=sgd(0.1), max_iterations=3)
        model.fit({"x": spins()}, learner=learner, progress=False)
    assert not model.history["converged"]
    assert model.history["iterations"] == 3


def test_infinite_optima_say_so():
    """A state that was never observed has a best number of minus infinity."""
    model = MarkovRandomField([TabularPotential([A])])
    learner = Gradient(tolerance=1e-12, max_iterations=5)
    with pytest.warns(NotConverged, match="l2"):
        model.fit({"a": [0, 0, 0]}, learner=learner, progress=False)


# --- history --------------------------------------------------------------------------------------


def test_history_reads_like_that_of_counting():
    cards = {"a": 2, "b": 3}
    data = {"a": [0, 1, 1, 0, 1, 0], "b": [0, 1, 2, 1, 0, 2]}
    weights = [1.0, 2.0, 0.5, 1.0, 1.0, 3.0]
    counted = pgnn.BayesianNetwork([("a", "b")], states=cards)
    counted.fit(data, weights=weights)
    climbed = MarkovRandomField([("a", "b")], states=cards)
    climbed.fit(data, weights=weights, progress=False)  # what there is no learner for, climbs
    for model in (counted, climbed):
        assert model.history["rows"] == 6
        assert model.history["weight"] == 8.5
        assert model.history["seconds"] > 0
    assert climbed.history["learner"].startswith("Gradient(")
    assert climbed.history["log_likelihood"] == pytest.approx(
        counted.history["log_likelihood"], abs=1e-8
    )
    trace = climbed.history["trace"]
    assert set(trace) == {"objective", "mean_log_likelihood", "gradient_norm", "seconds"}
    assert {len(figures) for figures in trace.values()} == {climbed.history["iterations"] + 1}
    assert trace["gradient_norm"][-1] <= 1e-6 < trace["gradient_norm"][0]
    assert trace["mean_log_likelihood"][0] == pytest.approx(-math.log(6), abs=1e-12)


def test_no_progress_no_output(capfd):
    triangle().fit({"x": spins()}, learner=Gradient(), progress=False)
    assert capfd.readouterr() == ("", "")


# --- failures -------------------------------------------------------------------------------------


class Failing(pgnn.JunctionTree):
    """Raises at the given call."""

    def __init__(self, call: int, error: BaseException) -> None:
        super().__init__()
        object.__setattr__(self, "left", [call])
        object.__setattr__(self, "error", error)

    def log_prob(self, *args, **more):
        self.left[0] -= 1
        if not self.left[0]:
            raise self.error
        return super().log_prob(*args, **more)


@pytest.mark.parametrize("error", [KeyboardInterrupt(), RuntimeError("no memory")])
@pytest.mark.parametrize("optimizer", [None, adam()])
def test_interrupted_fits_leave_the_model_as_it_was(error, optimizer):
    model = triangle()
    with torch.no_grad():
        model.potentials[0].field.fill_(0.3)
    model.history = {"rows": 1}
    before = state(model)
    learner = Gradient(Failing(5, error), optimizer=optimizer, max_iterations=10)
    with pytest.raises(type(error)):
        model.fit({"x": spins()}, learner=learner, progress=False)
    assert learner.engine.left == [0]
    assert same(state(model), before)
    assert model.history == {"rows": 1}
    assert all(p.grad is None and p.requires_grad for p in model.parameters())
    # and the next fit works
    model.fit({"x": spins()}, learner=Gradient(), progress=False)
    assert model.history["converged"]


def test_running_means_are_put_back_too():
    class Bad(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm = nn.BatchNorm1d(2, dtype=torch.float64)
            self.linear = nn.Linear(2, 6, dtype=torch.float64)
            self.calls = 0

        def forward(self, u: Tensor) -> Tensor:
            found = self.linear(self.norm(u))
            self.calls += 1
            if self.calls > 4:
                found = found * math.nan
            return found.unflatten(1, (2, 3))

    model = MarkovRandomField([NeuralPotential([A, B], Bad(), "u")])
    inputs = {"u": torch.randn(4, 2, generator=torch.Generator().manual_seed(1)).double() + 3}
    data = {"a": torch.tensor([0, 1, 0, 1]), "b": torch.tensor([0, 1, 2, 2])}
    before = state(model)
    learner = Gradient(optimizer=adam(), max_iterations=9)
    with pytest.raises(PgnnError):
        model.fit(data, inputs=inputs, learner=learner, progress=False)
    assert model.potentials[0].network.calls > 4
    assert same(state(model), before)


def test_divergence_is_told():
    table = TabularPotential([A, B])
    model = MarkovRandomField([table])
    before = state(model)
    learner = Gradient(optimizer=sgd(1e3), l2=1.0, max_iterations=200)
    with pytest.raises(PgnnError, match=r"diverged.*learning rate"):
        model.fit({"a": [0, 1], "b": [0, 2]}, learner=learner, progress=False)
    assert same(state(model), before)


def test_impossible_rows_are_told_of_by_optimisers():
    model = MarkovRandomField([TabularPotential([A, B], [[0.0, 1, 1], [1, 1, 1]])])
    model.requires_grad_()
    for learner in (Gradient, PseudoLikelihood):
        for optimizer in (None, adam()):
            with pytest.raises(DataError, match="impossible"):
                model.fit(
                    {"a": [0, 1], "b": [0, 2]}, learner=learner(optimizer=optimizer), progress=False
                )


def test_draws_cannot_judge_rows_set_apart():
    learner = Gradient(
        Gibbs(chains=2, progress=False), optimizer=adam(), validation=0.5, max_iterations=2
    )
    with pytest.raises(ModelError, match="validation"):
        triangle().fit({"x": spins()}, learner=learner, progress=False)


def test_the_optimizer_must_make_one():
    with pytest.raises(ModelError, match="torch's optimisers"):
        triangle().fit({"x": spins()}, learner=Gradient(optimizer=lambda p: "adam"), progress=False)


@pytest.mark.parametrize(
    "setting",
    [
        {"max_iterations": 0},
        {"batch_size": 0, "optimizer": adam()},
        {"batch_size": 10},
        {"scheduler": lambda o: o},
        {"max_norm": 1.0},
        {"max_norm": 0.0, "optimizer": adam()},
        {"validation": 1.0},
        {"validation": -0.1},
        {"patience": 3},
        {"patience": -1, "validation": 0.1},
        {"tolerance": -1.0},
        {"tolerance": math.nan},
    ],
)
@pytest.mark.parametrize("learner", [Gradient, PseudoLikelihood])
def test_settings_out_of_range(learner, setting):
    with pytest.raises(ModelError, match=next(iter(setting))):
        learner(**setting)


@pytest.mark.parametrize("setting", [{"l1": -1.0}, {"l2": math.inf}, {"l2": {"nothing": 1.0}}])
def test_strengths_out_of_range(setting):
    model = triangle()
    with pytest.raises(ModelError, match=next(iter(setting))):
        model.fit({"x": spins()}, learner=Gradient(**setting), progress=False)


def test_more_settings_of_gradient():
    with pytest.raises(ModelError, match="num_samples"):
        Gradient(num_samples=0)
    with pytest.raises(ModelError, match="engine"):
        Gradient("exact")  # type: ignore[arg-type]
