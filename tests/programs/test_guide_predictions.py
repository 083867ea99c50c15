"""Posterior predictive distributions by a fitted guide of a program."""

from __future__ import annotations

from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch

import pgnn

X = torch.linspace(0.0, 5.0, 20)
NEW = torch.tensor([10.0, 20.0])
ENGINE = pgnn.Variational(max_iterations=0, seed=0, progress=False)
MEAN, STD = 1.5, 0.25  # of the guide
TOTAL = (1.0 + STD**2) ** 0.5


def line(x: torch.Tensor, y: Any = None) -> None:
    shift = pyro.sample("shift", dist.Normal(0.0, 10.0))
    with pyro.plate("point", len(x)):
        pyro.sample("y", dist.Normal(shift + x, 1.0), obs=y)


def guide(x: torch.Tensor, y: Any = None) -> None:
    mean = pyro.param("mean", torch.tensor(MEAN))
    pyro.sample("shift", dist.Normal(mean, STD))


@pytest.fixture
def fitted() -> pgnn.Program:
    return pgnn.Program(line, guide=guide, args=(X, X + 1))


def _check(draws: torch.Tensor) -> None:
    """Check draws of ``y`` at the new inputs against the guide's predictive distribution."""
    assert draws.shape == (1000, 2)
    torch.testing.assert_close(draws.mean(0), NEW + MEAN, atol=0.15, rtol=0.0)
    torch.testing.assert_close(draws.std(0), torch.tensor([TOTAL, TOTAL]), atol=0.1, rtol=0.0)
    shared = torch.corrcoef(draws.T)[0, 1]  # both points have the same shift
    torch.testing.assert_close(shared, torch.tensor(STD**2 / TOTAL**2), atol=0.1, rtol=0.0)


def test_queries_at_new_inputs(fitted: pgnn.Program) -> None:
    new = fitted.with_arguments(NEW)
    answer = new.query("y", engine=ENGINE)
    _check(answer["y"].draws)
    element = new.query(("y", 1), engine=ENGINE)
    torch.testing.assert_close(element["y", 1].mean, answer["y"].mean[1])
    torch.testing.assert_close(new.query(engine=ENGINE)["y"].mean, answer["y"].mean)


def test_samples_at_new_inputs(fitted: pgnn.Program) -> None:
    new = fitted.with_arguments(NEW)
    _check(new.sample(1000, engine=ENGINE, seed=0)["y"])


def test_the_answer_has_samples(fitted: pgnn.Program) -> None:
    answer = fitted.query("shift", engine=ENGINE)
    samples = answer.samples
    torch.testing.assert_close(samples["shift"], answer["shift"].draws)
    drawn = fitted.with_arguments(NEW).sample(1, samples, seed=0)["y"]
    _check(drawn[0])


@pytest.mark.filterwarnings("ignore::pgnn.NotConverged")
def test_samples_of_rows_and_of_shared_latents() -> None:
    mean, value = pgnn.Variable("mean"), pgnn.Variable("value")
    model = pgnn.BayesianNetwork(
        [("mean", "value")],
        {
            "mean": pgnn.Gaussian(mean, mean=0.0, covariance=1.0),
            "value": pgnn.LinearGaussian(value, [mean], [1.0], 0.0, covariance=1.0),
        },
    )
    for shared in ((), ("mean",)):
        engine = pgnn.Variational(
            max_iterations=5, shared=shared, num_samples=7, seed=0, progress=False
        )
        answer = model.query("mean", {"value": torch.tensor([1.0, 2.0, 3.0])}, engine=engine)
        assert isinstance(answer.samples["mean"], torch.Tensor)
        assert answer.samples["mean"].shape == (7, 3)
        same = bool((answer.samples["mean"][:, 0] == answer.samples["mean"][:, 1]).all())
        assert same is bool(shared)
    one = model.query("mean", {"value": 1.0}, engine=engine)
    assert one.samples["mean"].shape == (7,)


def test_a_guide_without_a_hidden_site_says_so(fitted: pgnn.Program) -> None:
    new = fitted.with_arguments(NEW)
    with pytest.raises(pgnn.Unsupported, match="the guide has no site that is not observed"):
        new.query("y", {"shift": 1.0}, engine=ENGINE)
