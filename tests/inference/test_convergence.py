"""Rules by which results are called converged, and warnings of those that are not."""

import math
import warnings

import numpy as np
import pytest

from pgnn.errors import NotConverged
from pgnn.inference.convergence import Convergence, Trend


def test_nothing_doubtful_is_converged_and_silent():
    fit = Convergence("EM").few_draws([90.0], 100, "x")
    fit.chains_apart({"a": 1.001}, "x").include(None)
    assert fit.converged
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fit.warn()


@pytest.mark.parametrize(
    ("doubt", "text"),
    [
        (lambda c: c.stopped(7, "raise it"), "EM: stopped after 7 iterations, .*; raise it"),
        (lambda c: c.no_progress(3.0, "scale"), "no step improves the parameters.* 3; scale"),
        (
            lambda c: c.few_draws([1.2, 80.0], 100, "more"),
            "equivalent to 1.2 .* in 1 of 2 rows.*; more",
        ),
        (
            lambda c: c.few_draws(1.0, 100, "more"),
            "100 draws are equivalent to 1 independent ones, too",
        ),
        (lambda c: c.chains_apart({"a": 1.3, "b": 1.0}, "longer"), r"about 'a' \(1.30\), R-hat"),
        (lambda c: c.chains_apart({"a": math.nan}, "longer"), r"about 'a' \(nan\)"),
        (lambda c: c.chains_apart({"a": 1.3}, "longer"), r"the chains disagree about 'a'"),
        (
            lambda c: c.chains_apart({"a": 1.3}, "longer", chains=1),
            r"EM: the halves of the chain disagree about 'a' \(1.30\), R-hat above",
        ),
    ],
)
def test_what_is_doubtful_is_said(doubt, text):
    fit = Convergence("EM")
    doubt(fit)
    assert not fit.converged
    with pytest.warns(NotConverged, match=text):
        fit.warn()


def test_advice_is_told_apart_and_once():
    fit = Convergence("EM").add("a").include(NotConverged("b", "raise it")).stopped(3, "raise it")
    with pytest.warns(NotConverged) as caught:
        fit.warn()
    told = caught[0].message
    assert isinstance(told, NotConverged)
    assert told.reason == "EM: a; b; stopped after 3 iterations, before it converged"
    assert (told.advice, told.method) == ("raise it", "EM")


def test_rows_without_an_answer_and_single_draws_are_not_doubted():
    assert Convergence("X").few_draws([math.nan], 100, "more").converged
    assert Convergence("X").few_draws([1.0], 1, "more").converged


@pytest.mark.parametrize("offset", [0.0, -5e9, 1e6])
@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e6])
def test_trends_do_not_depend_on_units(offset, scale):
    """A constant added, or another unit, changes nothing about what is at rest."""
    noise = np.tile(np.random.default_rng(0).normal(size=200), 2)
    still, rising = noise, noise + 0.05 * np.arange(400)
    tolerance, largest = 1e-4 * scale, 0.2 * scale
    for values, rests in ((still, True), (rising, False)):
        trend = Trend.of((offset + scale * values).tolist(), 200)
        assert trend.at_rest(tolerance, largest) is rests
        assert trend.rises(tolerance) is not rests


def test_noise_that_hides_a_rise_is_no_rest():
    values = np.random.default_rng(1).normal(size=200)
    trend = Trend.of(values.tolist(), 100)
    assert trend.error == pytest.approx(math.sqrt(2 / 100), rel=0.2)
    assert not trend.at_rest(0.0, noise=0.01)
    assert not trend.rises(0.0)


def test_rows_that_did_not_converge_are_counted() -> None:
    judged = Convergence("BeliefPropagation").rows_not_converged([True, False, False], "raise it")
    assert judged.concerns == ["2 of 3 rows did not converge"]
    assert judged.advice == ["raise it"]
    assert Convergence("MeanField").rows_not_converged([True, True], "raise it").converged
