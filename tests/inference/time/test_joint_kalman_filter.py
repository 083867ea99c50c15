"""Slices of real variables, all linear Gaussian: against the unrolled network."""

import numpy as np
import pytest
import torch

import pgnn
from pgnn import DynamicBayesianNetwork, Gaussian, LinearGaussian, Variable
from pgnn.inference.time.joint_kalman_filter import JointKalmanFilter

STEPS = 4
COVARIANCE = [[0.6, 0.1], [0.1, 0.5]]


def model() -> DynamicBayesianNetwork:
    """A number and a vector that moves with it; two observations, that hang together."""
    a, b, y, z = Variable("a"), Variable("b", shape=(2,)), Variable("y"), Variable("z")
    old_a, old_b = Variable(("a", -1)), Variable(("b", -1), shape=(2,))
    return DynamicBayesianNetwork(
        [(("a", -1), "a"), (("b", -1), "b"), (("a", -1), "b"), ("a", "y"), ("b", "z"), ("y", "z")],
        {
            "a": LinearGaussian(a, [old_a], [0.9], 0.1, 0.5),
            "b": LinearGaussian(b, [old_b, old_a], [[0.7, 0.1, 0.3], [0.0, 0.5, -0.2]],
                                [0.0, 0.2], COVARIANCE),
            "y": LinearGaussian(y, [a], [1.0], 0.0, 0.3),
            "z": LinearGaussian(z, [b, y], [1.0, -0.5, 0.2], 0.0, 0.2),
        },
        initial={
            "a": Gaussian(a, mean=0.0, covariance=1.0),
            "b": Gaussian(b, mean=[1.0, 0.0], covariance=np.eye(2)),
        },
    )  # fmt: skip


def observed() -> dict[str, np.ndarray]:
    y = np.random.default_rng(0).normal(size=(3, STEPS))
    z = np.random.default_rng(1).normal(size=(3, STEPS))
    y[0, 2] = z[0, 1] = z[1, 3] = np.nan
    y[2] = np.nan
    return {"y": y, "z": z}


def cells(own: dict[str, np.ndarray], row: int, upto: int = STEPS) -> dict:
    return {(n, t): x[row, t] for n, x in own.items() for t in range(upto)
            if not np.isnan(x[row, t])}  # fmt: skip


def test_every_verb_is_that_of_the_unrolled_network() -> None:
    own, data = model(), observed()
    smoothed, filtered = own.smooth(data), own.filter(data, ["a", "b"])
    assert (smoothed.kind, smoothed.engine) == ("exact", "JointKalmanFilter")
    logs, ahead = own.log_prob(data), own.predict(data, 2)
    unrolled, longer = own.unroll(STEPS), own.unroll(STEPS + 2)
    for row in range(3):
        names = [(n, t) for n in "ab" for t in range(STEPS)]
        expected = unrolled.query(names, cells(data, row))
        assert float(logs[row]) == pytest.approx(float(expected.log_evidence), abs=1e-9)
        for n, t in names:
            right = expected[n, t]
            torch.testing.assert_close(smoothed[n].mean[row, t], right.mean)
            torch.testing.assert_close(smoothed[n].std[row, t], right.std)
            begun = unrolled.query([(n, t)], cells(data, row, t + 1))[n, t]
            torch.testing.assert_close(filtered[n].mean[row, t], begun.mean)
        later = longer.query([("z", STEPS + 1)], cells(data, row))["z", STEPS + 1]
        torch.testing.assert_close(ahead["z"].mean[row, 1], later.mean)
        torch.testing.assert_close(ahead["z"].std[row, 1], later.std)


def test_draws_keep_what_was_observed_and_have_the_moments() -> None:
    own = model()
    data = {n: x[0] for n, x in observed().items()}
    drawn = own.sample(4000, data, seed=0)
    there = ~np.isnan(data["y"])
    assert (drawn["y"][:, there].numpy() == data["y"][there]).all()
    exact = own.smooth(data)
    error = (drawn["a"].mean(0) - exact["a"].mean) / exact["a"].std
    assert float(error.abs().max()) < 5.0 / 4000**0.5
    torch.testing.assert_close(drawn["b"].std(0), exact["b"].std, rtol=0.08, atol=0.0)


def test_states_may_be_observed_and_others_go_to_particles() -> None:
    own, data = model(), {"a": np.zeros(STEPS), "y": np.ones(STEPS)}
    expected = own.unroll(STEPS).log_prob(
        {(n, t): x[t] for n, x in data.items() for t in range(STEPS)}
    )
    assert float(own.log_prob(data)) == pytest.approx(float(expected), abs=1e-9)
    level = Variable("level")
    other = DynamicBayesianNetwork(
        [(("level", -1), "level")],
        {"level": pgnn.Distributional(
            level, [Variable(("level", -1))], lambda x: torch.distributions.Normal(x.sin(), 1.0)
        )},
        initial={"level": Gaussian(level, mean=0.0, covariance=1.0)},
    )  # fmt: skip
    assert not JointKalmanFilter.serves(other)
