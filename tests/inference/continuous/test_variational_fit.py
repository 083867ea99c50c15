"""Steps of variational inference: when they end, what they cost in memory, what batches say."""

from __future__ import annotations

import gc
import math
import tracemalloc
from itertools import combinations
from types import SimpleNamespace

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import Tensor
from torch.distributions import constraints

import pgnn
from pgnn import BayesianNetwork, Gaussian, LinearGaussian, Program, Variable
from pgnn.errors import NotConverged, PgnnError
from pgnn.inference.continuous.curvature_step import CurvatureStep
from pgnn.inference.continuous.densities import SummedDensity
from pgnn.inference.continuous.guides import Guide, MeanFieldNormal
from pgnn.inference.continuous.model_and_guide import ModelAndGuide, make_generator
from pgnn.inference.continuous.objective import Elbo
from pgnn.inference.continuous.variational_fit import WINDOW, StochasticAscent
from pgnn.inference.learning.minibatches import Steps
from pgnn.inference.model_reader import reader_of

X, Y = Variable("x"), Variable("y")


def line() -> BayesianNetwork:
    """x ~ N(1, 2), y | x ~ N(0.5 x, 0.5): log p(y = 2) = log N(2; 0.5, 1)."""
    return BayesianNetwork(
        [("x", "y")],
        {
            "x": Gaussian(X, mean=1.0, covariance=2.0),
            "y": LinearGaussian(Y, [X], [0.5], 0.0, covariance=0.5),
        },
    )


TRUTH = -0.5 * 1.5**2 - 0.5 * math.log(2 * math.pi)


def model_and_guide(model, evidence, guide: Guide | None = None, **rest) -> ModelAndGuide:
    density = SummedDensity(model, reader_of(model).read(evidence))
    return ModelAndGuide.of(density, guide, rest.pop("shared", ()), **rest)


def ascent(problem: ModelAndGuide, **settings) -> StochasticAscent:
    moved = [*problem.parts.parameters(), *problem.density.model.parameters()]
    optimizer = torch.optim.Adam(moved, lr=0.01)
    steps = Steps(optimizer, None, settings.get("batch_size"), None)
    return StochasticAscent(
        problem, settings.get("objective", Elbo()), moved, steps, make_generator(0), 0.0
    )


# --- when it ends ---------------------------------------------------------------------------------


@pytest.mark.parametrize("objective", [Elbo(10, path_only=True), Elbo(10)])
def test_it_stops_by_itself_at_the_right_bound(objective):
    """With the settings of the library, but for the steps' length."""
    engine = pgnn.Variational(
        objective=objective,
        optimizer=lambda p: torch.optim.Adam(p, lr=0.05),
        seed=0,
        num_samples=4000,
        progress=False,
    )
    found = line().query("x", {"y": 2.0}, engine=engine)
    assert found.history["converged"]
    assert 200 < found.diagnostics["iterations"] < 2000
    # the noise of 4000 draws, and what may be left below the standard error of a window's mean:
    # the standard deviation of a step's value, at most 1 / sqrt(10) here, over sqrt(100)
    error = 4 * float(found.diagnostics["standard_error"])
    assert abs(float(found.log_evidence) - TRUTH) < error + 0.04


def test_the_limit_is_not_called_converged():
    engine = pgnn.Variational(seed=0, max_iterations=150, progress=False)
    with pytest.warns(NotConverged, match="150 iterations"):
        found = line().query("x", {"y": 2.0}, engine=engine)
    assert not found.history["converged"]
    engine = pgnn.Variational(seed=0, max_iterations=150, tolerance=0.0, progress=False)
    assert not line().query("x", {"y": 2.0}, engine=engine).history["converged"]


def settled(values) -> int | None:
    """The step at which such values would end it."""
    method = ascent(model_and_guide(line(), {"y": 2.0}, MeanFieldNormal()))
    method.tolerance = 1e-4
    for number, value in enumerate(values, 1):
        method._values.append(value)
        if method._has_settled():
            return number
    return None


def test_what_still_rises_goes_on():
    noise = torch.randn(3000, generator=torch.Generator().manual_seed(0)).tolist()
    assert settled([0.01 * k + noise[k] for k in range(3000)]) is None
    assert settled([1e-3 * k for k in range(3000)]) is None
    assert settled([-0.01 * k for k in range(3000)]) is None  # what falls does not converge
    ended = settled([min(0.01 * k, 5.0) + noise[k] for k in range(3000)])
    assert ended is not None
    assert ended > 700  # the quarter before the last is past the bend at 500 or nearly so
    assert settled([5.0] * 3000) == 300  # asked at 200 and again


# --- memory ---------------------------------------------------------------------------------------


def smooth():
    x = pyro.sample("x", dist.Normal(torch.tensor(0.0).double(), 1.0))
    pyro.sample("obs", dist.Normal(x, 0.5), obs=torch.tensor(1.0).double())


