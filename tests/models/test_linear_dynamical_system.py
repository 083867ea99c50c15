"""Kalman filter and smoother: against the unrolled network, which is integrated out exactly."""

import math
import warnings
from typing import Any

import numpy as np
import pytest
import torch
from torch.distributions import MultivariateNormal

import pgnn
from pgnn import EM, Diagonal, LinearDynamicalSystem
from pgnn.errors import DataError, EvidenceError, ModelError, Unsupported
from pgnn.inference.learning.kalman_e_step import KalmanEStep
from pgnn.inference.learning.training_data import read_sequences

STEPS = 5


def system(size: int = 3, width: int = 2, seed: int = 0) -> LinearDynamicalSystem:
    rng = np.random.default_rng(seed)

    def spread(k: int) -> np.ndarray:
        root = rng.normal(size=(k, k))
        return root @ root.T + 0.3 * np.eye(k)

    return LinearDynamicalSystem(
        size,
        width,
        0.5 * rng.normal(size=(size, size)),
        spread(size),
        rng.normal(size=(width, size)),
        spread(width),
        rng.normal(size=size),
        spread(size),
        transition_offset=rng.normal(size=size),
        observation_offset=rng.normal(size=width),
    )


def with_gaps() -> np.ndarray:
    """Two rows: one misses a whole step, the other a number and its end."""
    y = np.random.default_rng(1).normal(size=(2, STEPS, 2))
    y[0, 1] = np.nan
    y[1, 2, 0] = np.nan
    y[1, STEPS - 1] = np.nan
    return y


def unrolled(model: LinearDynamicalSystem, y: np.ndarray, names: list, upto: int = STEPS):
    observed = {("observation", t): y[:, t] for t in range(upto) if not np.isnan(y[:, t]).all()}
    return model.unroll(STEPS).query(names, observed)


def check(own, expected, t: int) -> None:
    np.testing.assert_allclose(own.mean[:, t], expected.mean, atol=1e-10)
    np.testing.assert_allclose(own.covariance_matrix[:, t], expected.covariance_matrix, atol=1e-10)


def test_smoothing_is_that_of_the_unrolled_network() -> None:
    model, y = system(), with_gaps()
    found = model.smooth({"observation": y})
    assert (found.kind, found.engine, [*found]) == ("exact", "KalmanFilter", ["state"])
    assert isinstance(found["state"], MultivariateNormal)
    slow = unrolled(model, y, [("state", t) for t in range(STEPS)])
    np.testing.assert_allclose(found.log_evidence, slow.log_evidence, atol=1e-10)
    np.testing.assert_allclose(model.log_prob({"observation": y}), slow.log_evidence, atol=1e-10)
    for t in range(STEPS):
        check(found["state"], slow["state", t], t)
    gaps = model.query("observation", {"observation": y})["observation"]
    slow = unrolled(model, y, [("observation", t) for t in (1, 2, 4)])
    for t in (1, 2, 4):
        check(gaps, slow["observation", t], t)
    assert len(found.frame()) == 2


def test_filtering_and_predicting() -> None:
    model, y = system(), with_gaps()
    found = model.filter({"observation": y})
    for t in range(STEPS):
        check(found["state"], unrolled(model, y, [("state", t)], t + 1)["state", t], t)
    sums = found.diagnostics["log_increments"].sum(1)
    np.testing.assert_allclose(sums, found.log_evidence, atol=1e-12)
    ahead = model.predict({"observation": y[:, :3]}, 2)
    assert [*ahead] == ["state", "observation"]
    for h in (0, 1):
        slow = unrolled(model, y, [("state", 3 + h), ("observation", 3 + h)], 3)
        check(ahead["state"], slow["state", 3 + h], h)
        check(ahead["observation"], slow["observation", 3 + h], h)


def test_rows_of_any_length_are_their_own() -> None:
    model, y = system(), with_gaps()
    found = model.smooth({"observation": [y[0], y[1, :2]]})
    alone = model.smooth({"observation": y[1, :2]})
    np.testing.assert_allclose(found["state"].mean[1, :2], alone["state"].mean, atol=1e-12)
    assert bool(found["state"].mean[1, 2:].isnan().all())
    np.testing.assert_allclose(found.log_evidence[1], alone.log_evidence)
    ahead = model.predict({"observation": [y[0], y[1, :2]]}, 2)
    own = model.predict({"observation": y[1, :2]}, 2)
    np.testing.assert_allclose(ahead["state"].mean[1], own["state"].mean, atol=1e-12)


