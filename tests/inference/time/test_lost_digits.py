"""Kalman filters whose covariances cancel, against many digits."""

from __future__ import annotations

import mpmath
import numpy as np
import pytest

import pgnn
from pgnn.errors import AdvisedWarning

X = np.random.default_rng(0).normal(size=(12, 1)).cumsum(axis=0)


def system(start: float, noise: float) -> pgnn.LinearDynamicalSystem:
    return pgnn.LinearDynamicalSystem(
        2, 1, [[1.0, 1.0], [0.0, 1.0]], noise * np.eye(2), [[1.0, 0.0]], [[noise]],
        [0.0, 0.0], start * np.eye(2),
    )  # fmt: skip


def deviations(start: float, noise: float) -> np.ndarray:
    """Filtered standard deviations with 60 digits."""
    found = []
    with mpmath.workdps(60):
        move = mpmath.matrix([[1, 1], [0, 1]])
        q, p = mpmath.mpf(noise), mpmath.eye(2) * mpmath.mpf(start)
        for _ in X:
            gain = p[:, 0] / (p[0, 0] + q)
            p = p - gain * p[0, :]
            found.append([float(mpmath.sqrt(p[k, k])) for k in range(2)])
            p = move * p * move.T + mpmath.eye(2) * q
    return np.array(found)


@pytest.mark.parametrize(("start", "noise"), [(1.0, 1.0), (1e3, 1e-9), (1e6, 1e-6)])
def test_deviations_are_right_where_nothing_is_said(start: float, noise: float) -> None:
    found = system(start, noise).filter({"observation": X}, "state")["state"].std
    np.testing.assert_allclose(found, deviations(start, noise), rtol=2e-3)


def test_lost_digits_are_told() -> None:
    model = system(1e7, 1e-10)
    with pytest.warns(AdvisedWarning, match="digits of the answer are lost") as told:
        found = model.filter({"observation": X}, "state")["state"].std
    assert told[0].filename == __file__
    assert np.abs(found.numpy() / deviations(1e7, 1e-10) - 1.0).max() > 0.01
    with pytest.warns(AdvisedWarning, match="digits"):
        model.log_prob({"observation": X})
    nothing = {"observation": np.full((12, 1), np.nan)}  # nothing is subtracted
    model.filter(nothing, "state")


def test_covariances_that_are_no_longer_definite_are_told() -> None:
    model = pgnn.LinearDynamicalSystem(
        2, 1, [[1.0, 1.0], [0.0, 1.0]], np.eye(2), [[1.0, 0.0]], [[1.0]], [0.0, 0.0],
        1e16 * np.eye(2),
    )  # fmt: skip
    with (
        pytest.warns(AdvisedWarning, match="digits"),
        pytest.raises(pgnn.errors.ModelError, match="not positive definite"),
    ):
        model.requires_grad_().query("state", {"observation": X})
