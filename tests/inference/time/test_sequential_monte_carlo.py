"""Particle filters against Kalman's, against exact chains, and against their own figures."""

import math

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from torch.distributions import Gamma, Normal

import pgnn
from pgnn import Resampling, SequentialMonteCarlo
from pgnn.errors import ModelError, NotConverged, Unsupported

pytestmark = pytest.mark.filterwarnings("ignore::pgnn.NotConverged")

A, Q, R = 0.9, 0.25, 0.49
X, BEFORE, Y = pgnn.Variable("x"), pgnn.Variable(("x", -1)), pgnn.Variable("y")
ARROWS = [(("x", -1), "x"), ("x", "y")]


def linear(**changed):
    parts = {
        "x": pgnn.Distributional(X, [BEFORE], lambda past: Normal(A * past, Q**0.5)),
        "y": pgnn.Distributional(Y, [X], lambda now: Normal(now, R**0.5)),
    }
    first = {"x": pgnn.Gaussian(X, mean=0.0, covariance=1.0)}
    return pgnn.DynamicBayesianNetwork(ARROWS, {**parts, **changed}, first)


def observations(steps, seed=0):
    rng = np.random.default_rng(seed)
    x, found = rng.normal(), []
    for _ in range(steps):
        found.append(x + R**0.5 * rng.normal())
        x = A * x + Q**0.5 * rng.normal()
    return np.array(found)


def kalman(ys, ahead=0):
    """Log evidence, filtered and smoothed means and variances (Rauch, Tung and Striebel 1965)."""
    m, v, total, filtered, predicted = 0.0, 1.0, 0.0, [], []
    for t, y in enumerate([*ys, *[math.nan] * ahead]):
        if t:
            m, v = A * m, A * A * v + Q
        predicted.append((m, v))
        if not math.isnan(y):
            s = v + R
            total += -0.5 * (math.log(2 * math.pi * s) + (y - m) ** 2 / s)
            m, v = m + v / s * (y - m), v * R / s
        filtered.append((m, v))
    smoothed = [filtered[-1]]
    for t in reversed(range(len(filtered) - 1)):
        (m, v), (pm, pv), (sm, sv) = filtered[t], predicted[t + 1], smoothed[0]
        gain = A * v / pv
        smoothed.insert(0, (m + gain * (sm - pm), v + gain**2 * (sv - pv)))
    return total, np.array(filtered), np.array(smoothed)


GAPS = observations(40)
GAPS[10:13] = np.nan


@pytest.mark.parametrize("scheme", Resampling, ids=lambda s: s.name)
def test_the_linear_case_is_kalmans(scheme):
    engine = SequentialMonteCarlo(4000, resampling=scheme, seed=0, progress=False)
    total, filtered, smoothed = kalman(GAPS)
    found = linear().filter({"y": GAPS}, engine=engine)
    error = found.diagnostics["log_evidence_standard_error"][0]
    assert abs(found.log_evidence - total) < 4 * error < 0.5
    # five standard errors of 1,000 draws worth
    room = 5 * np.sqrt(filtered[:, 1] / 1000)
    assert (np.abs(found["x"].mean.numpy() - filtered[:, 0]) < room).all()
    assert np.allclose(found["x"].std.numpy() ** 2, filtered[:, 1], rtol=0.25)
    increments = found.diagnostics["log_increments"]
    assert float(increments.sum()) == pytest.approx(float(found.log_evidence))
    assert (increments[10:13] == 0).all()
    paths = linear().smooth({"y": GAPS}, engine=engine)["x"]
    assert (np.abs(paths.mean.numpy() - smoothed[:, 0])[15:] < 6 * 0.05).all()


def test_the_stated_error_is_what_seeds_spread_by():
    """Of the log evidence over 60 seeds, and unbiased before the logarithm."""
    ys, model = observations(60, seed=3), linear()
    runs = []
    for seed in range(60):
        engine = SequentialMonteCarlo(500, seed=seed, progress=False)
        found = model.filter({"y": ys}, [], engine=engine)
        told = found.diagnostics["log_evidence_standard_error"][0]
        runs.append([float(found.log_evidence), float(told)])
    values, told = np.array(runs).T
    # the standard deviation of 60 numbers is known to 9 per cent
    assert values.std() / np.sqrt(np.square(told).mean()) == pytest.approx(1.0, abs=0.4)
    ratio = np.exp(values - kalman(ys)[0])
    assert abs(ratio.mean() - 1.0) < 4 * ratio.std() / math.sqrt(60)


def test_rows_of_several_lengths_are_like_each_alone():
    model, engine = linear(), SequentialMonteCarlo(3000, seed=1, progress=False)
    rows = [GAPS, GAPS[:7], np.array([0.3])]
    found = model.filter({"y": rows}, engine=engine)
    for row, ys in enumerate(rows):
        total, filtered, _ = kalman(ys)
        error = found.diagnostics["log_evidence_standard_error"][row]
        assert abs(found.log_evidence[row] - total) < 5 * error + 1e-9
        mean = found["x"].mean[row].numpy()
        assert np.abs(mean[: len(ys)] - filtered[:, 0]).max() < 0.2
        assert np.isnan(mean[len(ys) :]).all()
    scores = model.log_prob({"y": rows}, engine=engine)
    assert torch.equal(scores, model.log_prob({"y": rows}, engine=engine))
    assert not torch.equal(scores, model.log_prob({"y": rows}))


