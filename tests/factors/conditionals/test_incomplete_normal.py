"""Normal vectors with holes: all patterns at once against one row after the other."""

import numpy as np
import torch
from torch.distributions import MultivariateNormal

from pgnn.factors.conditionals import incomplete_normal
from pgnn.factors.conditionals.full_covariance import completions
from pgnn.factors.conditionals.incomplete_normal import expected_moments, log_density


def numbers() -> tuple[torch.Tensor, ...]:
    random = np.random.default_rng(0)
    x = random.normal(size=(40, 3))
    x[random.random(x.shape) < 0.4] = np.nan
    roots = random.normal(size=(2, 3, 3))
    matrices = roots @ roots.transpose(0, 2, 1) + 0.3 * np.eye(3)
    parts = x, random.random((40, 2)), random.normal(size=(2, 3)), matrices
    return tuple(torch.from_numpy(p) for p in parts)


def test_densities_are_those_of_what_was_observed(monkeypatch) -> None:
    x, _, mean, matrices = numbers()
    expected = torch.zeros(40, 2, dtype=torch.float64)
    for n, row in enumerate(x):
        observed = ~row.isnan()
        for k in range(2):
            if bool(observed.any()):
                own = MultivariateNormal(mean[k][observed], matrices[k][observed][:, observed])
                expected[n, k] = own.log_prob(row[observed])
    torch.testing.assert_close(log_density(x, mean, matrices), expected)
    monkeypatch.setattr(incomplete_normal, "_NUMBERS", 40)  # a few rows and patterns at a time
    torch.testing.assert_close(log_density(x, mean, matrices), expected)


def test_moments_are_the_expected_ones(monkeypatch) -> None:
    x, w, mean, matrices = numbers()
    for covariances in (matrices, matrices[:1]):  # one for each, or one for all
        first, second = torch.zeros(2, 3).double(), torch.zeros(2, 3, 3).double()
        for rows, filled, spread in completions(x, mean, covariances):
            own = w[rows]
            first += torch.einsum("nk,nkd->kd", own, filled)
            second += torch.einsum("nk,nki,nkj->kij", own, filled, filled)
            second += own.sum(0)[:, None, None] * spread
        for size in (2**20, 40):
            monkeypatch.setattr(incomplete_normal, "_NUMBERS", size)
            found = expected_moments(x, w, mean, covariances)
            torch.testing.assert_close(found[0], first)
            torch.testing.assert_close(found[1], second)