def smooth_guide():
    loc = pyro.param("loc", torch.tensor(0.2).double())
    pyro.sample("x", dist.Normal(loc, 0.7))


@pytest.mark.parametrize("case", ["graph", "batches", "program"])
def test_no_memory_grows_over_steps(case):
    if case == "program":
        problem = model_and_guide(Program(smooth, smooth_guide), None)
    else:
        problem = model_and_guide(
            line(), {"y": torch.linspace(-1, 1, 6).double()}, MeanFieldNormal()
        )
    method = ascent(problem, batch_size=2 if case == "batches" else None, objective=Elbo(2))
    state = method.init()

    def run(steps: int) -> int:
        nonlocal state
        for _ in range(steps):
            state, _ = method.step(state)
        gc.collect()
        return sum(issubclass(type(x), Tensor) for x in gc.get_objects())

    run(30)
    tracemalloc.start()
    try:
        before, start = run(10), tracemalloc.get_traced_memory()[0]
        after, end = run(200), tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert after == before
    # a float and a pointer a step, and what Python remembers of the methods that it has looked up;
    # a tensor of one number takes more than 500 bytes
    assert end - start < 200 * 500
    assert not [*pyro.get_param_store().keys()]


# --- batches --------------------------------------------------------------------------------------


@pytest.mark.parametrize("shared", [(), ("x",)])
@pytest.mark.parametrize("weights", [None, [1.0, 2.0, 0.5, 1.0, 3.0]])
def test_the_mean_over_all_batches_is_the_whole(shared, weights):
    """Value and gradient, for draws that are the same for a row in whatever batch."""
    y = torch.linspace(-1, 2, 5).double()
    counts = None if weights is None else torch.tensor(weights).double()
    guide = pgnn.Delta()
    problem = model_and_guide(line(), {"y": y}, guide, shared=shared, weights=counts)
    with torch.no_grad():
        for p in problem.parts.parameters():
            p += 0.1 * torch.arange(p.numel()).reshape(p.shape)
    parameters = [*problem.parts.parameters()]

    def found(rows) -> list[Tensor]:
        drawn = problem.weighted(Elbo(), make_generator(0), rows)
        total = problem.total(drawn, Elbo())
        return [total.detach(), *torch.autograd.grad(total, parameters)]

    whole = found(None)
    batches = [found(torch.tensor(rows)) for rows in combinations(range(5), 2)]
    for k, one in enumerate(whole):
        torch.testing.assert_close(torch.stack([b[k] for b in batches]).mean(0), one)


def test_batches_come_by_all_rows():
    problem = model_and_guide(line(), {"y": torch.linspace(-1, 1, 7).double()}, MeanFieldNormal())
    method = ascent(problem, batch_size=3)
    left, observed = None, torch.zeros(7)
    for k in range(3000):
        rows, left = method._rows(left)
        assert len(set(rows.tolist())) == 3
        observed[rows] += 1
        assert observed.sum() == 3 * (k + 1)
    # of 1500 passes each row is in with probability 6 / 7
    error = math.sqrt(1500 * 6 / 49)
    assert float((observed - 1500 * 6 / 7).abs().max()) < 4.5 * error


# --- divergence -----------------------------------------------------------------------------------


def test_divergence_half_way_names_the_site_and_leaves_the_program_as_it_was():
    def guide():
        loc = pyro.param("loc", torch.tensor(0.2).double())
        pyro.sample("x", dist.Normal(loc, 0.7))

    def model():
        x = pyro.sample("x", dist.Normal(torch.tensor(0.0).double(), 1.0))
        pyro.sample("far", dist.Normal(x.exp(), 0.5), obs=torch.tensor(1.0).double())

    program = Program(model, guide)
    before = {n: p.clone() for n, p in program.state_dict().items()}
    learner = pgnn.Variational(
        optimizer=lambda p: torch.optim.SGD(p, lr=1e6), seed=0, progress=False
    )
    with pytest.raises(PgnnError, match=r"diverged in step \d+.*'(far|x)'"):
        program.fit(learner=learner)
    assert all(torch.equal(before[n], p) for n, p in program.state_dict().items())


@pytest.mark.parametrize(("spread", "settles"), [(0.2, True), (100.0, False)])
def test_noise_is_no_rest(spread, settles):
    """Values so wild that a rise would not show do not count as settled."""
    rng = np.random.default_rng(0)
    ascent = object.__new__(StochasticAscent)
    ascent.tolerance, ascent._was_flat, ascent._values = 1e-4, False, []
    ascent.problem = SimpleNamespace(weights=torch.ones(1))
    found = []
    for _ in range(6):
        ascent._values += rng.normal(-50.0, spread, size=WINDOW).tolist()
        found.append(ascent._has_settled())
    assert any(found) == settles


# --- scales of what was observed
# ----------------------------------------------------------------------


