"""Torch distributions whose given parameters are far from the data reach the maximum of SciPy."""

import functools
import warnings
from typing import Any

import numpy as np
import pytest
import scipy.stats
import torch
from torch import distributions

import pgnn
from pgnn.factors.conditionals.distributional import Distributional

FAMILIES: dict[str, Any] = {
    "Gumbel": scipy.stats.gumbel_r,
    "Laplace": scipy.stats.laplace,
    "Cauchy": scipy.stats.cauchy,
    "Normal": scipy.stats.norm,
    "StudentT": scipy.stats.t,
}
LEARNERS = [pgnn.MaximumLikelihood(), pgnn.Gradient(), pgnn.EM()]


def drawn(name: str, size: int = 200) -> np.ndarray:
    shape = [4.0] if name == "StudentT" else []
    return FAMILIES[name].rvs(*shape, 1.0, 0.7, size=size, random_state=np.random.default_rng(0))


def network(name: str, **given: Any) -> pgnn.BayesianNetwork:
    given = given | ({"df": 5.0} if name == "StudentT" else {})
    piece = Distributional(pgnn.Variable("x"), [], getattr(distributions, name), **given)
    return pgnn.BayesianNetwork([], {"x": piece})


@pytest.mark.parametrize("learner", LEARNERS, ids=["likelihood", "gradient", "em"])
@pytest.mark.parametrize("given", [(1e3, 1.0), (-1e3, 1.0), (1e3, None), (1.0, 1e-3)])
@pytest.mark.parametrize("name", FAMILIES)
def test_fits_from_far_away_end_at_the_maximum(name: str, given: Any, learner: Any) -> None:
    x = drawn(name)
    scale = {} if given[1] is None else {"scale": given[1]}
    model = network(name, loc=given[0], **scale).fit({"x": x}, learner=learner, progress=False)
    best = FAMILIES[name].logpdf(x, *FAMILIES[name].fit(x)).sum()
    found = {n: float(v.detach()) for n, v in model.conditionals["x"].values.items()}
    order = ["df", "loc", "scale"] if name == "StudentT" else ["loc", "scale"]
    reached = FAMILIES[name].logpdf(x, *(found[n] for n in order)).sum()
    assert reached >= best - 1e-3
    assert model.history["log_likelihood"] == pytest.approx(reached, abs=1e-6)


def test_each_configuration_of_parents_begins_where_it_is_likelier() -> None:
    k = np.repeat([0, 1], 100)
    x = np.where(k == 1, drawn("Gumbel") + 50.0, drawn("Gumbel"))
    states, child = pgnn.Variable("k", 2), pgnn.Variable("x")
    for locations in ([1e3, 50.5], [1.0, -1e3], [1e3, 1e3]):
        piece = Distributional(
            child, [states], distributions.Gumbel, loc=locations, scale=[1.0, 1.0]
        )
        model = pgnn.BayesianNetwork([("k", "x")], {"x": piece})
        model.fit({"k": k, "x": x}, progress=False)
        for state in range(2):
            expected = scipy.stats.gumbel_r.fit(x[k == state])
            found = [p[state].item() for p in (piece.values["loc"], piece.values["scale"])]
            assert found == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("learner", [pgnn.Gradient(), pgnn.EM()], ids=["gradient", "em"])
def test_given_components_stay_apart(learner: Any) -> None:
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.normal(0.0, 1.0, 150), rng.normal(20.0, 1.0, 150)])
    normal = functools.partial(
        Distributional, make=distributions.Normal, loc=[-3.0, 30.0], scale=[3.0, 3.0]
    )
    model = pgnn.Mixture(2, {"x": lambda child, parents: normal(child, parents)})
    model.fit({"x": x}, learner=learner, progress=False)
    assert model.conditionals["x"].values["loc"].tolist() == pytest.approx([0.0, 20.0], abs=0.3)


def test_better_numbers_than_moments_are_kept() -> None:
    x = drawn("StudentT")
    model = network("StudentT", loc=1.0, scale=0.7).fit({"x": x}, progress=False)
    piece = model.conditionals["x"]
    before = {n: p.detach().clone() for n, p in piece.unconstrained.items()}
    rows, weights = torch.from_numpy(x), torch.ones(len(x)).double()
    for values in ({"x": rows}, {"x": torch.full_like(rows, torch.nan)}, {}):
        piece.start_nearer(values, weights)
        assert all(p.equal(before[n]) for n, p in piece.unconstrained.items())
    fixed = network("Normal", loc=1e3, scale=1.0)
    fixed.conditionals["x"].unconstrained["loc"].requires_grad_(False)
    fixed.fit({"x": x}, progress=False)
    assert fixed.conditionals["x"].values["loc"].item() == 1e3
    assert fixed.conditionals["x"].values["scale"].item() == pytest.approx(999.0, rel=1e-3)


def test_values_that_are_all_equal_start_nowhere_else() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        piece = network("Normal", loc=3.0, scale=1.0).conditionals["x"]
        piece.start_nearer({"x": torch.full((5,), 3.0).double()}, torch.ones(5).double())
    assert piece.values["scale"].item() == 1.0