def test_draws() -> None:
    """Means and covariances lie within five standard errors of the exact ones."""
    model, y, n = system(), with_gaps(), 2000
    drawn = model.sample(n, {"observation": y}, seed=0)
    found = model.query(["state", "observation"], {"observation": y})
    for name in ("state", "observation"):
        error = 5 * found[name].std / math.sqrt(n) + 1e-12
        assert bool(((drawn[name].mean(0) - found[name].mean).abs() <= error).all())
    pair = torch.cat([drawn["state"][:, 0, 0], drawn["state"][:, 0, 1]], dim=1)
    observed = {("observation", t): y[:1, t] for t in range(STEPS) if t != 1}
    exact = model.unroll(STEPS).query([("state", 0), ("state", 1)], observed)
    joint = exact.joint(("state", 0), ("state", 1)).covariance_matrix[0]
    scale = joint.diagonal().sqrt()
    error = (torch.cov(pair.mT) - joint) / (scale.unsqueeze(-1) * scale)
    assert float(error.abs().max()) < 5 * math.sqrt(2 / n)
    again = model.sample(3, {"T": 4}, seed=1)
    assert again["observation"].shape == (3, 4, 2)
    assert torch.equal(again["state"], model.sample(3, {"T": 4}, seed=1)["state"])


def test_gradients() -> None:
    model = system().requires_grad_()
    observed = {"observation": with_gaps()}
    model.log_prob(observed).sum().backward()
    for p in model.parameters():
        k = p.numel() // 2
        flat, h = p.data.view(-1), 1e-5
        before = float(flat[k])
        values = []
        for x in (before + h, before - h):
            flat[k] = x
            model._cache.clear()
            values.append(float(model.log_prob(observed).sum().detach()))
        flat[k] = before
        numeric = (values[0] - values[1]) / (2 * h)
        assert float(p.grad.view(-1)[k]) == pytest.approx(numeric, rel=1e-4, abs=1e-6)


def test_learning_raises_the_likelihood_to_that_of_the_truth() -> None:
    turn = 0.95 * np.array([[math.cos(0.4), -math.sin(0.4)], [math.sin(0.4), math.cos(0.4)]])
    loading = np.random.default_rng(3).normal(size=(3, 2))
    truth = LinearDynamicalSystem(
        2, 3, turn, 0.1 * np.eye(2), loading, 0.2 * np.eye(3), np.zeros(2), np.eye(2),
        observation_offset=np.ones(3),
    )  # fmt: skip
    data = truth.sample(1, {"T": [50, 40]}, seed=0)["observation"][0]
    data[0, 10:14] = torch.nan
    data[1, 3, 0] = torch.nan
    model = LinearDynamicalSystem(2, 3, observation_form=Diagonal())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", pgnn.NotConverged)
        model.fit({"observation": data}, learner=EM(max_iterations=80), seed=0, progress=False)
    trace = np.array(model.history["trace"]["log_likelihood"])
    assert (np.diff(trace) > -1e-7).all()
    assert trace[-1] > float(truth.log_prob({"observation": data}).sum())


def test_one_step_of_learning_is_that_of_the_unrolled_network() -> None:
    """Expected statistics from the smoother, and from the network with shared conditionals."""
    from pgnn.inference.learning.e_steps import e_step_of
    from pgnn.inference.learning.slice_e_step import UnrolledEStep

    model, y = system().requires_grad_(), with_gaps()
    fast, slow = e_step_of(model), UnrolledEStep(model)
    found, expected = (e.expect(e.read({"observation": y}, [2.0, 1.0], None)) for e in (fast, slow))
    assert found.log_likelihood == pytest.approx(expected.log_likelihood)
    for name in ("state", ("initial", "state")):
        for a, b in zip(found.sums[name], expected.sums[name], strict=True):
            np.testing.assert_allclose(a, b, atol=1e-8)


def test_checkpoints_and_types(tmp_path) -> None:
    model, y = system(), {"observation": with_gaps()}
    model.save(tmp_path / "model.pgnn")
    again = pgnn.load(tmp_path / "model.pgnn")
    np.testing.assert_allclose(again.log_prob(y), model.log_prob(y))
    single = system().to(torch.float32).smooth(y)
    assert single["state"].mean.dtype == single.log_evidence.dtype == torch.float32
    np.testing.assert_allclose(single["state"].mean, model.smooth(y)["state"].mean, atol=1e-4)


def test_what_is_refused() -> None:
    model = system()
    with pytest.raises(ModelError, match="weight of 'state'"):
        LinearDynamicalSystem(2, 1, np.eye(3))
    with pytest.raises(ModelError, match="state_size must be at least 1"):
        LinearDynamicalSystem(0, 1)
    with pytest.raises(EvidenceError, match="'state' is real and observed"):
        model.smooth({"state": np.zeros((4, 3)), "observation": np.zeros((4, 2))}, ["state"])
    with pytest.raises(DataError, match="'state' was observed"):
        model.requires_grad_().fit({"state": np.zeros((4, 3)), "observation": np.zeros((4, 2))})
    with pytest.raises(Unsupported, match="one best path"):
        model.decode({"observation": np.zeros((4, 2))}, k=2)
    with pytest.raises(EvidenceError):
        model.sample(2)


