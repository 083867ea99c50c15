"""Eight schools by NUTS: the example runs, and agrees with Pyro's own NUTS."""

from __future__ import annotations

import importlib
from pathlib import Path

import numpy as np
import pyro
import pytest
import torch

import pgnn
from pgnn.inference.diagnostics import standard_error
from pgnn.inference.rank_diagnostics import rank_effective_sample_size

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"


@pytest.fixture
def example(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("MPLBACKEND", "Agg")
    monkeypatch.syspath_prepend(str(EXAMPLES))
    return importlib.import_module("eight_schools")


def test_eight_schools(example, tmp_path: Path) -> None:
    found = example.main(["--out", str(tmp_path)], samples=200)
    assert (tmp_path / "eight_schools.png").stat().st_size > 10_000
    assert found["divergences, centred"] > found["divergences, non-centred"]
    assert found["size, centred"] < found["size, non-centred"]
    assert 3.4 < found["mu, non-centred"] < 5.4
    assert 3.0 < found["tau, non-centred"] < 4.2


def grid(example) -> tuple[float, float]:
    """Means of mu and tau on a grid, the schools integrated out."""
    from torch.distributions import HalfCauchy, Normal

    mu = torch.linspace(-30, 40, 701).double()[:, None, None]
    tau = torch.linspace(1e-3, 150, 6001).double()[None, :, None]
    spread = (tau**2 + example.ERROR**2).sqrt()
    joint = Normal(mu, spread).log_prob(example.EFFECT).sum(dim=-1)
    joint = joint + Normal(0.0, 5.0).log_prob(mu[..., 0]) + HalfCauchy(5.0).log_prob(tau[..., 0])
    weight = (joint - joint.max()).exp()
    weight = weight / weight.sum()
    return float((weight * mu[..., 0]).sum()), float((weight * tau[..., 0]).sum())


def test_agrees_with_a_grid_and_with_pyro(example) -> None:
    import pyro.distributions as dist
    from pyro.infer import MCMC, NUTS

    def program() -> None:
        mu = pyro.sample("mu", dist.Normal(torch.tensor(0.0).double(), 5.0))
        tau = pyro.sample("tau", dist.HalfCauchy(torch.tensor(5.0).double()))
        with pyro.plate("schools", 8):
            z = pyro.sample("z", dist.Normal(torch.zeros(8).double(), 1.0))
            pyro.sample("y", dist.Normal(mu + tau * z, example.ERROR), obs=example.EFFECT)

    engine = pgnn.MCMC(seed=3, warmup=300, samples=1000, target_accept=0.9, progress=False)
    posterior = example.schools(centred=False).query(evidence={"y": example.EFFECT}, engine=engine)
    with torch.random.fork_rng(devices=[]):
        pyro.set_rng_seed(0)
        theirs = MCMC(NUTS(program), num_samples=200, warmup_steps=100, disable_progbar=True)
        theirs.run()
        drawn = {n: x.numpy()[None] for n, x in theirs.get_samples().items()}
    pyro.clear_param_store()
    for name, truth in zip(("mu", "tau"), grid(example), strict=True):
        ours = posterior[name]
        # 4.5 standard errors of the difference: once in 100,000 times by chance
        assert abs(float(ours.mean) - truth) < 4.5 * float(ours.standard_error)
        error = np.hypot(standard_error(drawn[name]), float(ours.standard_error))
        assert abs(drawn[name].mean() - float(ours.mean)) < 4.5 * error
    assert rank_effective_sample_size(posterior["mu"].samples.numpy()) > 1000
