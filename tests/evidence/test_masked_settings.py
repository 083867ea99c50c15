"""Masked cells of tables, weights, transitions and lengths are refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import pgnn

TABLE = np.ma.array([[0.9, 0.1], [0.2, 0.8]], mask=[[0, 1], [0, 0]])
STEPS = np.ma.array([4, 2], mask=[0, 1])
ROWS = [[0, 2, 1, 1], [1, 0, 0, 2]]


def _chain() -> pgnn.HiddenMarkovModel:
    emission = [[0.8, 0.1, 0.1], [0.1, 0.2, 0.7]]
    return pgnn.HiddenMarkovModel(2, {"r": emission}, [0.5, 0.5], [[0.9, 0.1], [0.2, 0.8]])


@pytest.mark.parametrize(
    "make",
    [
        lambda: pgnn.BayesianNetwork([("a", "b")], {"a": [0.3, 0.7], "b": TABLE}),
        lambda: pgnn.BayesianNetwork([("a", "b")], {"a": [0.3, 0.7], "b": [*TABLE]}),
        lambda: pgnn.RestrictedBoltzmannMachine(2, 2, weight=TABLE),
        lambda: pgnn.ConditionalRandomField(["a", "b"], transitions=TABLE),
        lambda: pgnn.ConditionalRandomField(
            ["a", "b"], mask=np.ma.array(np.eye(2), mask=TABLE.mask)
        ),
        lambda: pgnn.LinearDynamicalSystem(2, 2, TABLE),
        lambda: pgnn.FactorAnalysis(2, 2, weight=TABLE),
        lambda: pgnn.HiddenMarkovModel(2, {"r": TABLE}, [0.5, 0.5], np.eye(2)),
        lambda: pgnn.HiddenMarkovModel(2, {"r": np.eye(2)}, [0.5, 0.5], TABLE),
    ],
)
def test_masked_parameters(make: Callable[[], Any]) -> None:
    with pytest.raises(pgnn.ModelError, match="has masked cells, and parameters are never missing"):
        make()


@pytest.mark.parametrize(
    ("ask", "said"),
    [
        (lambda m: m.log_prob({"r": ROWS, "T": STEPS}), "'T'"),
        (lambda m: m.log_prob({"r": [*ROWS[0], *ROWS[1][:2]]}, lengths=STEPS), "lengths="),
        (
            lambda m: m.log_prob(
                {"r": ROWS, "T": np.ma.array(np.ones((2, 4), bool), mask=[[0, 0, 0, 1]] * 2)}
            ),
            "'T'",
        ),
        (lambda m: m.smooth({"r": [*ROWS[0], *ROWS[1][:2]]}, lengths=STEPS), "lengths="),
        (
            lambda _: pgnn.CTC(2).log_prob(
                [[0], [1]], inputs={"x": np.zeros((2, 4, 3)), "T": STEPS}
            ),
            "'T'",
        ),
    ],
)
def test_masked_lengths(ask: Callable[[Any], Any], said: str) -> None:
    message = f"^{said} has masked cells, and lengths are never missing"
    with pytest.raises((pgnn.EvidenceError, pgnn.DataError), match=message):
        ask(_chain())


def test_lengths_are_named_as_the_caller_wrote_them() -> None:
    chain, steps = _chain(), [0, 1, 2, 0, 1, 2]
    expected = chain.log_prob(steps, lengths=[2, 4])
    np.testing.assert_array_equal(chain.log_prob(steps, lengths=[2.0, 4.0]), expected)
    for lengths in ([1.5, 4.5], [-2, 8]):
        with pytest.raises(pgnn.EvidenceError, match=r"^lengths= must be"):
            chain.log_prob({"r": [steps, steps]}, lengths=lengths)
        with pytest.raises(pgnn.EvidenceError, match=r"^'T' must be"):
            chain.log_prob({"r": [steps, steps], "T": lengths})
    with pytest.raises(pgnn.EvidenceError, match="but lengths= says 9"):
        chain.log_prob({"r": [steps, steps]}, lengths=[9, 2])
