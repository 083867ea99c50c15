"""The earth mover's distance, and which modes samples cover."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import wasserstein_distance

from pgnn.errors import DataError
from pgnn.metrics import earth_mover, mode_coverage


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def test_on_the_line_as_scipy_and_as_the_linear_program(rng):
    x, y = rng.normal(size=12), rng.normal(1, 2, size=9)
    p, q = rng.random(12), rng.random(9)
    expected = wasserstein_distance(x, y, p, q)
    assert earth_mover(x, y, p, q) == pytest.approx(expected, abs=1e-12)
    assert earth_mover(x, y) == pytest.approx(wasserstein_distance(x, y), abs=1e-12)
    costs = np.abs(x[:, None] - y)
    assert earth_mover(None, None, p, q, costs=costs) == pytest.approx(expected, abs=1e-9)


def test_assignment_and_linear_program_agree(rng):
    x, y = rng.normal(size=(15, 3)), rng.normal(1, 2, size=(15, 3))
    by_program = earth_mover(x, y, np.ones(15), np.ones(15))
    assert earth_mover(x, y) == pytest.approx(by_program, abs=1e-9)
    assert earth_mover(torch.tensor(x), y.tolist()) == earth_mover(x, y)


def test_a_moved_sample_is_as_far_as_it_was_moved(rng):
    x = rng.normal(size=(30, 2, 2))
    assert earth_mover(x, x + 1.5) == pytest.approx(3.0, abs=1e-12)
    assert earth_mover(x, x[::-1]) == 0.0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([], [1.0]), "at least one row each"),
        (([[1.0, 2.0]], [1.0]), r"one shape, got \(1, 2\) and \(1,\)"),
        (([np.nan], [1.0]), "finite"),
        (([1.0], [1.0], [-1.0]), "1 non-negative masses"),
        (([1.0], [1.0], [1.0, 1.0]), "1 non-negative masses"),
    ],
)
def test_bad_samples_are_told(arguments, message):
    with pytest.raises(DataError, match=message):
        earth_mover(*arguments)


def test_mode_coverage_counts_each_sample_once():
    modes = [[0.0, 0.0], [1.0, 0.0], [9.0, 9.0]]
    samples = [[0.4, 0.0], [0.6, 0.0], [0.0, 0.1], [5.0, 5.0]]
    found = mode_coverage(samples, modes, radius=0.5)
    assert (found.covered, found.good, found.counts.tolist()) == (2, 0.75, [2, 1, 0])
    assert mode_coverage(samples, modes, radius=0.5, least=2).covered == 1
    with pytest.raises(DataError, match="one shape"):
        mode_coverage([1.0], modes, 0.5)
