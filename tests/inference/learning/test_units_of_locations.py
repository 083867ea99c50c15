"""Distributions with a location are fitted equally well in any units, by every learner."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor, nn
from torch import distributions as dist

import pgnn
from pgnn import EM, BayesianNetwork, Distributional, Gradient, Variable
from pgnn.errors import DataError
from pgnn.inference.learning.mean_ascent import MeanProblem, ascend

UNITS = (1e-6, 1e-4, 1.0, 1e4, 1e6)
KINDS: dict[str, tuple[type, Any]] = {
    "laplace": (dist.Laplace, stats.laplace),
    "gumbel": (dist.Gumbel, stats.gumbel_r),
    "cauchy": (dist.Cauchy, stats.cauchy),
    "student": (dist.StudentT, stats.t),
}
LEARNERS = {"default": None, "em": EM(), "gradient": Gradient()}


def sample(kind: str) -> np.ndarray:
    peer, shape = KINDS[kind][1], (4.0,) if kind == "student" else ()
    x: np.ndarray = peer.rvs(*shape, 1.0, 0.5, size=400, random_state=1)
    return x


def value(model: pgnn.Model, rows: dict[str, Any], unit: float, numbers: int) -> float:
    """The log-likelihood in the units of the sample."""
    return float(model.log_prob(rows).sum().detach()) + numbers * np.log(unit)


@pytest.mark.parametrize(
    ("by", "holes"), [("default", False), ("em", True), ("gradient", False), ("gradient", True)]
)
@pytest.mark.parametrize("kind", KINDS)
def test_the_maximum_is_found_in_any_units(kind: str, by: str, holes: bool) -> None:
    x = sample(kind)
    if holes:
        x = np.where(np.arange(len(x)) % 5 == 0, np.nan, x)
    known = x[~np.isnan(x)]
    make, peer = KINDS[kind]
    best = peer.logpdf(known, *peer.fit(known)).sum()
    for unit in UNITS:
        rows = {"x": x * unit}
        model = BayesianNetwork([], {"x": make})
        model.fit(rows, learner=LEARNERS[by], progress=False)
        assert value(model, rows, unit, len(known)) >= best - 1e-4


@pytest.mark.parametrize("by", ["default", "gradient"])
@pytest.mark.parametrize("unit", UNITS)
def test_triangular_scales_have_the_units_of_their_rows(by: str, unit: float) -> None:
    x = np.random.default_rng(1).standard_normal((300, 2)) @ [[1.0, 0.9], [0.0, 0.3]] + [1.0, -2.0]
    best = stats.multivariate_normal(x.mean(0), np.cov(x.T, bias=True)).logpdf(x).sum()
    rows = {"x": x * unit}
    model = BayesianNetwork([], {"x": dist.MultivariateNormal})
    model.fit(rows, learner=LEARNERS[by], progress=False)
    assert value(model, rows, unit, x.size) == pytest.approx(best, abs=1e-5)


@pytest.mark.parametrize("by", ["default", "gradient"])
@pytest.mark.parametrize("unit", [1e-6, 1e-3, 1e3, 1e6])
def test_a_given_start_of_another_size_is_left(by: str, unit: float) -> None:
    x = sample("laplace")
    best = stats.laplace.logpdf(x, *stats.laplace.fit(x)).sum()
    given = Distributional(Variable("x"), [], dist.Laplace, loc=0.0, scale=1.0)
    model = BayesianNetwork([], {"x": given})
    model.fit({"x": x * unit}, learner=LEARNERS[by], progress=False)
    assert value(model, {"x": x * unit}, unit, len(x)) >= best - 1e-4


@pytest.mark.parametrize("unit", [1e-6, 1e6])
def test_penalties_have_the_same_meaning_in_any_units(unit: float) -> None:
    x = sample("laplace") + 3.0  # far from zero, to which the penalty draws the location

    def fitted(size: float, l2: float) -> Tensor:
        given = Distributional(Variable("x"), [], dist.Gumbel)
        model = BayesianNetwork([], {"x": given})
        names = [n for n, _ in model.named_parameters() if n.endswith("loc")]
        model.fit({"x": x * size}, learner=Gradient(l2=dict.fromkeys(names, l2)), progress=False)
        assert names
        return model.conditionals["x"].values["loc"].detach() / size

    torch.testing.assert_close(fitted(unit, 0.1 / unit**2), fitted(1.0, 0.1), rtol=1e-4, atol=1e-4)
    assert fitted(1.0, 0.1) < fitted(1.0, 0.0) - 0.05


class Bounded(nn.Module):
    """A parameter with a mean that raises an error for negative numbers."""

    def __init__(self, start: float = 5.0, unit: float = 1.0) -> None:
        super().__init__()
        self.p, self.unit, self.refused = nn.Parameter(torch.tensor(start).double()), unit, 0

    def mean(self) -> Tensor:
        p = self.p * self.unit
        if p.item() <= 0.0:
            self.refused += 1
            raise ValueError("Expected parameter scale to be positive")
        return 0.1 * p.log() - p


@pytest.mark.parametrize("unit", [1.0, 20.0])
def test_invalid_steps_are_made_shorter(unit: float) -> None:
    model = Bounded(5.0 / unit, unit)
    found = ascend(MeanProblem.of(model, model.mean, "the scale"), 50)
    assert found.moved
    assert found.converged
    assert model.refused > 0
    assert model.p.item() * unit == pytest.approx(0.1, abs=1e-3)
    assert model.p.grad is None


def test_the_first_evaluation_may_not_be_invalid() -> None:
    model = Bounded(-1.0)
    with pytest.raises(ValueError, match="scale to be positive"):
        ascend(MeanProblem.of(model, model.mean, "the scale"), 50)
    with pytest.raises(DataError, match="probability zero under the initial parameters of the sca"):
        ascend(MeanProblem.of(model, lambda: model.p.log(), "the scale"), 50)
    assert model.p.item() == -1.0


def test_an_invalid_step_of_gradients_is_rejected() -> None:
    x = sample("gumbel") * 1e-6
    rows = {"x": np.where(np.arange(len(x)) % 5 == 0, np.nan, x)}
    given = Distributional(Variable("x"), [], dist.Gumbel, loc=0.0, scale=1e-3)
    model = BayesianNetwork([], {"x": given}).fit(rows, learner=Gradient(), progress=False)
    assert model.conditionals["x"].values["scale"].item() == pytest.approx(0.5e-6, rel=0.1)