def test_what_lies_ahead_and_draws():
    engine = SequentialMonteCarlo(5000, seed=0, progress=False)
    ahead = linear().predict({"y": GAPS}, 3, engine=engine)
    _, filtered, _ = kalman(GAPS, ahead=3)
    m, v = filtered[-3:].T
    assert np.abs(ahead["x"].mean.numpy() - m).max() < 5 * math.sqrt(v.max() / 1000)
    assert np.allclose(ahead["y"].variance.numpy(), v + R, rtol=0.2)
    model = linear()
    drawn = model.sample(2000, {"T": 4}, seed=0)
    assert drawn["x"].shape == (2000, 4)
    assert abs(float(drawn["x"][:, 3].var()) - np.array(kalman([math.nan] * 4)[1])[3, 1]) < 0.2
    given = model.sample(500, {"y": GAPS[:3]}, seed=0)
    assert torch.allclose(given["y"], torch.from_numpy(GAPS[:3]).expand(500, -1))
    assert torch.equal(given["x"], model.sample(500, {"y": GAPS[:3]}, seed=0)["x"])
    best = model.decode({"y": GAPS[:5]}, engine=engine)
    assert best["x"].shape == (5,)
    assert "x" in model.smooth({"y": GAPS[:5]})


def test_a_proposal_that_looks_at_what_was_observed():
    """The best one: weights depend on the step before alone."""
    v = 1.0 / (1.0 / Q + 1.0 / R)

    def best(past, y):
        return Normal(v * (A * past / Q + y / R), v**0.5)

    proposal = {"x": pgnn.Distributional(X, [BEFORE, Y], best)}
    ys = observations(60, seed=3)
    errors = {}
    for name, own in (("own", {}), ("best", proposal)):
        engine = SequentialMonteCarlo(1000, proposal=own, seed=0, progress=False)
        found = linear().filter({"y": ys}, engine=engine)
        errors[name] = float(found.diagnostics["log_evidence_standard_error"][0])
        assert abs(float(found.log_evidence) - kalman(ys)[0]) < 5 * errors[name]
    assert errors["best"] < 0.7 * errors["own"]
    gaps = SequentialMonteCarlo(2000, proposal=proposal, seed=0, progress=False)
    found = linear().filter({"y": GAPS}, engine=gaps)
    error = found.diagnostics["log_evidence_standard_error"][0]
    assert abs(found.log_evidence - kalman(GAPS)[0]) < 5 * error
    with pytest.raises(ValueError, match="proposal of 'z'"):
        linear().filter({"y": ys}, engine=SequentialMonteCarlo(proposal={"z": proposal["x"]}))


def test_switching_states_and_other_distributions():
    """A discrete regime chooses a real state's drift; compared with a fine grid."""
    s, late = pgnn.Variable("s", 2), pgnn.Variable(("s", -1), 2)
    y = pgnn.Variable("y")
    model = pgnn.DynamicBayesianNetwork(
        [(("s", -1), "s"), (("x", -1), "x"), ("s", "x"), ("x", "y")],
        {
            "s": pgnn.Tabular(s, [late], [[0.9, 0.1], [0.2, 0.8]]),
            "x": pgnn.Distributional(
                X, [BEFORE, s], lambda past, drift: Normal(0.5 * past + drift, 0.5),
                drift=[-1.0, 1.0],
            ),
            "y": pgnn.Distributional(y, [X], lambda now: Gamma(2.0, torch.exp(-now))),
        },
        initial={
            "s": pgnn.Tabular(s, [], [0.5, 0.5]),
            "x": pgnn.Distributional(X, [s], Normal, loc=[0.0, 0.0], scale=[1.0, 1.0]),
        },
    )  # fmt: skip
    ys = np.array([1.0, 4.0, 0.2])
    grid = torch.linspace(-6, 6, 1201, dtype=torch.float64)
    width = float(grid[1] - grid[0])
    drift = torch.tensor([-1.0, 1.0], dtype=torch.float64)
    moves = Normal(0.5 * grid[:, None, None] + drift[:, None], 0.5).log_prob(grid).exp()
    table = torch.tensor([[0.9, 0.1], [0.2, 0.8]], dtype=torch.float64)
    alpha = 0.5 * Normal(0.0, 1.0).log_prob(grid).exp().expand(2, -1)
    for t, value in enumerate(ys):
        if t:
            mixed = torch.einsum("ab,ax->bx", table, alpha)
            alpha = torch.einsum("bx,xbz->bz", mixed, moves) * width
        alpha = alpha * Gamma(2.0, torch.exp(-grid)).log_prob(torch.tensor(value)).exp()
    total = alpha.sum() * width
    engine = SequentialMonteCarlo(20_000, seed=0, progress=False)
    found = model.filter({"y": ys}, engine=engine)
    error = found.diagnostics["log_evidence_standard_error"][0]
    assert abs(found.log_evidence - total.log()) < 5 * error
    chance = (alpha[1].sum() * width / total).item()
    assert abs(float(found["s"].probs[2, 1]) - chance) < 0.02
    mean = ((alpha.sum(0) * grid).sum() * width / total).item()
    assert abs(float(found["x"].mean[2]) - mean) < 0.03
    known = model.filter({"y": ys, "s": [0, 1, 0]}, engine=engine)
    assert known["s"].probs[:, 1].tolist() == pytest.approx([0.0, 1.0, 0.0])
    assert known.log_evidence < found.log_evidence


