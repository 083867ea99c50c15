"""Moments and diagnostics of draws of which some have no value, or an infinite one."""

import numpy as np
import torch

from pgnn.inference.continuous.real_posterior import RealMarginal
from pgnn.inference.rank_diagnostics import rank_effective_sample_size, rank_r_hat


def draws() -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).normal(size=(2, 50, 2)))


def test_the_variance_needs_two_values() -> None:
    x = draws()
    x[:, :, 0] = torch.nan
    absent, whole = RealMarginal(x).variance
    assert absent.isnan()
    assert RealMarginal(x).std[0].isnan()
    torch.testing.assert_close(whole, x[:, :, 1].var())
    x[0, 0, 0] = 3.0
    assert RealMarginal(x).variance[0].isnan()
    x[0, 1, 0] = 5.0
    assert RealMarginal(x).variance[0].item() == 2.0


def test_infinite_draws_keep_their_ranks() -> None:
    x = draws()
    x[0, 3, 0] = torch.inf
    marginal, large = RealMarginal(x), x.clone()
    large[0, 3, 0] = 1e300
    assert marginal.effective_sample_size[0].item() == rank_effective_sample_size(large.numpy())[0]
    assert marginal.r_hat[0].item() == rank_r_hat(large.numpy())[0]
    assert marginal.standard_error[0].isnan()
    assert marginal.standard_error[1].isfinite()


def test_diagnostics_of_absent_values_are_absent() -> None:
    x = draws()
    x[1, 2, 0] = torch.nan
    marginal = RealMarginal(x)
    for found in (marginal.r_hat, marginal.effective_sample_size, marginal.standard_error):
        assert found.isnan().tolist() == [True, False]
