"""Intervals in the cards of real arrays."""

from __future__ import annotations

import numpy as np
import torch

import pgnn
from pgnn.inference.time.emitted_reals import RealMoments
from pgnn.plot.interval_chart import interval_chart_of
from tests.plot.test_network import overlaps, words


def test_positions_and_speeds_of_a_linear_dynamical_system() -> None:
    track = pgnn.LinearDynamicalSystem(
        2, 1, [[1.0, 1.0], [0.0, 1.0]], [[0.02, 0.0], [0.0, 0.02]], [[1.0, 0.0]],
        observation_covariance=[[1.0]], initial_mean=[0.0, 0.0],
        initial_covariance=[[9.0, 0.0], [0.0, 1.0]], observation_offset=[0.0],
    )  # fmt: skip
    path = np.cumsum(np.full((12, 1), 0.5), axis=0)
    smoothed = track.smooth({"observation": path})
    marginal = smoothed["state"]
    chart = interval_chart_of(marginal, None)
    assert chart is not None
    assert chart.values.shape == (3, 12, 2)
    np.testing.assert_allclose(chart.values[1], marginal.mean.detach())
    low, high = marginal.quantile((0.05, 0.95)).detach()
    np.testing.assert_allclose(chart.values[[0, 2]], torch.stack([low, high]))
    ax = smoothed.plot()
    assert {"12 x 2 values", "mean, 5% and 95%"} <= set(words(ax))
    assert {f"{x:.3g}" for x in (low[:, 0].min(), high[:, 1].max())} <= set(words(ax))
    positions, _ = [c for c in ax.collections if c.get_zorder() == 4.2]
    heights = [np.ptp(p.vertices[:, 1]) for p in positions.get_paths()]
    wide = (high - low)[:, 0] / (high[:, 0].max() - low[:, 0].min())
    np.testing.assert_allclose(heights, 24.0 * wide, rtol=1e-6)
    assert overlaps(ax) == []


def test_moments_vectors_and_what_is_too_large() -> None:
    moments = RealMoments(torch.tensor([[0.0, 2.0, torch.nan]]), torch.tensor([[1.0, 4.0, 1.0]]))
    chart = interval_chart_of(moments, 0)
    assert chart is not None
    assert chart.caption == "mean, one sd to either side"
    np.testing.assert_allclose(
        chart.values[..., 0], [[-1, 0, np.nan], [0, 2, np.nan], [1, 4, np.nan]]
    )
    wide = RealMoments(torch.zeros(3, 5), torch.ones(3, 5))
    assert interval_chart_of(wide, None) is None
    assert interval_chart_of(RealMoments(torch.zeros(401), torch.ones(401)), None) is None
