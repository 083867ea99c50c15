"""Estimates carry their standard errors."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch

import pgnn
from pgnn.errors import NotConverged
from tests.plot.test_network import overlaps, words

BAR = 44.0
"""Length of the bar of a certain state in points."""


@pytest.fixture(scope="module")
def network() -> pgnn.BayesianNetwork:
    tables = {
        "a": [0.4, 0.6],
        "b": [[0.7, 0.3], [0.2, 0.8]],
        "c": [[0.6, 0.4], [0.3, 0.7]],
    }
    return pgnn.BayesianNetwork([("a", "b"), ("b", "c")], tables)


@pytest.mark.parametrize(
    "engine",
    [pgnn.ImportanceSampling(300, seed=0), pgnn.Gibbs(samples=400, seed=0, progress=False)],
    ids=["weighted", "chains"],
)
def test_whiskers_are_two_standard_errors_to_either_side(
    network: pgnn.BayesianNetwork, engine: pgnn.inference.Engine
) -> None:
    posterior = network.query(evidence={"c": 1}, engine=engine)
    ax = posterior.plot()
    assert "whisker: two standard errors to either side" in words(ax)
    (lines,) = [c for c in ax.collections if c.get_zorder() == 4.5]
    segments = [s for s in lines.get_segments() if s[0][1] == s[1][1]]
    lengths = [float(s[1][0] - s[0][0]) / BAR for s in segments]
    errors = posterior.diagnostics["standard_error"]
    wide = [4.0 * float(e) for n in ("a", "b") for e in errors[n]]
    assert min(wide) > 0.001
    assert lengths == pytest.approx(wide)  # observed states have none
    assert overlaps(ax) == []


def test_whiskers_end_at_zero_and_one() -> None:
    bar = pgnn.plot.network.__globals__["Bar"]("yes", 0.99, error=0.02)
    assert bar.whisker == pytest.approx((0.95, 1.0))
    assert pgnn.plot.network.__globals__["Bar"]("yes", 0.99, error=1e-9).whisker is None
    assert pgnn.plot.network.__globals__["Bar"]("yes", 0.99, error=float("nan")).whisker is None


def test_rows_and_elements_have_errors_of_their_own() -> None:
    field = pgnn.MarkovRandomField.grid((2, 3), 2, coupling=0.5, name="pixel")
    rows = {("pixel", 0, 0): [1, 0]}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotConverged)
        posterior = field.query([("pixel", 1, 2)], rows, engine=pgnn.Gibbs(samples=300, seed=0))
    errors = posterior.diagnostics["standard_error"]["pixel"]
    assert errors.shape == (2, 2, 3, 2)
    for row in (0, 1):
        ax = posterior.plot(row=row)
        assert words(ax)[0] == "pixel[1, 2]"
        (lines,) = [c for c in ax.collections if c.get_zorder() == 4.5]
        start, end = lines.get_segments()[0]
        assert (end[0] - start[0]) / BAR == pytest.approx(4.0 * float(errors[row, 1, 2, 0]))
    assert errors[:, 0, 0].abs().max() == 0.0


def test_exact_answers_have_no_whiskers_and_draws_tell_the_error_of_their_mean(
    network: pgnn.BayesianNetwork,
) -> None:
    assert not any(w.startswith("whisker") for w in words(network.query().plot()))
    program = pgnn.Program(_measured)
    found = program.query(engine=pgnn.ExecutionSampling(500, seed=0))
    marginal = found["x"]
    text = f"mean {float(marginal.mean):.4g} (se {float(marginal.standard_error):.2g}), "
    assert any(w.startswith(text) for w in words(found.plot()))


def _measured() -> None:
    import pyro
    import pyro.distributions as dist

    x = pyro.sample("x", dist.Normal(0.0, 1.0))
    pyro.sample("y", dist.Normal(x, 1.0), obs=torch.tensor(1.0))


def test_marginals_of_continuous_chains_have_errors() -> None:
    def mixture() -> None:
        import pyro
        import pyro.distributions as dist

        z = pyro.sample("z", dist.Bernoulli(torch.tensor(0.3)))
        x = pyro.sample("x", dist.Normal(0.0, 1.0))
        pyro.sample("y", dist.Normal(x + 2.0 * z, 1.0), obs=torch.tensor(1.5))

    engine = pgnn.MCMC(chains=2, warmup=100, samples=200, seed=0, progress=False)
    found = pgnn.Program(mixture).query(engine=engine)
    errors = found.diagnostics["standard_error"]["z"]
    # y given z is normal with mean 2 z and variance 2
    weights = np.array([0.7, 0.3]) * np.exp([-(1.5**2) / 4.0, -(0.5**2) / 4.0])
    off = np.abs(found.probs("z").numpy() - weights / weights.sum())
    assert 0.0 < float(errors[0]) < 0.05
    assert (off < 4.5 * errors.numpy()).all()
    (lines,) = [c for c in found.plot().collections if c.get_zorder() == 4.5]
    start, end = lines.get_segments()[0]
    assert (end[0] - start[0]) / BAR == pytest.approx(4.0 * float(errors[0]))
    short = pgnn.MCMC(chains=150, warmup=10, samples=4, seed=0, progress=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotConverged)
        answer = pgnn.Program(mixture).query(engine=short)
    assert bool(answer.diagnostics["standard_error"]["z"].isnan().all())
    assert not any(w.startswith("whisker") for w in words(answer.plot()))


def test_errors_of_chains_shrink_with_their_length(network: pgnn.BayesianNetwork) -> None:
    means = []
    for samples in (200, 3200):
        engine = pgnn.Gibbs(samples=samples, seed=0, progress=False)
        found = network.query("a", {"c": 1}, engine=engine)
        means.append(float(np.mean(found.diagnostics["standard_error"]["a"].numpy())))
    assert 2.0 < means[0] / means[1] < 8.0  # a factor of four