def test_far_observations_are_not_called_converged():
    """Steps of 0.01 do not come to a mean of 50,000: neither the value nor the draws say so."""
    engine = pgnn.Variational(seed=0, max_iterations=150, progress=False)
    with pytest.warns(NotConverged) as told:
        found = line().query("x", {"y": 1e5}, engine=engine)
    text = " ".join(str(w.message) for w in told)
    assert "objective still changing" in text
    assert "equivalent to 1 independent" in text
    assert not found.diagnostics["converged"]


@pytest.mark.parametrize("y", [100.0, 1e5, -1e7])
@pytest.mark.parametrize("guide", [pgnn.MeanFieldNormal(), pgnn.FullRankNormal()])
def test_far_observations_are_arrived_at(y, guide):
    """Steps of 0.01 are too short; those that know the curvature are not."""
    found = line().query("x", {"y": y}, engine=pgnn.Variational(guide, seed=0, progress=False))
    assert found.diagnostics["converged"]
    assert float(found["x"].mean) == pytest.approx(0.5 + y, rel=1e-5, abs=0.3)
    assert float(found["x"].std) == pytest.approx(1.0, abs=0.15)


def test_steps_that_know_the_curvature_are_taken_back_where_they_are_no_gain():
    """Of a value that falls behind, and of one that is not finite."""
    x = torch.tensor([1.0, 2.0], dtype=torch.float64, requires_grad=True)
    curvature_step = CurvatureStep([x])
    for k in range(5):
        with torch.no_grad():
            x += (-1.0) ** k * 0.1
        curvature_step.record_step()
    assert not curvature_step.is_drifting
    assert not curvature_step.take(
        lambda: -(x - 50.0).square().sum(), lambda: float(-x.detach().abs().sum())
    )
    assert not curvature_step.take(lambda: x.sum() / 0.0, lambda: 0.0)
    np.testing.assert_allclose(x.detach(), [1.1, 2.1])
    curvature_step.reset()
    for _ in range(5):
        with torch.no_grad():
            x += 0.1
        curvature_step.record_step()
    assert curvature_step.is_drifting
    assert curvature_step.take(lambda: -(x - 50.0).square().sum(), lambda: float(x.detach().sum()))
    np.testing.assert_allclose(x.detach(), [50.0, 50.0], atol=1e-6)


@pytest.mark.parametrize("offset", [0.0, 1e9])
def test_constants_in_the_density_do_not_matter(offset):
    def program():
        x = pyro.sample("x", dist.Normal(torch.tensor(0.0).double(), 1.0))
        pyro.factor("constant", torch.tensor(-offset).double())
        pyro.sample("y", dist.Normal(x, 0.1), obs=torch.tensor(30.0).double())

    engine = pgnn.Variational(seed=0, max_iterations=150, progress=False)
    with pytest.warns(NotConverged) as told:
        Program(program).query("x", engine=engine)
    assert "still changing" in " ".join(str(w.message) for w in told)


def test_noise_at_the_best_value_is_not_warned_of():
    """Twenty numbers, one draw a step: the noise of the value hides nothing that rises."""

    def program():
        x = pyro.sample("x", dist.Normal(torch.zeros(40).double(), 1.0).to_event(1))
        pyro.sample("y", dist.Normal(x, 1.0).to_event(1), obs=torch.zeros(40).double())

    engine = pgnn.Variational(
        seed=0, progress=False, optimizer=lambda p: torch.optim.Adam(p, lr=0.02)
    )
    found = Program(program).query([], engine=engine)
    truth = float(dist.Normal(0.0, 2**0.5).log_prob(torch.zeros(40)).sum())
    assert abs(float(found.diagnostics["importance_weighted"]) - truth) < 0.1


@pytest.mark.parametrize("start", [(2.0, 8.0), (15.0, 15.0)])
def test_what_is_flatter_than_the_noise_is_found_by_draws_that_are_held_fixed(
    start: tuple[float, float],
) -> None:
    def coin(flips: Tensor) -> None:
        fairness = pyro.sample("f", dist.Beta(10.0, 10.0))
        with pyro.plate("flips", 10):
            pyro.sample("flip", dist.Bernoulli(fairness), obs=flips)

    def guide(flips: Tensor) -> None:
        a, b = (
            pyro.param(name, torch.tensor(x), constraint=constraints.positive)
            for name, x in zip("ab", start, strict=True)
        )
        pyro.sample("f", dist.Beta(a, b))

    flips = torch.tensor([1.0] * 6 + [0.0] * 4)
    model = pgnn.Program(coin, args=(flips,), guide=guide)
    answer = model.query("f", engine=pgnn.Variational(seed=0, progress=False))
    exact = dist.Beta(16.0, 14.0)  # noisy steps alone end at deviations of .099 and .089
    assert abs(float(answer["f"].mean) - float(exact.mean)) < 0.005
    assert abs(float(answer["f"].stddev) - float(exact.stddev)) < 0.005