def test_the_best_path_is_that_of_the_means() -> None:
    model, steps = system(), 4
    y = model.sample(1, {"T": [steps, 2]}, seed=0)["observation"][0].numpy().copy()
    y[0, 1] = np.nan
    observed = {"observation": [y[0], y[1, :2]]}
    best, means = model.decode(observed), model.smooth(observed)
    torch.testing.assert_close(best["state"], means["state"].mean, equal_nan=True)
    everything = model.most_probable(observed)
    for row, length in enumerate((steps, 2)):
        cells = {("observation", t): y[row, t] for t in range(length)}
        network = model.unroll(length)
        states = network.most_probable(cells, [("state", t) for t in range(length)])
        assert float(best.log_prob[row]) == pytest.approx(float(states.log_prob), abs=1e-9)
        whole = network.most_probable(cells)
        assert float(everything.log_prob[row]) == pytest.approx(float(whole.log_prob), abs=1e-9)
        torch.testing.assert_close(everything["state"][row, 0], whole["state", 0])
    torch.testing.assert_close(everything["observation"][0, 0], torch.from_numpy(y[0, 0]))
    assert str(model.decode({"observation": y[1, :2]})).endswith("(exact, KalmanFilter)")


def test_states_may_be_observed_in_part() -> None:
    model = system()
    drawn = model.sample(1, {"T": 4}, seed=1)
    observed = {n: drawn[n][0].numpy().copy() for n in ("state", "observation")}
    observed["state"][[0, 2]] = np.nan
    smoothed, logs = model.smooth(observed), model.log_prob(observed)
    cells = {(n, t): x[t] for n, x in observed.items() for t in range(4)}
    expected = model.unroll(4).query([("state", 0), ("state", 2)], cells)
    assert float(logs) == pytest.approx(float(expected.log_evidence), abs=1e-9)
    for t in (0, 2):
        torch.testing.assert_close(smoothed["state"].mean[t], expected["state", t].mean)


def test_no_steps_and_no_rows() -> None:
    model = system()
    for rows, steps in ((2, 0), (0, 0), (1, 1)):
        observed = {"observation": np.ones((rows, steps, 2))}
        assert model.smooth(observed)["state"].mean.shape == (rows, steps, 3)
        assert model.filter(observed)["state"].mean.shape == (rows, steps, 3)
        assert model.predict(observed, 2)["observation"].mean.shape == (rows, 2, 2)
        assert model.decode(observed)["state"].shape == (rows, steps, 3)
        assert model.log_prob(observed).shape == (rows,)
        assert steps or model.log_prob(observed).tolist() == [0.0] * rows
        assert not steps or model.sample(2, observed, seed=0)["state"].shape == (2, rows, steps, 3)


def test_a_matrix_of_the_wrong_width_is_refused() -> None:
    rows = np.zeros((30, 3))
    with pytest.raises(pgnn.PgnnError, match=r"observation.*\(1,\)|\(T, 1\)"):
        pgnn.LinearDynamicalSystem(1, 1).fit({"observation": rows}, progress=False)


def walk() -> np.ndarray:
    return np.cumsum(np.random.default_rng(0).normal(size=(60, 2)), axis=0)


@pytest.mark.parametrize("unit", [1e-6, 1e-8, 1e-20, 1e8, [1.0, 1e-10], [1e12, 1e-12]])
def test_learning_does_not_depend_on_the_units(unit: float | list[float]) -> None:
    units = np.broadcast_to(unit, 2)
    learner = EM(max_iterations=10, accelerate=False)
    traces = []
    for factor in (np.ones(2), units):
        data = {"observation": walk() * factor}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model = LinearDynamicalSystem(1, 2).fit(data, learner=learner, seed=0, progress=False)
        trace = np.array([*model.history["trace"]["log_likelihood"], float(model.log_prob(data))])
        traces.append(trace + 60 * np.log(factor).sum())
    assert (np.diff(traces[1]) > 0).all()
    assert traces[1][-1] > -228.0
    np.testing.assert_allclose(traces[1], traces[0], rtol=0, atol=0.1)


@pytest.mark.parametrize("last", [2, 3])
def test_a_step_that_decreases_the_likelihood_is_undone(
    last: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken = []
    improve = KalmanEStep.improve

    def bad(self: KalmanEStep, *rest: Any) -> Any:
        stuck = improve(self, *rest)
        taken.append(float(self.total(observed)))
        if len(taken) == 3:
            with torch.no_grad():
                self.model.conditionals["observation"].weight += 5.0
        return stuck

    model = LinearDynamicalSystem(1, 2)
    observed = read_sequences(model, {"observation": walk()})
    monkeypatch.setattr(KalmanEStep, "improve", bad)
    learner = EM(max_iterations=last + 1, accelerate=False)
    with pytest.warns(pgnn.NotConverged, match="fell from .* the parameters before it are kept"):
        model.fit({"observation": walk()}, learner=learner, seed=0, progress=False)
    assert len(taken) == 3
    assert float(model.log_prob({"observation": walk()})) == pytest.approx(taken[1], rel=1e-12)
    assert model.history["log_likelihood"] == pytest.approx(taken[1], rel=1e-12)
    assert model.history["trace"]["log_likelihood"][-1] == pytest.approx(taken[1], rel=1e-12)
