"""Fits of conditionals without a closed form: their maxima, and what is said short of them."""

import warnings
from collections.abc import Hashable
from typing import Any

import numpy as np
import pytest
import torch
from torch import distributions as dist

import pgnn
from pgnn import EM, BayesianNetwork, Gradient, MaximumLikelihood, NotConverged
from pgnn.factors.conditionals.logistic import Logistic
from pgnn.factors.variable import Variable
from pgnn.inference.learning.conditional_fit import fit_terms
from pgnn.inference.learning.term import Term


def labelled(n: int = 300) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(n, 2))
    slope = np.array([2.0, -1.0])
    return {"a": x[:, 0], "b": x[:, 1], "y": (rng.random(n) < 1 / (1 + np.exp(-x @ slope))) * 1}


def test_a_fit_of_rows_that_stopped_early_is_said() -> None:
    whole = pgnn.LogisticRegression("y").fit(labelled(), learner=MaximumLikelihood())
    assert whole.history["converged"]
    early = pgnn.LogisticRegression("y")
    with pytest.warns(
        NotConverged, match=r"^MaximumLikelihood: stopped after 1 iterations, with .* for 'y'"
    ):
        early.fit(labelled(), learner=MaximumLikelihood(max_iterations=1))
    assert early.history["converged"] is False
    assert early.history["log_likelihood"] < whole.history["log_likelihood"] - 1.0


def test_closed_forms_have_converged() -> None:
    model = BayesianNetwork([], {"x": pgnn.Gaussian}).fit({"x": [1.0, 2.0]})
    assert model.history["converged"] is True
    counted = BayesianNetwork([], states={"x": 2}).fit({"x": [0, 1]})
    assert counted.history["converged"] is True


@pytest.mark.parametrize("learner", [None, EM(), Gradient()])
@pytest.mark.parametrize("x", [[1.0, 2.0, 3.0, 4.0, 10.0], [3.0, 3.0, 4.0], [1.0, 2.0, 5.0, 9.0]])
def test_the_maximum_may_be_at_a_kink(x: list[float], learner: Any) -> None:
    """The location of a Laplace distribution is the median, where the derivative jumps."""
    model = BayesianNetwork([], {"x": dist.Laplace})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.fit({"x": x}, learner=learner, progress=False)
    scale = np.abs(np.array(x) - np.median(x)).mean()
    assert model.history["log_likelihood"] == pytest.approx(
        -len(x) * (np.log(2.0 * scale) + 1.0), abs=1e-5
    )
    assert model.history["converged"]


def test_a_step_short_of_the_maximum_is_a_step() -> None:
    rows: dict[Hashable, Any] = {n: torch.as_tensor(x) for n, x in labelled().items()}
    y, a, b = Variable("y", 2), Variable("a"), Variable("b")
    piece = Logistic(y, [a, b])
    term = Term(piece, rows, {}, torch.ones(300).double())
    before = float(term.value().detach())
    step = fit_terms([term], None, 2)
    assert (step.moved, step.converged, step.iterations) == (True, False, 2)
    assert float(term.value().detach()) > before
    assert fit_terms([term], None, 100).converged
