"""Time and memory grow with what is connected: large sparse graphs answer, not only small ones."""

import math

import numpy as np
import pytest

import pgnn
from pgnn.factors.potentials.tabular_potential import TabularPotential

PAIR = [[2.0, 1.0], [1.0, 2.0]]


@pytest.mark.slow
def test_independent_pairs() -> None:
    """With a bit for each two of the 400,000 elements this would take 20 GB."""
    size = 200_000
    left, right = (pgnn.Variable(name, 2, shape=(size,)) for name in "xy")
    model = pgnn.MarkovRandomField([TabularPotential([left, right], PAIR)])
    assert model.log_partition().item() == pytest.approx(size * math.log(6.0), rel=1e-12)
    answer = model.query("x", {("y", 0): 1, ("y", size - 1): 0})
    expected = (size - 2) * math.log(6.0) + 2 * math.log(3.0)
    assert answer.log_evidence.item() == pytest.approx(expected, rel=1e-12)
    assert answer["x"].probs[[0, 1, -1], 0].tolist() == pytest.approx([1 / 3, 1 / 2, 2 / 3])


@pytest.mark.slow
def test_a_long_chain() -> None:
    size = 100_000
    x = pgnn.Variable("x", 2, shape=(size,))
    scopes = np.stack([np.arange(size - 1), np.arange(1, size)], axis=1)
    model = pgnn.MarkovRandomField([TabularPotential(x, PAIR, scopes=scopes)])
    assert model.log_partition().item() == pytest.approx(
        math.log(2.0) + (size - 1) * math.log(3.0), rel=1e-12
    )


def test_a_hub_with_many_leaves_observed() -> None:
    """Naive Bayes: the cost of the hub is not counted again for each of its leaves."""
    size = 5000
    x = pgnn.Variable("x", 2, shape=(size,))
    scopes = np.stack([np.zeros(size - 1, int), np.arange(1, size)], axis=1)
    model = pgnn.MarkovRandomField([TabularPotential(x, PAIR, scopes=scopes)])
    observed = np.arange(size) % 3 == 0
    answer = model.query(("x", 0), {("x", i): int(observed[i]) for i in range(1, size)})
    ones = int(observed[1:].sum())
    zeros = size - 1 - ones
    logs = np.array([zeros * math.log(2.0), ones * math.log(2.0)])
    assert answer.log_evidence.item() == pytest.approx(np.logaddexp(*logs), rel=1e-12)
