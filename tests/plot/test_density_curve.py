"""Densities in the cards of real variables: they are the densities, with their quantiles."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats

import pgnn
from pgnn.inference.continuous.real_posterior import RealMarginal
from pgnn.inference.gaussian_marginals import MixtureMarginal, NormalMarginal
from pgnn.inference.particles.weighted_posterior import WeightedMarginal
from pgnn.plot.density_curve import DensityCurve, density_curve_of
from tests.plot.test_network import normal_network, overlaps, words


def area(points: np.ndarray, low: float = -np.inf, high: float = np.inf) -> float:
    x, y = points.T
    kept = (x >= low) & (x <= high)
    return float(np.trapezoid(y[kept], x[kept]))


def curve(marginal: Any, row: int = 0, before: Any = None) -> DensityCurve:
    found = density_curve_of(marginal, row, before)
    assert found is not None
    return found


def normal(mean: float, deviation: float) -> NormalMarginal:
    return NormalMarginal(torch.tensor(mean).double(), torch.tensor(deviation).double())


def test_normal_densities_and_their_quantiles() -> None:
    drawn = curve(normal(3.0, 0.5))
    x, y = drawn.now.T
    np.testing.assert_allclose(y, stats.norm(3.0, 0.5).pdf(x), rtol=1e-12)
    assert drawn.interval == pytest.approx(stats.norm(3.0, 0.5).ppf([0.05, 0.95]))
    assert area(drawn.now) == pytest.approx(0.996, abs=1e-4)
    assert drawn.before is None


def test_mixtures_rows_and_earlier_densities() -> None:
    weights = torch.tensor([[0.9, 0.1], [0.25, 0.75]]).double()
    means = torch.tensor([[0.0, 9.0], [-2.0, 2.0]]).double()
    mixture = MixtureMarginal(weights, NormalMarginal(means, torch.ones(2, 2).double()))
    drawn = curve(mixture, row=1, before=mixture)
    x, y = drawn.now.T
    expected = 0.25 * stats.norm(-2.0).pdf(x) + 0.75 * stats.norm(2.0).pdf(x)
    np.testing.assert_allclose(y, expected, rtol=1e-12)
    assert drawn.before is not None
    x, y = drawn.before.T
    np.testing.assert_allclose(y, 0.9 * stats.norm(0.0).pdf(x) + 0.1 * stats.norm(9.0).pdf(x))
    assert x.max() > 9.0
    far = curve(normal(0.0, 1.0), before=normal(1000.0, 1.0))
    assert far.now[:, 0].max() < 40.0  # the axis is not made unreadable


def test_draws_are_histograms() -> None:
    rng = np.random.default_rng(0)
    values = rng.exponential(size=(2, 5000))
    drawn = curve(RealMarginal(torch.from_numpy(values)))
    low, high = drawn.interval
    assert [low, high] == pytest.approx(np.quantile(values, [0.05, 0.95]), abs=1e-3)
    # a histogram is constant within a bin, of which there are 32
    assert area(drawn.now) == pytest.approx(0.996, abs=1e-3)
    assert area(drawn.now, high=1.0) == pytest.approx(1 - np.exp(-1.0), abs=0.15)
    assert len(np.unique(drawn.now[:, 0])) == 33


def test_weights_and_missing_values_of_draws() -> None:
    rng = np.random.default_rng(1)
    values = rng.uniform(size=(20_000, 2))
    logs = np.log(values)  # of density 2 x
    values[:100, 0] = np.nan
    drawn = curve(WeightedMarginal(torch.from_numpy(values), torch.from_numpy(logs)), row=0)
    assert drawn.interval == pytest.approx(np.sqrt([0.05, 0.95]), abs=0.02)
    middle = drawn.now[np.abs(drawn.now[:, 0] - 0.5) < 0.02, 1]
    assert middle == pytest.approx(2.0 * 0.5, abs=0.15)
    chains = torch.from_numpy(values.T.copy())
    assert bool(chains.isnan().any())
    present = chains[~chains.isnan()].quantile(torch.tensor([0.05, 0.95]).double()).tolist()
    assert curve(RealMarginal(chains)).interval == pytest.approx(present, abs=1e-3)


def test_what_has_no_density_is_not_drawn() -> None:
    assert density_curve_of(normal(1.0, 0.0), 0) is None
    assert density_curve_of(normal(float("nan"), 1.0), 0) is None
    assert density_curve_of(normal(1e12, 1e-6), 0) is None
    assert density_curve_of(RealMarginal(torch.zeros(1, 100)), 0) is None
    assert density_curve_of(RealMarginal(torch.arange(7.0)[None]), 0) is None
    mass = MixtureMarginal(
        torch.tensor([0.5, 0.5]), NormalMarginal(torch.zeros(2), torch.tensor([0.0, 1.0]))
    )
    assert density_curve_of(mass, 0) is None


def test_the_error_of_two_draws_is_not_known() -> None:
    assert RealMarginal(torch.tensor([[0.0, 1.0]])).standard_error.isnan()
    assert RealMarginal(torch.tensor([[0.0, 1.0, 0.0, 1.0]])).standard_error > 0.0


def test_networks_draw_densities_with_what_they_were() -> None:
    ax = pgnn.plot.network(normal_network(), evidence={"y": 2.0})
    assert "line: before the evidence" in words(ax)
    (inner,) = [c for c in ax.collections if c.get_zorder() == 4.2]
    (whole,) = [c for c in ax.collections if c.get_zorder() == 4 and c.get_paths()]
    (line,) = [c for c in ax.collections if c.get_zorder() == 4.4]
    left, right = (f(inner.get_paths()[0].vertices[:, 0]) for f in (np.min, np.max))
    earlier = line.get_paths()[0].vertices[:, 0]
    # p(mean | y = 2) = N(1, 1 / 2), of which 90% are filled; before it was N(0, 1)
    scale = np.ptp(earlier) / (2 * stats.norm.ppf(0.998))
    assert (right - left) / scale == pytest.approx(2 * stats.norm.ppf(0.95) * np.sqrt(0.5), rel=0.1)
    assert whole.get_paths()[0].vertices[:, 0].min() <= earlier.min() + 1e-9
    assert overlaps(ax) == []
    assert not any(w.startswith("line") for w in words(normal_network().query("mean").plot()))