def test_hidden_markov_models_agree_with_their_chain():
    model = pgnn.HiddenMarkovModel(
        2, {"roll": [[0.7, 0.2, 0.1], [0.1, 0.2, 0.7]]}, [0.5, 0.5], [[0.9, 0.1], [0.2, 0.8]]
    )
    observed = {"roll": [[0, 2, None, 2, 2], [1, 0]]}
    engine = SequentialMonteCarlo(20_000, seed=0, progress=False)
    for verb in ("filter", "smooth"):
        exact, found = getattr(model, verb)(observed), getattr(model, verb)(observed, engine=engine)
        inside = ~exact["state"].probs.isnan()
        gap = (exact["state"].probs - found["state"].probs)[inside].abs().max()
        assert gap < 5 * 0.5 / math.sqrt(10_000)
        assert (exact.log_evidence - found.log_evidence).abs().max() < 0.05
    with pytest.raises(pgnn.ImpossibleEvidence):
        pgnn.HiddenMarkovModel(
            2, {"x": [[1.0, 0.0], [1.0, 0.0]]}, [0.5, 0.5], [[0.9, 0.1], [0.2, 0.8]]
        ).filter({"x": [0, 1]}, engine=engine)


def walking(steps=30):
    """A Python loop over time, nothing of ours in it."""
    x = torch.tensor(0.0, dtype=torch.float64)
    for t in pyro.markov(range(steps)):
        scale = Q**0.5 if t else 1.0
        x = pyro.sample(f"x_{t}", dist.Normal(A * x, scale))
        pyro.sample(f"y_{t}", dist.Normal(x, R**0.5))


def test_programs_are_resampled_as_they_run():
    program = pgnn.Program(walking)
    observed = {f"y_{t}": y for t, y in enumerate(GAPS[:30]) if not math.isnan(y)}
    total, filtered, _ = kalman(GAPS[:30])
    engine = SequentialMonteCarlo(2000, seed=0, progress=False)
    found = program.query(["x_29", "x_20"], observed, engine=engine)
    error = found.diagnostics["log_evidence_standard_error"][0]
    assert abs(found.log_evidence - total) < 5 * error < 1.0
    assert abs(float(found["x_29"].mean) - filtered[-1, 0]) < 5 * math.sqrt(filtered[-1, 1] / 500)
    # without resampling the weights of so many steps are worth next to nothing
    alone = program.query("x_29", observed, engine=pgnn.ExecutionSampling(2000, 0, False))
    size = "effective_sample_size"
    assert alone.diagnostics[size][0] < 0.2 * found.diagnostics[size][0]
    assert program.sample(7, observed, engine=engine, seed=0)["x_3"].shape == (7,)


def nowhere(now):
    return Normal(torch.where(now == 0, now, math.nan), 1.0)


def test_settings_and_models_that_are_refused():
    for wrong in ({"particles": 1}, {"threshold": 1.5}, {"resampling": "systematic"}):
        with pytest.raises(ModelError):
            SequentialMonteCarlo(**wrong)
    network = pgnn.BayesianNetwork([("a", "b")], states={"a": 2, "b": 2})
    with pytest.raises(Unsupported, match="ImportanceSampling"):
        network.query("a", engine=SequentialMonteCarlo())
    with pytest.raises(Unsupported, match="k=1"):
        linear().decode({"y": GAPS}, k=2)
    with pytest.raises(ModelError, match="NaN or plus infinity"):
        linear(y=pgnn.Distributional(Y, [X], nowhere)).filter({"y": GAPS})


def test_few_particles_say_so():
    with pytest.warns(NotConverged, match="equivalent to"):
        linear().filter({"y": [30.0, 0.0]}, engine=SequentialMonteCarlo(500, seed=0))
    ys, engine = observations(400, seed=8), SequentialMonteCarlo(6000, seed=0, progress=False)
    with pytest.warns(NotConverged, match="paths"):
        linear().smooth({"y": ys}, engine=engine)


def test_the_default_engine_says_why():
    found = linear().filter({"y": GAPS[:4]})
    assert found.engine == "SequentialMonteCarlo"
    assert "'x' is real" in found.diagnostics["reason"]
    told = linear().query(["x"], {"x": [0.1, None, 0.2], "y": GAPS[:3]})
    assert float(told["x"].std[0]) == pytest.approx(0.0, abs=1e-7)
    with pytest.raises(ValueError, match="observed"):
        linear().query("x", {"x": [0.1, 0.3], "y": GAPS[:2]}, engine=SequentialMonteCarlo())
